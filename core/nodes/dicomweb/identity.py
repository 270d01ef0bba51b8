"""Whether two DICOMweb nodes are one service under two addresses: `Identity`."""

from __future__ import annotations

from core.model.errors import FerryError
from core.model.study import StudyInfo
from core.nodes.base import Node
from core.nodes.dicomweb.confirm import DicomwebConfirm

_LOOKED_AT = 200  # studies


class DicomwebIdentity(DicomwebConfirm):
    """`Identity` of a DICOMweb service: the protocol has no marks, so what one has and the other lacks tells."""

    def same_storage(self, other: Node, study: StudyInfo) -> bool:
        """False where `other` said that it lacks images of this study, or either lacks a study of the other.

        Raises
        ------
        FerryError
            It can't be told: both hold the same, as far as was looked.
        """
        if self.place == other.place:
            return True
        if not isinstance(other, DicomwebConfirm) or study.study_uid in other.lacked:
            return False
        ours, theirs = some_studies(self), some_studies(other)
        if any(not has_study(other, uid) for uid in ours - theirs):
            return False
        if any(not has_study(self, uid) for uid in theirs - ours):
            return False
        raise FerryError(
            f"It can't be told whether “{other.name}” is the same service as “{self.name}”: both hold the same.",
            "Keep the images at the source, or delete them there by hand once you know that these are two services.",
            code="identity-untold",
        )


def some_studies(node: DicomwebConfirm) -> set[str]:
    """Study Instance UIDs of the first studies that a service lists."""
    found: set[str] = set()
    for study in node.listed({"QueryRetrieveLevel": "STUDY"}):
        found.add(study.get("StudyInstanceUID", ""))
        if len(found) >= _LOOKED_AT:
            break
    return found - {""}


def has_study(node: DicomwebConfirm, uid: str) -> bool:
    """False only where the service surely lacks it."""
    found = node.ask({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid})
    return bool(found.answers) or not found.whole
