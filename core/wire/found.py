"""The answers to one question (C-FIND, QIDO-RS), and how the list of them ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.model.errors import FerryError

Answer = Mapping[str, str]
"""One match: keyword → text of each element that was in the answer; several values are separated by backslashes."""

MOST_ANSWERS = 20_000
"""A longer list is broken off and asked for in parts, so that no server's whole archive is held in memory."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answers to one question.

    Attributes
    ----------
    answers : list[Answer]
    failure : FerryError | None
        Why the list may lack some: what the peer said, or how the association broke; None where it ended well.
    broken_off : bool
        There were more than wanted, so we ended it.
    count : int
        Number of answers that came, those included that were not to be kept.
    whole : bool
        The peer was seen to have no more: asked for what comes after the last answer, it gave nothing.
    """

    answers: list[Answer]
    failure: FerryError | None = None
    broken_off: bool = False
    count: int = 0
    whole: bool = False

    @property
    def ended_well(self) -> bool:
        """Whether the peer said that this was all. Some say so and leave out what is above a limit of theirs."""
        return self.failure is None and not self.broken_off
