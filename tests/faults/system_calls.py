"""What a process wrote, synced and sent, in order, from a recording by strace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import required_program

_BEGUN = re.compile(r"^(\d+) +(\w+)\((\d+)<([^>]*)>(?:, \"((?:\\x[0-9a-f]{2})*)\")?")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
_SYNCS = ("fsync", "fdatasync")


@dataclass(frozen=True)
class Call:
    """A write or send as it begins, or a sync as it ends.

    Attributes
    ----------
    name : str
        Of the system call.
    target : str
        The file's path, or "socket:[number]".
    data : bytes
        The start of what was written.
    """

    name: str
    target: str
    data: bytes

    @property
    def is_sync(self) -> bool:
        return self.name in _SYNCS


def recorder(output: Path) -> tuple[str, ...]:
    """The words before a command that record its writes, syncs and sends."""
    calls = "write,writev,pwrite64,pwritev,fsync,fdatasync,sendto,sendmsg,sendfile"
    return (required_program("strace"), "-f", "-y", "-xx", "-s", "4200", "-e", f"trace={calls}", "-e", "signal=none",
            "-o", str(output))  # fmt: skip


def recorded(output: Path) -> Iterator[Call]:
    """The calls of all threads in their order; a sync appears where it ended, everything else where it began."""
    unfinished: dict[str, Call] = {}
    with output.open() as lines:
        for line in lines:
            if resumed := _RESUMED.match(line):
                call = unfinished.pop(resumed[1], None)
                if call is not None:
                    assert line.rstrip().endswith("= 0"), f"a sync failed: {line}"
                    yield call
            elif begun := _BEGUN.match(line):
                path = bytes.fromhex(begun[4].replace("\\x", "")).decode() if "\\x" in begun[4] else begun[4]
                call = Call(begun[2], path, bytes.fromhex((begun[5] or "").replace("\\x", "")))
                if not call.is_sync:
                    yield call
                elif line.rstrip().endswith("<unfinished ...>"):
                    unfinished[begun[1]] = call
                else:
                    assert line.rstrip().endswith("= 0"), f"a sync failed: {line}"
                    yield call
