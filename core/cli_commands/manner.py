"""How this process was asked to speak."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Manner:
    """`debug` shows tracebacks and writes the detailed log."""

    debug: bool = False


manner = Manner()
