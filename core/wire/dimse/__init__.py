"""DIMSE on sockets of our own: associations, messages, and what their answers mean (PS3.7, PS3.8)."""
