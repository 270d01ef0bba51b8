"""File systems of a chosen size or none to write on, for one process each; they are gone when it ends."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.servers import required_program


def own_disk(folder: Path, options: str) -> tuple[str, ...]:
    """The words before a command that give it a new, empty file system at `folder`.

    Parameters
    ----------
    options
        Of mount for a tmpfs: "ro", or "size=1m".
    """
    mount = f'mount -t tmpfs -o {options} tmpfs "{folder}" && exec "$@"'
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)
    return (required_program("unshare"), "--mount", *as_root, "sh", "-c", mount, "sh")
