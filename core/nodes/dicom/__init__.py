"""The node kind "dicom": application entities by DIMSE (PS3.4, PS3.7, PS3.8)."""

from core.nodes.dicom.kind import DicomKind
from core.nodes.registry import register

register(DicomKind())
