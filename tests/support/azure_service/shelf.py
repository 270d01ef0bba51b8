"""What the service holds: one file an instance in a folder, and an index of what can be searched for."""

from __future__ import annotations

import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pydicom.charset
import pydicom.datadict
from pydicom.dataset import Dataset

STUDY, SERIES, SOP = "0020000D", "0020000E", "00080018"
UID = re.compile(r"[A-Za-z0-9.\-]{1,64}")

# What is returned and searched for at each level (conformance statement, "Search").
STUDY_TAGS = ("00080020", "00080050", "00081030", "00080090", "00100010", "00100020", "00100030", STUDY)
SERIES_TAGS = ("00080060", "00081090", SERIES, "00400244")
INSTANCE_TAGS = (SOP,)
MORE_STUDY_TAGS = ("00080005", "00080030", "00080201", "00100040", "00101010", "00200010")
MORE_SERIES_TAGS = ("00080005", "00080201", "00200011", "00080021", "00080031", "0008103E")
MORE_INSTANCE_TAGS = ("00080005", "00080016", "00080201", "00200013", "00280010", "00280011", "00280100", "00280008")
INDEXED = frozenset(STUDY_TAGS + SERIES_TAGS + INSTANCE_TAGS + MORE_STUDY_TAGS + MORE_SERIES_TAGS + MORE_INSTANCE_TAGS)

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """A stored instance: where, in which encoding, its searchable attributes (DICOM JSON), and when it came."""

    key: Key
    path: Path
    syntax: str
    attributes: dict[str, Any]
    since: float

    def first(self, tag: str) -> str:
        """The first value as text; empty where there is none."""
        values = self.attributes.get(tag, {}).get("Value") or [""]
        value = values[0]
        return str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value)


def text(head: Dataset, keyword: str) -> str:
    """A value as it stands in the file, so that a wrong one is no error here."""
    if keyword not in head:
        return ""
    value = head.get_item(keyword).value
    if isinstance(value, bytes):
        encodings = pydicom.charset.convert_encodings(_character_sets(head))
        value = pydicom.charset.decode_bytes(value, encodings, set())
    return str(value or "").rstrip("\0 ")


def indexed(head: Dataset) -> dict[str, Any]:
    """What can be searched for, in the DICOM JSON Model (PS3.18 Annex F)."""
    found: dict[str, Any] = {}
    for tag in INDEXED:
        keyword = pydicom.datadict.keyword_for_tag(tag)
        if keyword not in head:
            continue
        vr = pydicom.datadict.dictionary_VR(tag)
        if vr == "US":
            value = head.get_item(keyword).value
            numbers = [int.from_bytes(value[:2], "little")] if isinstance(value, bytes) else [int(value)]
            found[tag] = {"vr": vr, "Value": numbers}
            continue
        values: list[Any] = [one.strip() for one in text(head, keyword).split("\\")]
        if vr == "PN":
            values = [{"Alphabetic": one.partition("=")[0]} for one in values]
        elif vr == "IS":
            values = [int(one) for one in values if one.lstrip("+-").isdigit()]
        found[tag] = {"vr": vr, "Value": values} if any(values) else {"vr": vr}
    return found


def _character_sets(head: Dataset) -> list[str]:
    if "SpecificCharacterSet" not in head:
        return [""]
    value = head.get_item("SpecificCharacterSet").value
    plain = (
        value.decode("ascii", "replace")
        if isinstance(value, bytes)
        else "\\".join([value] if isinstance(value, str) else value)
    )
    return [one.strip() for one in plain.rstrip("\0 ").split("\\")]


class Shelf:
    """Files below one folder. Thread-safe.

    Attributes
    ----------
    index_delay : float
        Seconds by the clock until what was stored can be searched for.
    arrivals : Counter[str]
        How often each SOP Instance UID came whole, stored anew or there already.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.index_delay = 0.0
        self.arrivals: Counter[str] = Counter()
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[Key, Held] = {}
        self._pending: set[Key] = set()
        self._count = 0
        (folder / "incoming").mkdir(parents=True, exist_ok=True)

    def new_file(self) -> Path:
        """A path for what is being received."""
        with self._lock:
            self._count += 1
            return self.folder / "incoming" / f"{self._count}"

    def begin(self, key: Key) -> int:
        """Start to create an instance: 0, or why not (45070, 45071)."""
        with self._lock:
            self.arrivals[key[2]] += 1
            if key in self._held:
                return 45070
            if key in self._pending:
                return 45071
            self._pending.add(key)
            return 0

    def keep(self, key: Key, incoming: Path, syntax: str, attributes: dict[str, Any]) -> None:
        """Finish what `begin` started."""
        path = self.folder.joinpath(*key[:2], f"{key[2]}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming.replace(path)
        with self._lock:
            self._pending.discard(key)
            self._held[key] = Held(key, path, syntax, attributes, self._clock())

    def stall(self, key: Key) -> None:
        """As if an earlier attempt to create this instance had not been cleaned up yet."""
        with self._lock:
            self._pending.add(key)

    def recover(self) -> None:
        """Everything that was stalled is cleaned up."""
        with self._lock:
            self._pending.clear()

    def find(self, *key: str, searched: bool = False) -> list[Held]:
        """All instances whose key begins so, in the order they came; `searched`: those that the index knows."""
        now = self._clock()
        with self._lock:
            return [
                held
                for held in self._held.values()
                if held.key[: len(key)] == key and (not searched or now >= held.since + self.index_delay)
            ]

    def delete(self, *key: str) -> int:
        """How many instances went."""
        with self._lock:
            gone = [held for held in self._held.values() if held.key[: len(key)] == key]
            gone_pending = [k for k in self._pending if k[: len(key)] == key]
            for held in gone:
                del self._held[held.key]
                held.path.unlink()
            self._pending.difference_update(gone_pending)
            return len(gone) + len(gone_pending)

    def files(self) -> Iterator[Path]:
        return (held.path for held in self.find())

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
