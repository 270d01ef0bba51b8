"""The node kind "folder": a folder, share or ZIP file as source and destination."""

from __future__ import annotations

from core.model.loading import load_pydicom
from core.model.node import NodeFields
from core.nodes.base import Node, NodeKind, OpenContext
from core.nodes.folder.fields import FolderFields, Layout


class FolderKind(NodeKind):
    name = "folder"
    title = "Folder"
    summary = "A folder on this computer, a share, or a ZIP file."
    icon = "folder"
    Fields = FolderFields

    def open(self, fields: NodeFields, context: OpenContext) -> Node:
        load_pydicom()
        from core.nodes.folder.node import FolderNode  # with it pydicom: a third of a second of every start

        assert isinstance(fields, FolderFields)
        return FolderNode(fields, context.name)

    def address(self, fields: NodeFields) -> str:
        assert isinstance(fields, FolderFields)
        path = fields.path
        return path if len(path) <= 60 else f"{path[:20]}…{path[-39:]}"

    def warnings(self, fields: NodeFields, *, has_secret: bool) -> list[str]:
        assert isinstance(fields, FolderFields)
        found = []
        if fields.is_zip:
            found.append("Nothing can be deleted from a ZIP file: it can't be the source of a move.")
            if fields.layout is Layout.DICOMDIR and fields.dicomdir:
                found.append("A DICOMDIR is kept in folders only; the ZIP file gets the short names without it.")
        return found
