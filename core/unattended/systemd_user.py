"""The unattended engine as a systemd unit of one person: on that person's home, with that person's keyring."""

from __future__ import annotations

import os
from pathlib import Path

from core.home import default_folder
from core.unattended.commands import answer, run
from core.unattended.layout import UNIT, cant_write, need, write_file
from core.unattended.place import SERVICE
from core.unattended.units import user_unit_text


def user_unit() -> Path:
    """Where it lies."""
    base = os.environ.get("XDG_CONFIG_HOME", "").strip() or str(Path.home() / ".config")
    return Path(base) / "systemd" / "user" / UNIT


def install() -> list[str]:
    """Write the unit of this person and start it; needs no root.

    Raises
    ------
    ConfigurationError
    LocalError
    """
    need("systemctl", "This computer is not run by systemd.")
    path = user_unit()
    try:
        write_file(path, user_unit_text(), 0o644)
    except OSError as error:
        raise cant_write(error) from error
    done = [f"Wrote {path}; the home is {default_folder().absolute()}."]
    if _user_manager():
        run(["systemctl", "--user", "daemon-reload"])
        run(["systemctl", "--user", "enable", UNIT])
        run(["systemctl", "--user", "restart", UNIT])
        done.append("It runs, and starts when you log in.")
    else:
        done.append(f"Log in on the desktop and start it there: systemctl --user enable --now {SERVICE}")
    done.append(
        "To have it run while you are logged out: loginctl enable-linger. Your keyring is locked then: give passwords "
        "as credentials (systemctl --user edit), or install the engine for the computer."
    )
    return done


def remove() -> list[str]:
    path = user_unit()
    if not path.exists():
        return ["Nothing was installed."]
    if _user_manager():
        run(["systemctl", "--user", "disable", "--now", UNIT])
    try:
        path.unlink()
    except OSError as error:
        raise cant_write(error) from error
    return [f"Removed {path}. Nodes, jobs and records stay."]


def status() -> list[str]:
    path = user_unit()
    if not path.exists():
        return ["You have installed no unattended engine."]
    if not _user_manager():
        return [f"{path} is installed. No systemd of yours runs now."]
    return [
        f"{path} is installed.",
        f"systemd says: {answer(['systemctl', '--user', 'is-active', UNIT]) or 'unknown'}.",
    ]


def _user_manager() -> bool:
    return (Path(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere") / "systemd" / "private").exists()
