"""Forward: from several sources to several destinations, once or continuously, keeping or moving."""

from __future__ import annotations

from typing import ClassVar

from core.jobs.forwarding import Forwarding, ForwardingFields
from core.jobs.registry import register
from core.model.job import TransferFields


class ForwardFields(ForwardingFields):
    """Fields of a forward."""


class Forward(Forwarding):
    """Sends what matches, with proof for every image."""

    name = "forward"
    title = "Forward"
    summary = "Send studies to one or more destinations, once or whenever new ones arrive; keep or move them."
    icon = "forward"
    Fields: ClassVar[type[TransferFields]] = ForwardFields


register(Forward())
