"""A DICOM node that is reached through another node of ours, which knows it and talks to it in our place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from core.model.errors import ConfigurationError
from core.model.study import InstanceRef, Listing, StudyInfo, StudyQuery
from core.nodes.base import Acknowledgement, Body, DicomAddress, OpenContext, StudyListing
from core.nodes.dicom.commit import DicomCommit
from core.nodes.dicom.compare import DicomCompare
from core.nodes.dicom.confirm import DicomConfirm
from core.nodes.dicom.fields import DicomFields
from core.nodes.dicom.inventory import DicomInventory
from core.nodes.dicom.store import DicomStore
from core.nodes.dicom.through_base import ThroughBase
from core.nodes.dicom.through_diagnosis import ThroughDiagnosis
from core.nodes.dicom.through_push import ThroughPush
from core.nodes.dicom.through_retrieve import ThroughRetrieve
from core.nodes.intermediary import Intermediary
from core.wire.abort import Abort
from core.wire.dimse.commitment import CommitmentReport
from core.wire.dimse.peer import Peer
from core.wire.dimse.store import StoreAnswer

_FAR_LETTER = "\u738b"  # in no character set of one byte


class ThroughInventory(ThroughBase, DicomInventory):
    """`Inventory`, which vouches for a search by a name only where the node between hands on all its letters."""

    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> StudyListing:
        listing = super().studies(query, abort=abort)
        texts = "".join((query.patient_id, query.patient_name, query.accession, query.description))
        if "?" in texts or not texts.isascii():
            any_letters = texts.replace("?", _FAR_LETTER)  # a letter that is left out is no letter for a “?”
            if self.entity.loses_letters(any_letters):
                return _Doubted(
                    listing, f"“{self.via.name}” leaves letters out of names that are not in its character set"
                )
        return listing


class _Doubted:
    """A listing that may lack some of what was asked for (`StudyListing`)."""

    def __init__(self, listing: StudyListing, reason: str) -> None:
        self._listing = listing
        self._reason = reason

    def __iter__(self) -> Iterator[StudyInfo]:
        return iter(self._listing)

    @property
    def outcome(self) -> Listing:
        found = self._listing.outcome
        reasons = " ".join(text for text in (found.reason, f"{self._reason}: studies may be missing.") if text)
        return replace(found, complete=False, reason=reasons)


class ThroughStore(ThroughBase, DicomStore):
    """`Write`: the node between sends what it is given, and keeps no copy of it."""

    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        """One association for each image, and no warnings: the node between tells only that it was stored.

        Raises
        ------
        AnswerError
            ``store-…`` by the status; ``association-no-context`` where the node takes no such images.
        TransportError
            No answer, of either node.
        """
        with self.limit.take(abort=abort):
            status = self.entity.store(instance.sop_uid, body, timeout=self.fields.answer_timeout, abort=abort)
        return self._acknowledgement(instance, StoreAnswer(status, f"told by {self.via.name}"))


class ThroughCommit(ThroughBase, DicomCommit):
    """`Commit`: the node between asks and is reported to, so that the DICOM node need not call this computer."""

    def _report(self, instances: Sequence[tuple[str, str]], abort: Abort | None) -> CommitmentReport:
        references = [(sop_class, sop_uid) for sop_uid, sop_class in instances]
        with self.limit.take(abort=abort):
            transaction = self.entity.ask_commitment(references, abort=abort)
        reasons = self.entity.commitment(transaction, timeout=self.fields.commitment_timeout, abort=abort)
        committed = frozenset(uid for uid, reason in reasons.items() if not reason)
        return CommitmentReport(transaction, committed, {uid: reason for uid, reason in reasons.items() if reason})


class ThroughNode(
    ThroughDiagnosis,
    ThroughInventory,
    ThroughRetrieve,
    ThroughPush,
    ThroughStore,
    ThroughCommit,
    DicomConfirm,
    DicomCompare,
):
    """`Diagnose`, `Inventory`, `Read`, `Write`, `Confirm`, `CompareByFetching`, `Commit`, `Push`, `PushResume` and
    `Dimse` of an application entity, by another node's DIMSE."""


def open_through(fields: DicomFields, peer: Peer, context: OpenContext) -> ThroughNode:
    """Open both nodes, without talking to either yet.

    Raises
    ------
    ConfigurationError
        The node between can't be opened, or can't talk to others in our place.
    """
    if context.node is None:
        raise ConfigurationError(
            f"“{context.name}” is reached through “{fields.through}”, and no other node can be opened here.",
            "Register both nodes, then use this one by its name.",
            code="through",
        )
    try:
        via = context.node(fields.through)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"“{context.name}” is reached through “{fields.through}”, which can't be used: {error.sentence}",
            error.next_step or "Correct “Reached through” (--through) of this node.",
            detail=error.detail,
            code="through",
        ) from error
    if not isinstance(via, Intermediary):
        via.close()
        raise ConfigurationError(
            f"“{context.name}” is to be reached through “{fields.through}”, which can't talk to DICOM nodes for us.",
            "Choose an Orthanc node for “Reached through” (--through), or leave it empty.",
            code="through",
        )
    address = DicomAddress(fields.aet, fields.host, fields.port)
    entity = via.entity(address, node=context.name, known_as=fields.known_as)
    return ThroughNode(fields, peer, context, via, entity)
