"""What follows once a study is done: deleting at the source under "move", labels."""

from __future__ import annotations

import socket
from collections.abc import Callable

from core.engine.changing import sent_ref
from core.engine.gate import Gate
from core.engine.others import LOOK_AGAIN, Others
from core.engine.retry import WHOLE_NODE, delay_after
from core.jobs.base import TransferOptions
from core.ledger.ledger import Ledger
from core.ledger.rows import Deletable
from core.model import clock
from core.model.errors import FerryError, LedgerError
from core.model.events import LogLevel
from core.model.job import After
from core.model.outcome import Counts, EvidenceLevel, SourceState
from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.base import Confirm, Delete, DeleteState, Dimse, Extras, Identity, Intake, Label, Node
from core.wire.http import Abort

BATCH = 50
PROOF_LASTS = 600.0  # seconds after which a destination is asked again before anything is deleted
CHANGED_ON_THE_WAY = "It changed at the source while it was sent: the destinations hold different content."
LOST = (
    "A destination no longer holds what it had confirmed. Start the job again: it looks anew and sends what is missing."
)
NOT_COMPARED = (
    "A destination held it before, and tells nothing of it but its UID: whether it is the same image is not known. "
    "Compare both with a viewer, then delete it by hand."
)
KEPT_STATES = {
    DeleteState.CHANGED: "it has changed since it was confirmed, or may have",
    DeleteState.REFUSED: "the source refused",
}


class _AtGate(Exception):  # noqa: N818 - carries an error, is none of its own
    """Wraps an error that another node than the source has made."""

    def __init__(self, gate: Gate, error: FerryError) -> None:
        super().__init__(str(error))
        self.gate = gate
        self.error = error


