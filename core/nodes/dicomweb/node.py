"""The DICOMweb node: all its capabilities together."""

from __future__ import annotations

from core.nodes.dicomweb.compare import DicomwebCompare
from core.nodes.dicomweb.confirm import DicomwebConfirm
from core.nodes.dicomweb.diagnosis import DicomwebDiagnosis
from core.nodes.dicomweb.inventory import DicomwebInventory
from core.nodes.dicomweb.store import DicomwebStore


class DicomwebNode(DicomwebDiagnosis, DicomwebInventory, DicomwebStore, DicomwebConfirm, DicomwebCompare):
    """`Diagnose`, `Inventory`, `Read`, `ReadAhead`, `Write`, `WriteMany`, `Confirm`, `CompareByFetching`, `Delete`."""
