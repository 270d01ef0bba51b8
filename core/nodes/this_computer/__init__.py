"""The node kind "this-computer": a DICOM node of this computer's own, with a store."""

from core.nodes.registry import register
from core.nodes.this_computer.kind import ThisComputerKind

register(ThisComputerKind())
