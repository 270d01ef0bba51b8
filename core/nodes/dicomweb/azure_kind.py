"""The node kind "azure": a DICOMweb node preset for the DICOM service of Azure Health Data Services."""

from __future__ import annotations

from typing import ClassVar

from core.model.node import NodeFields
from core.nodes.base import Node, OpenContext
from core.nodes.dicomweb.azure_fields import AzureFields
from core.nodes.dicomweb.azure_node import AzureAccess, AzureNode
from core.nodes.dicomweb.kind import DicomwebKind, open_node, tokens_of


class AzureKind(DicomwebKind):
    """The DICOM service of Azure Health Data Services."""

    name: ClassVar[str] = "azure"
    title: ClassVar[str] = "Azure DICOM service"
    summary: ClassVar[str] = (
        "The DICOM service of Azure Health Data Services, with a client ID and secret of its tenant."
    )
    Fields: ClassVar[type[NodeFields]] = AzureFields

    def open(self, fields: NodeFields, context: OpenContext) -> Node:
        assert isinstance(fields, AzureFields)
        return open_node(fields, context, tokens_of(fields, context), access=AzureAccess, node=AzureNode)

    def derived(self, fields: NodeFields) -> tuple[tuple[str, str], ...]:
        assert isinstance(fields, AzureFields)
        return (
            ("Address", fields.url),
            ("Token from", fields.oauth_url),
            ("Token for", fields.scope.removesuffix("/.default")),
        )
