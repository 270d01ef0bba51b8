"""Tags of an image before and after processing steps, as a table."""

from __future__ import annotations

from core.model.step_preview import TagRow, TagState
from gui.models.keyed import Field
from gui.theme import Tone

STATE_WORDS: dict[TagState, tuple[str, Tone]] = {
    TagState.CHANGED: ("Changed", Tone.AMBER),
    TagState.ADDED: ("Added", Tone.GREEN),
    TagState.REMOVED: ("Removed", Tone.RED),
    TagState.SAME: ("", Tone.GREY),
}
_LEVEL = "    "


def _tag(row: TagRow) -> str:
    """The tag's own number, further to the right the deeper it lies."""
    return _LEVEL * row.level + row.path.rsplit(".", 1)[-1]


FIELDS: tuple[Field[TagRow], ...] = (
    Field("", lambda r: STATE_WORDS[r.state][0], tone=lambda r: STATE_WORDS[r.state][1]),
    Field("Tag", _tag, tip=lambda r: f"{r.path} {r.vr}"),
    Field("Name", lambda r: r.name, tip=lambda r: r.name),
    Field("Before", lambda r: r.before, tip=lambda r: r.before or None),
    Field("After", lambda r: r.after, tip=lambda r: r.after or None),
)


def as_text(row: TagRow) -> str:
    """A row to be copied."""
    return "\t".join((row.path, row.name, STATE_WORDS[row.state][0], row.before, row.after))
