"""The DICOMweb node: all its capabilities together."""

from __future__ import annotations

from core.nodes.dicomweb.compare import DicomwebCompare
from core.nodes.dicomweb.confirm import DicomwebConfirm
from core.nodes.dicomweb.inventory import DicomwebInventory
from core.nodes.dicomweb.store import DicomwebStore


class DicomwebNode(DicomwebInventory, DicomwebStore, DicomwebConfirm, DicomwebCompare):
    """`Inventory`, `Read`, `Write`, `WriteMany`, `Confirm`, `CompareByFetching` and `Delete` of a DICOMweb service."""
