"""What a DICOM node takes, as a table: kinds of image, and the families of encodings for each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.model.diagnosis import Profile

#: Columns, by the transfer syntaxes that make them up (PS3.6 Table A-1); all others are in the last one.
_FAMILIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Uncompressed", "Uncompressed, little endian", ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")),
    ("RLE", "RLE lossless", ("1.2.840.10008.1.2.5",)),
    ("JPEG, lossy", "JPEG, lossy", ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")),
    ("JPEG, lossless", "JPEG, lossless", ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")),
    ("JPEG-LS", "JPEG-LS", ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")),
    ("JPEG 2000", "JPEG 2000", ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")),
    (
        "HTJ2K",
        "High-throughput JPEG 2000",
        ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),
    ),
    (
        "Video",
        "MPEG-2, MPEG-4 and HEVC",
        tuple(
            f"1.2.840.10008.1.2.4.{n}"
            for n in (*range(100, 109), "100.1", "101.1", "102.1", "103.1", "104.1", "105.1", "106.1")
        ),
    ),
)
_OTHERS = ("Others", "All other encodings: big endian, deflated and such")


class Cover(StrEnum):
    """How much of a family of encodings is taken."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Family:
    """A column: a short title, and what it stands for."""

    title: str
    meaning: str


@dataclass(frozen=True, slots=True)
class AcceptedKind:
    """A row: a SOP class, and for each family how much of it is taken, with the names of what is."""

    uid: str
    name: str
    covers: tuple[Cover, ...]
    encodings: tuple[tuple[str, ...], ...]

    @property
    def is_taken(self) -> bool:
        return any(cover is not Cover.NONE for cover in self.covers)


@dataclass(frozen=True, slots=True)
class AcceptedTable:
    """All rows, those that are taken first, and of these the more usual ones; `text` is the whole for a message."""

    families: tuple[Family, ...]
    kinds: tuple[AcceptedKind, ...]
    text: str

    @property
    def taken(self) -> int:
        return sum(kind.is_taken for kind in self.kinds)


def accepted_table(profile: Profile) -> AcceptedTable | None:
    """The table of a profile; None where it was not found out what the node takes."""
    groups = profile.accepted
    if not groups:
        return None
    # Imported here: it takes pynetdicom's lists, a third of a second that a start without such a node is spared.
    from core.nodes.dicom.profile import text
    from core.wire.dimse.sop_classes import STORAGE_CLASSES, SYNTAXES, name_of

    in_family = {uid: at for at, (_, _, members) in enumerate(_FAMILIES) for uid in members}
    offered = [[s for s in SYNTAXES if in_family.get(s, len(_FAMILIES)) == at] for at in range(len(_FAMILIES) + 1)]
    kinds = []
    for group in groups:
        encodings = tuple(tuple(s for s in members if s in group.transfer_syntaxes) for members in offered)
        covers = tuple(
            Cover.NONE if not found else Cover.ALL if len(found) == len(members) else Cover.SOME
            for found, members in zip(encodings, offered, strict=True)
        )
        names = tuple(tuple(name_of(s) for s in found) for found in encodings)
        kinds += [AcceptedKind(uid, name_of(uid).replace(" Storage", ""), covers, names) for uid in group.sop_classes]
    usual = {uid: at for at, uid in enumerate(STORAGE_CLASSES)}
    kinds.sort(key=lambda kind: (not kind.is_taken, usual.get(kind.uid, len(usual))))
    families = (*(Family(title, meaning) for title, meaning, _ in _FAMILIES), Family(*_OTHERS))
    return AcceptedTable(families, tuple(kinds), text(groups))
