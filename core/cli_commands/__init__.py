"""The command line's commands, one file for each group; `core.cli` puts them together."""
