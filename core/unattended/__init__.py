"""The unattended engine: its place, its account's secrets, and how the system starts and stops it."""
