"""The pipeline of a job with processing steps: what a destination is given, asked for and held against is the result.

Every image travels through this computer. What was made of it is in the ledger before it is sent, so that a retry or
a deletion at the source knows what lies at the destination, and what of the source that stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path as FilePath

from core.engine import applying, verify
from core.engine.applying import Made, TitledStep
from core.engine.carried import Carried, SourceTrouble
from core.engine.changed_file import parse
from core.engine.gate import Gate
from core.engine.held import ONE_BY_ONE
from core.engine.judging import Judging
from core.engine.same_content import same_but_for_time
from core.engine.throttle import Throttle
from core.engine.transfer import Chunk, Pipeline
from core.engine.verify import Judgement, Verdict, cannot_tell, proved_state
from core.jobs.base import TransferOptions
from core.ledger.ledger import Ledger
from core.ledger.rows import Delivery, TransferTask
from core.model.errors import ConfigurationError, FerryError, LocalError, TransportError, TransportFault
from core.model.job import After, Path
from core.model.outcome import DeliveryState, Evidence, EvidenceLevel, Failure, FailureClass, Method
from core.model.steps import Change
from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.base import BatchLimits, CompareByFetching, Read
from core.steps.base import StepError, StepSurroundings
from core.steps.registry import open_steps, step_kinds
from core.wire.http import Abort

SAMPLE_FROM = 4  # images of a study from which on one of them is looked at to learn the new patient ID beforehand
SAMPLE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class JobSteps:
    """The opened steps of a job, and the folder for files of the moment."""

    steps: tuple[TitledStep, ...]
    folder: FilePath | None

    @property
    def foretells(self) -> bool:
        """Whether the new UIDs are known before the work is done."""
        return all(s.step.foretells_uids for s in self.steps)

    @property
    def repeatable(self) -> bool:
        return all(s.step.repeatable for s in self.steps)

    def uid(self, uid: str) -> str:
        """What becomes of a Study, Series or SOP Instance UID."""
        for titled in self.steps:
            uid = titled.step.uid(uid)
        return uid

    def foretold(self, study: StudyInfo, instances: Sequence[InstanceRef]) -> tuple[StudyInfo, list[InstanceRef]]:
        """A study and some of its instances by the UIDs that they will have; what else changes is not known yet."""
        there = StudyInfo(study_uid=self.uid(study.study_uid), patient_id=study.patient_id)
        return there, [self.instance(one, one.patient_id) for one in instances]

    def instance(self, one: InstanceRef, patient_id: str) -> InstanceRef:
        """An instance by the UIDs that it will have."""
        return replace(
            one,
            sop_uid=self.uid(one.sop_uid),
            series_uid=self.uid(one.series_uid),
            study_uid=self.uid(one.study_uid),
            patient_id=patient_id,
            ref="",
            digest=None,
            transfer_syntax=None,
            series=None,
        )

    def close(self) -> None:
        for titled in self.steps:
            titled.step.close()


def open_job_steps(options: TransferOptions, surroundings: StepSurroundings) -> JobSteps | None:
    """Open the steps of a job; None where it has none.

    Raises
    ------
    ConfigurationError
        A step is not chosen rightly, what it needs is not there, or a move would destroy what says whose the images
        are.
    """
    if not options.steps:
        return None
    opened = open_steps(options.steps, surroundings)
    titles = [step_kinds.get(choice.kind).title for choice in options.steps]
    steps = JobSteps(tuple(TitledStep(t, s) for t, s in zip(titles, opened, strict=True)), surroundings.folder)
    if options.after is After.MOVE and not options.originals_elsewhere and any(s.deidentifies for s in opened):
        steps.close()
        raise ConfigurationError(
            "This move would delete the only images that say whose they are: what is sent is de-identified.",
            "Keep the images at the source; or, if another system keeps the originals, confirm that under "
            "“The originals are kept elsewhere” (--originals-elsewhere).",
            code="move-deidentified",
        )
    return steps


class ChangingPipeline(Pipeline):
    """As `Pipeline`, with steps between reading and sending. `Delivery.known_digest` stays the source's own."""

    def __init__(
        self,
        ledger: Ledger,
        options: TransferOptions,
        source: Gate,
        destination: Gate,
        throttle: Throttle,
        abort: Abort,
        stopping: Callable[[], bool],
        steps: JobSteps,
    ) -> None:
        super().__init__(ledger, options, source, destination, throttle, abort, stopping)
        self._judging = _JudgingChanges(
            source.node, destination.node, deletes=self.deletes, pace=self._pace, abort=abort
        )
        self._steps = steps
        self._patients: dict[int, str] = {}  # study -> the patient ID that its images get

    @property
    def batch_limits(self) -> BatchLimits:
        """One by one: what is made of each image lies on the disk until it is sent."""
        return ONE_BY_ONE

    def choose_path(self, task: TransferTask) -> tuple[Path, str]:
        """Steps are done here, whatever was chosen."""
        return Path.RELAY, "through this computer, where its processing steps are done"

    # before sending -------------------------------------------------------------------------------------

    def check(self, chunk: Chunk, *, overwrite: bool) -> list[Delivery]:
        """What the destination lacks, or holds something under its new UIDs that has to be compared.

        What an earlier attempt sent is known by its digest, and proved by that.
        """
        earlier = self.ledger.changes_of(d.id for d in chunk.deliveries)
        for d in chunk.deliveries:
            d.change = earlier.get(d.id)
        if self._confirm is None:
            return chunk.deliveries
        asked = [d for d in chunk.deliveries if d.change is not None or self._steps.foretells]
        self._learn_patient(chunk, [d for d in asked if d.change is None])
        holdings = self._ask_for(chunk.task, [(d, self._expected(chunk.task, d)) for d in asked])
        to_send = [d for d in chunk.deliveries if d.change is None and not self._steps.foretells]
        proved: list[tuple[Delivery, DeliveryState, Evidence]] = []
        unsure: list[Delivery] = []
        for delivery, holding in zip(asked, holdings, strict=True):
            evidence = self._sent_before(delivery, holding)
            if evidence is not None:
                state = proved_state(delivery.tried)
                committed = self.options.evidence is EvidenceLevel.COMMITTED
                proved.append((delivery, DeliveryState.VERIFIED if committed else state, evidence))
            elif holding.presence is Presence.UNKNOWN and self.options.evidence is EvidenceLevel.VERIFIED:
                unsure.append(delivery)
            elif holding.presence is Presence.UNKNOWN and delivery.state is DeliveryState.SENT:
                self.unlisted = True
            else:
                to_send.append(delivery)
                if holding.presence is Presence.PRESENT:
                    chunk.replace.add(delivery.id)  # to be compared first: see `carry`
        if proved:
            self.ledger.proved(proved)
        if unsure:
            self.give_back([(d, cannot_tell(self.destination.name)) for d in unsure])
        return to_send

    def _sent_before(self, delivery: Delivery, holding: Holding) -> Evidence | None:
        """Evidence that the destination holds what an earlier attempt sent."""
        change = delivery.change
        if change is None or holding.presence is not Presence.PRESENT:
            return None
        at = datetime.now().astimezone()
        if holding.digest:
            same = holding.digest.lower() == change.digest
            return Evidence(Method.DIGEST, at, change.digest) if same else None
        if delivery.state is DeliveryState.SENT:  # acknowledged, and listed now
            return Evidence(Method.UID, at, note="The destination can't tell digests.")
        return None

    def _expected(self, task: TransferTask, delivery: Delivery) -> InstanceRef:
        """How the destination is to know an instance: as it was sent, else as the steps foretell."""
        if delivery.change is not None:
            return _sent_ref(delivery)
        one = delivery.instance
        return self._steps.instance(one, self._patients.get(task.study_id, one.patient_id))

    def _learn_patient(self, chunk: Chunk, new: Sequence[Delivery]) -> None:
        """Look at one image: some nodes know an instance by its patient ID, too, and that only the steps can tell.

        A wrong guess does no harm: `carry` asks again by what the image was given in the end.
        """
        if len(new) < SAMPLE_FROM or chunk.task.study_id in self._patients:
            return
        sample = min(new, key=lambda d: d.size or SAMPLE_BYTES)
        if sample.size > SAMPLE_BYTES:
            return
        try:
            made = self._made(sample)
        except (SourceTrouble, FerryError):
            return  # it is told when the image itself is carried
        try:
            self._patients[chunk.task.study_id] = made.change.patient_id
        finally:
            made.close()

    def ask(self, chunk: Chunk) -> list[Holding]:
        """What the destination holds of what was sent, asked now."""
        return self._ask_for(chunk.task, [(d, self._expected(chunk.task, d)) for d in chunk.deliveries])

    def _ask_for(self, task: TransferTask, asked: Sequence[tuple[Delivery, InstanceRef]]) -> list[Holding]:
        assert self._confirm is not None
        groups: dict[tuple[str, str], list[tuple[Delivery, InstanceRef]]] = {}
        for delivery, ref in asked:
            groups.setdefault((ref.study_uid, ref.patient_id), []).append((delivery, ref))
        found: dict[int, Holding] = {}
        for (study_uid, patient_id), members in groups.items():
            study = StudyInfo(study_uid=study_uid, patient_id=patient_id)
            holdings = self._confirm.confirm(study, [ref for _d, ref in members], abort=self.abort)
            found |= {d.id: h for (d, _ref), h in zip(members, holdings, strict=True)}
        self.require_not_fenced()
        return [found[d.id] for d, _ref in asked]

    def at_destination(
        self, task: TransferTask, deliveries: Sequence[Delivery]
    ) -> list[tuple[StudyInfo, list[Delivery], list[InstanceRef]]]:
        """Deliveries by the study that they belong to at the destination, as the destination knows them."""
        earlier = self.ledger.changes_of(d.id for d in deliveries if d.change is None)
        groups: dict[tuple[str, str], tuple[StudyInfo, list[Delivery], list[InstanceRef]]] = {}
        for d in deliveries:
            d.change = d.change or earlier.get(d.id)
            ref = self._expected(task, d)
            study = StudyInfo(study_uid=ref.study_uid, patient_id=ref.patient_id)
            group = groups.setdefault((ref.study_uid, ref.patient_id), (study, [], []))
            group[1].append(d)
            group[2].append(ref)
        return list(groups.values())

    # carrying -------------------------------------------------------------------------------------------

    def carry(self, chunk: Chunk, delivery: Delivery) -> None:
        """Read one instance, do the steps and send the result; its outcome is in the ledger afterwards."""
        try:
            made = self._made(delivery)
        except SourceTrouble as trouble:
            self._failed(delivery, self.source, trouble.error)
            return
        except FerryError as error:
            self._not_made(delivery, error)
            return
        try:
            expected = self._expected(chunk.task, delivery)
            delivery.change = made.change
            delivery.known_digest = made.change.source_digest
            delivery.instance = replace(delivery.instance, transfer_syntax=made.instance.transfer_syntax)
            foretold = _identity(expected) == _identity(made.instance)
            if self._confirm is not None and (delivery.id in chunk.replace or not foretold):
                self._patients[chunk.task.study_id] = made.change.patient_id
                if not self._is_to_be_sent(chunk, delivery, made):
                    return
            ticket = self.ledger.changed(delivery, ticket=not self._steps.repeatable)
            if ticket is not None:
                ticket.wait()  # what is made another time would be something else
            self._send(delivery, made)
        except StepError as error:
            self._not_made(delivery, error)
        except FerryError as error:
            self._failed(delivery, self.destination, error)
        except OSError as error:  # of a file of the moment
            self._not_made(delivery, applying.no_room(error))
        else:
            self.source.worked()
            self.destination.worked()
        finally:
            made.close()

    def _made(self, delivery: Delivery) -> Made:
        folder = self._steps.folder
        try:
            with self._read.open(delivery.instance, abort=self.abort) as stream:
                file, digest = applying.received(stream, folder, self._pace, self.source.name)
        except LocalError:
            raise
        except FerryError as error:
            raise SourceTrouble(error) from error
        return applying.make(self._steps.steps, file, digest, delivery.instance, folder)

    def _not_made(self, delivery: Delivery, error: FerryError) -> None:
        """Nothing of it is sent: a person has to look. Only what this computer lacks is tried again by itself."""
        if self.fenced:
            return
        if self.abort.aborted or (isinstance(error, TransportError) and error.fault is TransportFault.ABORTED):
            self.ledger.back([delivery] if delivery.state is DeliveryState.SENDING else [])
            return
        lasting = isinstance(error, StepError)
        failure = Failure(
            code=error.code,
            cls=FailureClass.PERSON if lasting else FailureClass.RETRY,
            sentence=error.sentence,
            next_step=error.next_step,
            detail=error.detail,
            side="here",
        )
        if not lasting:
            self.give_back([(delivery, failure)])
            return
        rows = [(delivery, failure, None)]
        self.ledger.trouble(rows)
        self.tell_given_up(rows)

    def _is_to_be_sent(self, chunk: Chunk, delivery: Delivery, made: Made) -> bool:
        """Compare with what the destination holds under the new UIDs, if anything; record it where that settles it."""
        holding = self._ask_for(chunk.task, [(delivery, made.instance)])[0]
        if holding.presence is Presence.ABSENT:
            return True
        if holding.presence is Presence.UNKNOWN:
            if self.options.evidence is EvidenceLevel.VERIFIED:
                self.give_back([(delivery, cannot_tell(self.destination.name))])
                return False
            return True
        found = self._compared(delivery, made, holding)
        if found.verdict is Verdict.DIFFERENT and (chunk.task.overwrite or self.options.overwrite):
            self._write.replace(made.study, made.instance)
            return True
        assert found.evidence is not None
        self.ledger.changed(delivery)
        state = DeliveryState.CONFLICT
        if found.verdict is Verdict.SAME:
            committed = self.options.evidence is EvidenceLevel.COMMITTED
            state = DeliveryState.VERIFIED if committed else proved_state(delivery.tried)
        self.ledger.proved([(delivery, state, found.evidence)])
        return False

    def _compared(self, delivery: Delivery, made: Made, holding: Holding) -> Judgement:
        at = datetime.now().astimezone()
        if holding.digest and holding.digest.lower() == made.change.digest:
            return Judgement(Verdict.SAME, Evidence(Method.DIGEST, at, made.change.digest))
        same = self._fetched_is_same(made, holding)
        if same:
            words = "Fetched from the destination: all attributes are equal but for the time of the change."
            return Judgement(Verdict.SAME, Evidence(Method.HEADER, at, note=words))
        other = holding.digest or "none that it tells"
        if same is None and not holding.digest and made.change.sop_uid != delivery.instance.sop_uid:
            # Nobody but these steps makes this UID of that one.
            words = "Listed under its new SOP Instance UID; the destination can't tell digests and gave no image."
            return Judgement(Verdict.SAME, Evidence(Method.UID, at, note=words))
        words = "it could not be fetched to be compared." if same is None else "it differs from what the steps make."
        note = f"The destination holds something under this UID already, digest {other}: {words}"
        return Judgement(Verdict.DIFFERENT, Evidence(Method.DIGEST, at, (holding.digest or "").lower(), note))

    def _fetched_is_same(self, made: Made, holding: Holding) -> bool | None:
        """Whether what lies there is equal but for the time of the change; None where it can't be had."""
        node = self.destination.node
        try:
            if isinstance(node, Read):
                asked = replace(made.instance, ref=holding.ref, size=holding.size, digest=None)
                with node.open(asked, abort=self.abort) as stream:
                    file, _digest = applying.received(stream, self._steps.folder, self._pace, node.name)
                theirs = parse(file, self._steps.folder)
                try:
                    return same_but_for_time(made.content, theirs)
                finally:
                    theirs.close()
            if isinstance(node, CompareByFetching):
                made.body.rewind()
                body = Carried(made.body, None, self._pace)
                return True if node.holds_same(made.study, made.instance, body, abort=self.abort) else None
        except FerryError:
            if self.abort.aborted:
                raise
        finally:
            made.body.rewind()
        return None

    def _send(self, delivery: Delivery, made: Made) -> None:
        if made.body.size <= applying.BLOCK:
            body: bytes | Carried = made.body.whole()
        else:
            body = Carried(made.body, None, lambda _count: None)
        answer = self._write.store(made.study, made.instance, body, abort=self.abort)
        self.require_not_fenced()
        delivery.newly_stored = answer.stored
        self.bytes_moved += made.change.size
        words = f"{answer.answer}; {answer.warning}" if answer.warning else answer.answer
        self.ledger.sent(delivery, words, answer.ref)

    # after sending --------------------------------------------------------------------------------------

    def _learn_missing_digests(self, sent: Sequence[Delivery]) -> bool:
        return True  # all of them were read here


