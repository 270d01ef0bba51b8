"""Orthanc servers by their REST API."""

from core.nodes.orthanc.kind import OrthancKind
from core.nodes.registry import register

register(OrthancKind())
