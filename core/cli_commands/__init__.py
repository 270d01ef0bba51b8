"""The command line's commands, one file for each group; `program` puts them together."""
