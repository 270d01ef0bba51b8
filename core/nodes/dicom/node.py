"""The DICOM node: all its capabilities together."""

from __future__ import annotations

from core.nodes.dicom.commit import DicomCommit
from core.nodes.dicom.compare import DicomCompare
from core.nodes.dicom.confirm import DicomConfirm
from core.nodes.dicom.diagnosis import DicomDiagnosis
from core.nodes.dicom.inventory import DicomInventory
from core.nodes.dicom.push import DicomPush
from core.nodes.dicom.store import DicomStore


class DicomNode(DicomDiagnosis, DicomInventory, DicomConfirm, DicomCommit, DicomCompare, DicomStore, DicomPush):
    """`Diagnose`, `Inventory`, `Read`, `Write`, `Confirm`, `CompareByFetching`, `Commit`, `Push` and `Dimse` of an
    application entity, by DIMSE."""
