"""The DICOMweb node: all its capabilities together."""

from __future__ import annotations

from core.nodes.dicomweb.compare import DicomwebCompare
from core.nodes.dicomweb.diagnosis import DicomwebDiagnosis
from core.nodes.dicomweb.follow import DicomwebFollow
from core.nodes.dicomweb.identity import DicomwebIdentity
from core.nodes.dicomweb.store import DicomwebStore


class DicomwebNode(DicomwebDiagnosis, DicomwebFollow, DicomwebStore, DicomwebIdentity, DicomwebCompare):
    """`Diagnose`, `Inventory`, `Follow`, `Read`, `ReadAhead`, `Write`, `WriteMany`, `Confirm`, `CompareByFetching`,
    `Delete` and `Identity`."""
