"""What kinds of node that keep images as files on this computer share."""
