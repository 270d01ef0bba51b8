"""The texts of the systemd units: for the computer, and for a person."""

from __future__ import annotations

import string
from importlib.resources import files
from pathlib import Path

from core.home import default_folder
from core.unattended.layout import Choice
from core.unattended.place import machine_folder
from core.unattended.program import program


def unit_text(choice: Choice, home: Path | None = None, command: tuple[str, ...] | None = None) -> str:
    """The unit as it is written."""
    home = machine_folder() if home is None else home
    words = program() if command is None else command
    seen = [*choice.folders, Path(words[0])]
    values = {
        "command": _command(words),
        "account": choice.account,
        "group": choice.group or choice.account,
        "home": str(home),
        "state": home.name,
        "mode": "2770" if choice.group else "0700",
        "umask": "0007" if choice.group else "0077",
        "protect_home": "read-only" if any(map(_in_homes, seen)) else "yes",
        "restrict_setgid": "no" if choice.group else "yes",
        "folders": "".join(f"ReadWritePaths={_quoted('-' + str(folder))}\n" for folder in choice.folders),
    }
    return _template("dicom-ferry.service").substitute(values)


def user_unit_text(command: tuple[str, ...] | None = None) -> str:
    """The unit of this person, on the home that this process would use."""
    words = program() if command is None else command
    values = {"command": _command(words), "home": _quoted(str(default_folder().absolute()))}
    return _template("dicom-ferry-user.service").substitute(values)


def _template(name: str) -> string.Template:
    return string.Template(files("resources").joinpath("service", name).read_text(encoding="utf-8"))


def _command(words: tuple[str, ...]) -> str:
    """For ExecStart, where a $ begins a variable."""
    return " ".join(_quoted(word.replace("$", "$$")) for word in words)


def _quoted(word: str) -> str:
    """A word as systemd.syntax(7) reads it back; % begins a specifier there."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(c.isspace() or c in "\"'\\;" for c in word) else escaped


def _in_homes(path: Path) -> bool:
    return any(path.is_relative_to(top) for top in ("/home", "/root", "/run/user"))
