"""DICOMweb services (PS3.18), and what is a preset of them."""

from core.nodes.dicomweb.azure_kind import AzureKind
from core.nodes.dicomweb.kind import DicomwebKind
from core.nodes.registry import register

register(DicomwebKind())
register(AzureKind())
