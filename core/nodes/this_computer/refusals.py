"""The callers that were turned away last, kept in a small file: whoever looks can let them in."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from core.model import held_file
from core.nodes.this_computer.callers import plain_address

log = logging.getLogger(__name__)

MOST = 10  # callers that are remembered: strangers cause them
_PAUSE = 1.0  # seconds between two writes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A caller that was turned away: under which AE title, from where, why, and when last (seconds since 1970)."""

    aet: str
    address: str
    why: str
    at: float


class Refusals:
    """The last of them, by AE title and address. Thread-safe; a file that can't be written costs no caller anything."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], Refusal] = {(r.aet, r.address): r for r in read_refusals(file)}
        self._written = 0.0

    def note(self, aet: str, address: str, why: str) -> None:
        """Remember one; what comes within a second of another is written with the next one."""
        shown = "".join(c for c in aet[:16] if " " <= c <= "~").strip()
        where = str(plain_address(address))
        with self._lock:
            self._last.pop((shown, where), None)
            self._last[shown, where] = Refusal(shown, where, why, time.time())
            while len(self._last) > MOST:
                del self._last[next(iter(self._last))]
            if time.monotonic() - self._written < _PAUSE:
                return
            self._written = time.monotonic()
            try:
                self._write()
            except OSError as error:
                log.debug("the callers that were turned away can't be kept: %r", error)

    def _write(self) -> None:
        part = self._file.with_suffix(".part")
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        held_file.unlink(part, missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            json.dump([asdict(one) for one in self._last.values()], out)
        held_file.replace(part, self._file)


def read_refusals(file: Path) -> list[Refusal]:
    """Those that a file tells of, the last one last; none where there is no such file or it can't be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return [Refusal(str(r["aet"]), str(r["address"]), str(r["why"]), float(r["at"])) for r in found][-MOST:]
    except (OSError, ValueError, KeyError, TypeError):
        return []
