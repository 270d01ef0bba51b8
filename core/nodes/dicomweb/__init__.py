"""DICOMweb services (PS3.18)."""

from core.nodes.dicomweb.kind import DicomwebKind
from core.nodes.registry import register

register(DicomwebKind())
