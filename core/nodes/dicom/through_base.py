"""What all parts of a DICOM node share that is reached through another node: that node, and the questions by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from core.model.errors import FerryError, NotSupportedError
from core.model.outcome import Failure
from core.nodes.base import Node, OpenContext
from core.nodes.dicom import asking
from core.nodes.dicom.asking import Ask, DicomFind
from core.nodes.dicom.fields import DicomFields, term
from core.nodes.intermediary import BeyondError, RemoteEntity
from core.wire.abort import Abort
from core.wire.dimse.association import Association, Proposed
from core.wire.dimse.peer import Peer
from core.wire.dimse.status import dimse_failure
from core.wire.found import MOST_ANSWERS, Answer, Found

MOVE_TIMEOUT = 600.0  # seconds of silence: many nodes say nothing until the whole of a C-MOVE has been done


class ThroughBase(DicomFind):
    """Base of the capabilities of a DICOM node that another node talks to in our place.

    Attributes
    ----------
    via : Node
        The node between, opened for this one alone.
    entity : RemoteEntity
        This node as that one reaches it.
    """

    def __init__(self, fields: DicomFields, peer: Peer, context: OpenContext, via: Node, entity: RemoteEntity) -> None:
        super().__init__(fields, peer, context)
        self.via = via
        self.entity = entity

    @contextmanager
    def associate(
        self, contexts: Sequence[Proposed], *, peer: Peer | None = None, abort: Abort | None = None
    ) -> Iterator[Association]:
        """Never: nothing here talks to the node itself."""
        raise NotSupportedError(
            f"“{self.name}” is reached through “{self.via.name}” only, which can't do this.",
            "Register the node once more without “Reached through” for it.",
        )
        yield  # pragma: no cover - makes it a generator

    @contextmanager
    def asking(self, abort: Abort | None = None) -> Iterator[Ask]:
        yield lambda keys: self._bounded(self.ask(keys, most=asking.MOST_LISTED, abort=abort))

    def ask(
        self,
        keys: Mapping[str, str],
        *,
        most: int = MOST_ANSWERS,
        keep: Callable[[Answer], bool] = lambda answer: True,
        abort: Abort | None = None,
    ) -> Found:
        """One question, which the node between puts; counted against this node's limit of associations."""
        with self.limit.take(abort=abort):
            return self.entity.find(
                keys,
                most=most,
                keep=keep,
                character_set=term(self.fields.character_set),
                timeout=self.fields.answer_timeout,
                abort=abort,
            )

    def probe(self) -> None:
        """C-ECHO by the node between; raises that node's own errors too."""
        with self.limit.take():
            self.entity.echo(timeout=self.fields.association_timeout)

    def close(self) -> None:
        self.entity.close()
        super().close()
        self.via.close()

    def failure(self, error: FerryError, side: str) -> Failure:
        """Of the node between where it failed itself: its sentences name it, and what they advise is about it."""
        if isinstance(error, BeyondError) or f"“{self.name}”" in error.sentence:
            return dimse_failure(error, side=side, node=self.name)
        return self.via.failure(error, side)
