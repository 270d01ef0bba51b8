"""Processing steps: what is done to each instance on its way, one kind a file."""
