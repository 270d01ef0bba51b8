"""Alembic's migrations of the ledger, shipped with the program."""
