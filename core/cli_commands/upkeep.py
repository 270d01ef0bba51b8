"""`dicom-ferry report | demo | self-test | support-bundle | engine`."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
