"""What steps would make of one image, tag by tag, for the window and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TagState(StrEnum):
    """What steps did to a tag."""

    SAME = "same"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag before and after.

    Attributes
    ----------
    path : str
        "(0010,0010)", within sequences with the items on the way: "(0040,0275)[1].(0040,0007)".
    name : str
        The standard's name of the tag.
    vr : str
        Value representation.
    before, after : str
        As text; empty where it is empty or not there. What is no text is told by its size.
    level : int
        How deep it lies in sequences; 0 for the image's own.
    """

    path: str
    name: str
    vr: str
    before: str
    after: str
    state: TagState
    level: int = 0

    @property
    def is_uid(self) -> bool:
        return self.vr == "UI"


@dataclass(frozen=True, slots=True)
class StepsPreview:
    """What became of one image; nothing was sent.

    Attributes
    ----------
    study_uid, series_uid, sop_uid : str
        The image that was looked at.
    title : str
        Which image that is, for a person who may know.
    rows : tuple[TagRow, ...]
        In the order of the tags; all of them, whether changed or not.
    done : tuple[str, ...]
        Each step by its title, with what it did.
    failure : str
        Why a step failed, so that the image would not be sent; `rows` show it unchanged then.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    title: str
    rows: tuple[TagRow, ...]
    done: tuple[str, ...]
    failure: str = ""

    @property
    def changes(self) -> tuple[TagRow, ...]:
        return tuple(row for row in self.rows if row.state is not TagState.SAME)