class Settling:
    """Settles the studies of one source of a job.

    Parameters
    ----------
    destinations : dict[str, Gate]
        All destinations, fallback included.
    keeps : Callable[[], float]
        Seconds for which a study stays at the source after its last proof, asked each time.

    Attributes
    ----------
    refused : int
        Images that were confirmed and are still at the source.
    others : Others
        Jobs that take from the same source.
    problem : str
        Why a study could not be settled, with the next step; empty when all is well.
    """

    def __init__(
        self,
        ledger: Ledger,
        job_id: int,
        options: TransferOptions,
        source: Gate,
        destinations: dict[str, Gate],
        abort: Abort,
        keeps: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.ledger = ledger
        self.job_id = job_id
        self.options = options
        self.source = source
        self.destinations = destinations
        self.abort = abort
        self._keeps = keeps
        self.refused = 0
        self.problem = ""
        self._began = clock.time()
        self._known_apart: set[str] = set()
        self._attempts: dict[int, int] = {}
        self.others = Others(ledger, job_id, source.node)

    def settle(self, study_id: int, may_run: Callable[[], bool]) -> float | None:
        """Do what is due; None when settled, otherwise the seconds after which to try again.

        `may_run` is called between batches; when it is False the rest is left for later.
        """
        found = self.ledger.study_outcome(study_id)
        if found is None:
            return None
        study, counts = found
        try:
            self._carry_extras(study_id, study)  # before anything is deleted: they go with the images
            if self.options.after is After.MOVE:
                if (left := self._kept_for(study_id)) > 0:
                    self._label(study_id, study, counts)  # it is confirmed now, whatever is kept
                    return left
                if self.others.want(study_id, study):
                    return LOOK_AGAIN
                if not self._delete(study_id, study, may_run):
                    return 1.0
            self._label(study_id, study, counts)
        except _AtGate as elsewhere:
            if isinstance(elsewhere.error, LedgerError):
                raise elsewhere.error from elsewhere
            return self._failed(study_id, elsewhere.error, elsewhere.gate)
        except LedgerError:
            raise  # no fault of a node's; the job stops
        except FerryError as error:
            return self._failed(study_id, error, self.source)
        self._attempts.pop(study_id, None)
        self._settled(study_id)
        return None

    def _settled(self, study_id: int) -> None:
        o = self.options
        self.ledger.settle_study(study_id, wanted=o.evidence, deleting=o.after is After.MOVE)

    def _kept_for(self, study_id: int) -> float:
        """Seconds until a study may be deleted at the source."""
        keeps = self._keeps()
        if keeps <= 0:
            return 0.0
        proved = self.ledger.last_proof(study_id)
        passed = 0.0 if proved is None else clock.time() - proved
        return keeps - max(0.0, passed)  # a clock that was set back makes it stay longer, never for ever

    # deleting -------------------------------------------------------------------------------------------

    def _delete(self, study_id: int, study: StudyInfo, may_run: Callable[[], bool]) -> bool:
        node = self.source.node
        assert isinstance(node, Delete), "refused before the start"
        assert self.options.evidence is not EvidenceLevel.SENT, "a move never accepts sent"
        after = ""
        while True:
            if not may_run():
                return False
            found = self.ledger.deletable(study_id, after, BATCH, wanted=self.options.evidence)
            if not found:
                return True
            if self.options.steps:
                found = self.ledger.changed_deletable(study_id, found)
            lost = self._lost(study_id, study, found)
            self._keep([d for d in found if not d.same_everywhere], CHANGED_ON_THE_WAY)
            same = [d for d in found if d.same_everywhere]
            self._keep([d for d in same if d.key in lost], LOST)
            self._keep([d for d in same if d.key not in lost and not d.compared], NOT_COMPARED)
            batch = [d for d in same if d.key not in lost and d.compared]
            if batch:
                self._require_apart(study_id, study)
            # The intent is on the disk before the first DELETE leaves; so is the evidence it stands on.
            self.ledger.source_states([(d.key, SourceState.DELETING, "") for d in batch]).wait()
            self._delete_batch(study, batch, may_run)
            after = found[-1].instance.sop_uid

    def _lost(self, study_id: int, study: StudyInfo, found: list[Deletable]) -> set[int]:
        """Keys of what a destination no longer holds as it was proved.

        Asked only where the proof is old, or from before a stop that may have lasted: since then the destination
        may have lost what it had.
        """
        fresh = max(self._began, clock.time() - PROOF_LASTS)
        old = [d for d in found if d.proved_at < fresh]
        lost: set[int] = set()
        for name in self.ledger.destinations_of(study_id) if old else ():
            gate = self.destinations[name]
            if not isinstance(gate.node, Confirm):
                continue
            try:
                held = self._held(gate.node, name, study, old)
            except FerryError as error:
                raise _AtGate(gate, error) from error
            for d, holding, proof in held:
                other = proof and holding.digest and holding.digest.lower() != proof.lower()
                # A node that can't list what it holds has committed itself to it: that needs no second look.
                untold = holding.presence is Presence.UNKNOWN and self.options.evidence is not EvidenceLevel.COMMITTED
                if holding.presence is Presence.ABSENT or untold or other:
                    lost.add(d.key)
        return lost

    def _held(
        self, node: Confirm, name: str, study: StudyInfo, asked: list[Deletable]
    ) -> list[tuple[Deletable, Holding, str]]:
        """What a destination holds of some instances now, with the digest that it was seen to hold."""
        if not self.options.steps:
            holdings = node.confirm(study, [d.instance for d in asked], abort=self.abort)
            return [(d, holding, d.proof) for d, holding in zip(asked, holdings, strict=True)]
        groups: dict[StudyInfo, list[tuple[Deletable, InstanceRef, str]]] = {}
        for d in asked:
            for destination, change, proof in d.sent:
                if destination == name:
                    there = StudyInfo(study_uid=change.study_uid, patient_id=change.patient_id)
                    groups.setdefault(there, []).append((d, sent_ref(d.instance, change), proof))
        found: list[tuple[Deletable, Holding, str]] = []
        for there, members in groups.items():
            holdings = node.confirm(there, [ref for _d, ref, _proof in members], abort=self.abort)
            found += [(d, h, proof) for (d, _ref, proof), h in zip(members, holdings, strict=True)]
        return found

    def _keep(self, found: list[Deletable], words: str) -> None:
        """Images of which there is any doubt stay."""
        if not found:
            return
        self.ledger.source_states([(d.key, SourceState.REFUSED, words) for d in found]).wait()
        self.refused += len(found)
        self.problem = words
        for _one in found:
            self.ledger.add_log(
                LogLevel.WARNING,
                f"An image was not deleted at {self.source.name}. {words}",
                job_id=self.job_id,
                node=self.source.name,
            )

    def _delete_batch(self, study: StudyInfo, batch: list[Deletable], may_run: Callable[[], bool]) -> None:
        node = self.source.node
        assert isinstance(node, Delete)
        keys = {d.instance.sop_uid: d.key for d in batch}
        rows: list[tuple[int, SourceState, str]] = []
        try:
            for outcome in node.delete(study, [d.instance for d in batch], abort=self.abort):
                gone = outcome.state in (DeleteState.DELETED, DeleteState.GONE)
                state = SourceState.DELETED if gone else SourceState.REFUSED
                rows.append((keys[outcome.sop_uid], state, f"{outcome.state.value}; {outcome.answer}".rstrip("; ")))
                if not gone:
                    self.refused += 1
                    words = f"An image was not deleted at {self.source.name}: {KEPT_STATES[outcome.state]}."
                    self.problem = f"{words} ({outcome.answer})" if outcome.answer else words
                    self.ledger.add_log(
                        LogLevel.WARNING,
                        words,
                        job_id=self.job_id,
                        node=self.source.name,
                        detail=outcome.answer,
                    )
                if not may_run():
                    return  # the others are found in "deleting" when the job goes on
        finally:
            if rows:
                self.ledger.source_states(rows).wait()

    def _require_apart(self, study_id: int, study: StudyInfo) -> None:
        """Never delete where source and destination are one server under two names."""
        for name in self.ledger.destinations_of(study_id):
            gate = self.destinations[name]
            node = self.source.node
            if name in self._known_apart:
                continue
            try:
                if type(node) is not type(gate.node):
                    there = self._study_at(study_id, name, study)
                    same = _same_address(node, gate.node) or _is_own_store(node, gate.node, there)
                else:
                    same = isinstance(node, Identity) and node.same_storage(
                        gate.node, self._study_at(study_id, name, study)
                    )
            except FerryError as error:
                raise _AtGate(gate if self._answers() else self.source, error) from error
            if same:
                raise FerryError(
                    f"{self.source.name} and {name} are the same server: nothing was deleted.",
                    "Choose another destination; a move to itself would delete the only copy.",
                    code="same-storage",
                )
            self._known_apart.add(name)

    def _study_at(self, study_id: int, name: str, study: StudyInfo) -> StudyInfo:
        """A study as a destination knows it."""
        return (self.ledger.study_at(study_id, name) or study) if self.options.steps else study

    def _answers(self) -> bool:
        """Whether the source works: then an error that either side may have made is the other's."""
        try:
            self.source.node.probe()
        except FerryError:
            return False
        return True

    # what is kept beside the images ---------------------------------------------------------------------

    def _carry_extras(self, study_id: int, study: StudyInfo) -> None:
        o = self.options
        if not o.extras:
            return
        node = self.source.node
        assert isinstance(node, Extras), "refused before the start"
        for name in self.ledger.destinations_of(study_id):
            gate = self.destinations[name]
            try:
                told = node.carry_extras(study, gate.node, o.extras, overwrite=o.overwrite, abort=self.abort)
            except FerryError as error:
                raise _AtGate(gate if self._answers() else self.source, error) from error
            for words in told:
                self.problem = words
                self.ledger.add_log(LogLevel.WARNING, words, job_id=self.job_id, node=name)
            if told and o.after is After.MOVE:
                raise FerryError(
                    f"The images stay at {self.source.name}: {told[0]}",
                    "Look at both, then start the job again; with “Replace what is different” the source's value wins.",
                    code="extras-differ",
                )

    # labels ---------------------------------------------------------------------------------------------

    def _label(self, study_id: int, study: StudyInfo, counts: Counts) -> None:
        bad = counts.failed + counts.conflict
        label = self.options.label_failure if bad else self.options.label_success
        if not label or counts.cancelled:
            return
        moved = self.options.after is After.MOVE and not bad
        gates = [g for n, g in self.destinations.items() if n in self.options.destinations] if moved else [self.source]
        for gate in gates:
            if not isinstance(gate.node, Label):
                continue
            try:
                if gate.node.has_labels:
                    there = study if gate is self.source else self._study_at(study_id, gate.name, study)
                    gate.node.label(there, label)
            except FerryError as error:
                raise _AtGate(gate, error) from error

    # when it did not work -------------------------------------------------------------------------------

    def _failed(self, study_id: int, error: FerryError, gate: Gate) -> float | None:
        o = self.options
        attempt = self._attempts[study_id] = self._attempts.get(study_id, 0) + 1
        failure = gate.node.failure(error, "source" if gate is self.source else "destination")
        fatal = error.code in ("same-storage", "extras-differ", "extras-unknown", "labels", "extras")
        fatal = fatal or (error.code == "identity-untold" and not o.follow)  # what comes later may tell
        if failure.cls in WHOLE_NODE and not fatal:
            gate.close(failure, o.retry_delays)
        if fatal or (attempt >= o.max_attempts and not o.follow):
            left = self.ledger.deletable(study_id, "", 1_000_000, wanted=o.evidence) if o.after is After.MOVE else []
            self.refused += len(left)
            self.ledger.source_states([(d.key, SourceState.REFUSED, error.sentence) for d in left]).wait()
            self.problem = f"{failure.sentence} {failure.next_step}".strip()
            self.ledger.add_log(LogLevel.ERROR, self.problem, job_id=self.job_id, node=gate.name, detail=error.detail)
            self._settled(study_id)
            return None
        return max(delay_after(attempt, o.retry_delays), failure.retry_after or 0.0)


def _same_address(one: Node, other: Node) -> bool:
    """Whether two kinds of nodes are one application entity, as an Orthanc and its own DICOM port are.

    An AE title and port that are equal are enough where a host's name can't be looked up: any doubt means keep.
    """
    if not (isinstance(one, Dimse) and isinstance(other, Dimse)):
        return False
    here, there = one.dicom_address(), other.dicom_address()
    if here.port != there.port:
        return False
    if here.host == there.host:
        return True
    try:
        return bool(_addresses(here.host) & _addresses(there.host))
    except OSError:
        return here.aet == there.aet


def _is_own_store(one: Node, other: Node, study: StudyInfo) -> bool:
    """Whether a store of this computer is what the other node calls, or looks into as a folder."""
    stores = ((one, other), (other, one))
    return any(isinstance(a, Intake) and isinstance(a, Identity) and a.same_storage(b, study) for a, b in stores)


def _addresses(host: str) -> set[str]:
    return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
