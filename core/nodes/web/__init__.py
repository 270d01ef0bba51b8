"""What the kinds of nodes that are reached by HTTP share: their fields, and how these become a pool of connections."""
