"""Asking an Orthanc what it holds, and what it says about it: `Confirm` and `Compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.holdings import expected_id, holdings
from core.wire.http import Abort

# What changes when a file is only encoded anew (PS3.5 annex A, PS3.3 C.7.6.3). The attributes
# of lossy compression (0028,2110 and following) are not among them: they tell of a loss.
_ENCODING = frozenset(
    {
        "0028,0004",  # Photometric Interpretation
        "0028,0006",  # Planar Configuration
        "7fe0,0001",  # Extended Offset Table
        "7fe0,0002",  # Extended Offset Table Lengths
        "7fe0,0003",  # Encapsulated Pixel Data Value Total Length
        "7fe0,0008",  # Float Pixel Data
        "7fe0,0009",  # Double Float Pixel Data
        "7fe0,0010",  # Pixel Data
        "fffc,fffc",  # Data Set Trailing Padding
    }
)


class OrthancConfirm(OrthancBase):
    """`Confirm` and `Compare` of an Orthanc."""

    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        """Each `Holding.digest` is of the file as the server gives it out, compressed on its disk or not."""
        return holdings(self.rest, study, instances, abort=abort)

    @property
    def gives_digests(self) -> bool:
        """False once the server was seen to keep none (``StoreMD5ForAttachments`` off)."""
        return self.rest.keeps_digests is not False

    @property
    def digests_in_bulk(self) -> bool:
        return self.rest.capabilities().extended_find

    def attributes(self, study: StudyInfo, instance: InstanceRef) -> Mapping[str, str] | None:
        """All attributes by tag ("0010,0010"), sequences as their JSON; without pixels and encoding.

        ``GET /instances/{id}/tags?short``. None when the instance isn't there.
        """
        for held in holdings(self.rest, study, [instance]):
            if held.presence is not Presence.PRESENT:
                return None
            path = f"/instances/{held.ref or expected_id(study, instance)}/tags?short"
            answer = self.rest.fetch("GET", path)
            if self.rest.says_absent(path, answer):
                return None
            found = self.rest.parsed(path, answer)
            if not isinstance(found, dict):
                self.rest.unexpected(path, "not the tags of an instance")
            return {tag.lower(): as_text(value) for tag, value in found.items() if not _is_encoding(tag.lower())}
        return None


def _is_encoding(tag: str) -> bool:
    return tag in _ENCODING or tag.startswith("0002,") or tag.endswith(",0000")


def as_text(value: object) -> str:
    """A value of ``tags?short`` as text: sequences and empty ones too, in one order."""
    if isinstance(value, str):
        return value.strip(" \0")
    if value is None:
        return ""
    if isinstance(value, list):
        return "[" + ",".join(as_text(item) for item in value) + "]"
    if isinstance(value, dict):
        inner = (f"{tag.lower()}={as_text(value[tag])}" for tag in sorted(value, key=str.lower))
        return "{" + ";".join(inner) + "}"
    return str(value)
