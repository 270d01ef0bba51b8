"""Lines of the log, newest first; equal ones are one line with a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.model.events import LogLevel, LogLine
from gui import words
from gui.models.keyed import Field, KeyedModel
from gui.theme import Tone

LEVEL_WORDS = {
    LogLevel.INFO: ("Info", Tone.GREY),
    LogLevel.WARNING: ("Warning", Tone.AMBER),
    LogLevel.ERROR: ("Error", Tone.RED),
}
KEPT = 5000


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line and how often it came; `line` is its last."""

    line: LogLine
    count: int = 1

    @property
    def key(self) -> tuple[str, str, str, int | None]:
        return (self.line.level.value, self.line.text, self.line.node, self.line.job_id)


def _text(entry: LogEntry) -> str:
    return f"{entry.line.text} ({words.count(entry.count)} ×)" if entry.count > 1 else entry.line.text


FIELDS: tuple[Field[LogEntry], ...] = (
    Field("When", lambda e: words.stamp(e.line.at), tip=lambda e: words.exact(e.line.at)),
    Field("Level", lambda e: LEVEL_WORDS[e.line.level][0], tone=lambda e: LEVEL_WORDS[e.line.level][1]),
    Field("What", _text, tip=_text),
    Field("Node", lambda e: e.line.node),
)
LEVEL_COLUMN, WHAT_COLUMN = 1, 2


class LogModel(KeyedModel[LogEntry]):
    def __init__(self) -> None:
        super().__init__(lambda e: e.key, FIELDS)
        self._by_key: dict[tuple[str, str, str, int | None], LogEntry] = {}
        self._seen: set[int] = set()

    def take(self, lines: Sequence[LogLine]) -> None:
        """Add lines; what came before is counted up and moves to the top."""
        fresh = sorted((x for x in lines if x.id not in self._seen), key=lambda x: x.id)
        if not fresh:
            return
        touched: dict[tuple[str, str, str, int | None], LogEntry] = {}
        for line in fresh:
            self._seen.add(line.id)
            entry = LogEntry(line)
            before = touched.pop(entry.key, None) or self._by_key.get(entry.key)
            if before is not None:
                newest = line if line.id > before.line.id else before.line
                entry = replace(before, line=newest, count=before.count + 1)
            touched[entry.key] = entry
        for key in touched:
            if key in self._by_key:
                at = self.row_of(key)
                if at is not None:
                    self.remove(at)
        self._by_key.update(touched)
        for entry in sorted(touched.values(), key=lambda e: e.line.id):
            at = 0
            while at < len(self._rows) and self._rows[at].line.id > entry.line.id:
                at += 1
            self.insert(at, [entry])
        while len(self._rows) > KEPT:
            self._by_key.pop(self._rows[-1].key, None)
            self.remove(len(self._rows) - 1)