class _JudgingChanges(Judging):
    """Holds what a destination has against what it was sent."""

    def judge(self, study: StudyInfo, delivery: Delivery, holding: Holding) -> Judgement:
        at = datetime.now().astimezone()
        assert delivery.change is not None
        found = verify.judge(
            _sent_ref(delivery), delivery.change.digest, holding, at, newly_stored=delivery.newly_stored
        )
        if found.verdict is not Verdict.COMPARE:
            return found
        if found.evidence is not None:
            return Judgement(Verdict.SAME, found.evidence)
        note = "The destination had something under this UID before, in another encoding: it was not compared."
        return Judgement(Verdict.DIFFERENT, Evidence(Method.DIGEST, at, (holding.digest or "").lower(), note))

    def judge_again(
        self, study: StudyInfo, judged: Sequence[tuple[Delivery, Holding, Judgement]]
    ) -> dict[int, Judgement]:
        return {}


def _sent_ref(delivery: Delivery) -> InstanceRef:
    change = delivery.change
    assert change is not None
    return sent_ref(delivery.instance, change)


def sent_ref(instance: InstanceRef, change: Change) -> InstanceRef:
    """An instance as the destination was given it."""
    return replace(
        instance,
        sop_uid=change.sop_uid,
        series_uid=change.series_uid,
        study_uid=change.study_uid,
        patient_id=change.patient_id,
        size=change.size,
        digest=change.digest,
        ref="",
        series=None,
    )


def _identity(ref: InstanceRef) -> tuple[str, str, str, str]:
    return ref.patient_id, ref.study_uid, ref.series_uid, ref.sop_uid
