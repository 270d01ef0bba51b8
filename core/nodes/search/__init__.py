"""Searching a node that may leave answers out: questions, answers, and lists that are whole or say they are not."""
