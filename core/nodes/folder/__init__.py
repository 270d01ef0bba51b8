"""The node kind "folder"; importing it registers it."""

from core.nodes.folder import kind as kind
