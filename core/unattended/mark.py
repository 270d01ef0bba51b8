"""The mark of a home that belongs to an unattended engine: under which account that runs, and who else may."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MARK = "unattended.json"


@dataclass(frozen=True, slots=True)
class Unattended:
    """Whose home it is.

    Attributes
    ----------
    account : str
        The account under which the engine runs.
    group : str
        Members of this group may read and write the home; empty: the account alone.
    """

    account: str
    group: str = ""


def read_mark(folder: Path) -> Unattended | None:
    """The mark of a home; None where it is a person's own.

    Raises
    ------
    OSError
        It is there and can't be read.
    ValueError
        It is damaged.
    """
    try:
        text = (folder / MARK).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    values = json.loads(text)
    if not isinstance(values, dict) or not isinstance(values.get("account"), str):
        raise ValueError(f"{MARK} is damaged")
    return Unattended(values["account"], str(values.get("group") or ""))


def mark_text(unattended: Unattended) -> str:
    """What the file holds."""
    return json.dumps({"account": unattended.account, "group": unattended.group}, ensure_ascii=False) + "\n"


def is_shared(path: Path) -> bool:
    """Whether `path` lies in a home that a group may use."""
    for folder in (path, *path.parents):
        try:
            mark = read_mark(folder)
        except (OSError, ValueError):
            continue
        if mark is not None:
            return bool(mark.group)
    return False
