"""The DICOM node: all its capabilities together."""

from __future__ import annotations

from core.nodes.dicom.commit import DicomCommit
from core.nodes.dicom.confirm import DicomConfirm
from core.nodes.dicom.inventory import DicomInventory
from core.nodes.dicom.store import DicomStore


class DicomNode(DicomInventory, DicomStore, DicomConfirm, DicomCommit):
    """`Inventory`, `Write`, `Confirm`, `Commit` and `Dimse` of an application entity, by DIMSE."""
