"""The DICOMweb node: all its capabilities together."""

from __future__ import annotations

from core.nodes.dicomweb.base import DicomwebBase


class DicomwebNode(DicomwebBase):
    """A DICOMweb service."""
