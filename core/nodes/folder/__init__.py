"""The node kind "folder": a folder on this computer, a share, or a ZIP file."""

from core.nodes.folder.kind import FolderKind
from core.nodes.registry import register

register(FolderKind())
