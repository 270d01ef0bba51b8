"""The job book: checking, previewing, creating and commanding jobs. The engine does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from pydantic import JsonValue, ValidationError

from core.engine.changing import JobSteps
from core.engine.standing import standing_of, state_of
from core.jobs.base import Discovery, FoundStudy, InventoryDone, JobKind, LeftOut, Remark, TransferKind
from core.jobs.registry import job_kinds
from core.ledger.book import Verb, fingerprint
from core.ledger.ledger import Ledger
from core.model.errors import ConfigurationError
from core.model.events import LogLevel
from core.model.everyone import Expand, Expanded, as_named, nobody
from core.model.fields import FieldType, explain, form_fields
from core.model.gateway import DestinationLevel, GatewayStanding, GatewayState
from core.model.job import JOB_UNFINISHED, JobFields, JobRecord, JobState, ProcessingFields, TransferFields
from core.model.study import InstanceRef, Presence, StudyInfo
from core.model.views import NodeAbilities, Preview
from core.node_book import NodeBook
from core.nodes.base import Commit, Confirm, Delete, DiskUse, Inventory, Node, Push, Read, Write
from core.step_book import StepBook
from core.wire.http import Abort

SAMPLE = 8
ASK_AT_ONCE = 200
BY_UID = "What is there already is counted by UID; the job compares it with what the steps make."
UNFORETOLD = "A step may change UIDs, so what is there already is not known beforehand."
_AS_SOURCE = ((Push, "sends by itself"), (Delete, "deletes"))
_AS_DESTINATION = ((Confirm, "lists what it holds"), (Commit, "storage commitment"), (DiskUse, "disk level"))


class JobBook:
    """Jobs of one home.

    Parameters
    ----------
    nudge : Callable[[], None]
        Called after a command was written, so that an engine of this process looks at once.

    Attributes
    ----------
    live_standing : Callable[[int], GatewayStanding | None]
        Set by whoever runs an engine in this process: where a gateway stands that it runs.
    expanded : Expand
        Tells the nodes that destinations stand for.
    """

    def __init__(
        self,
        ledger: Ledger,
        nodes: NodeBook,
        nudge: Callable[[], None] = lambda: None,
        steps: StepBook | None = None,
    ) -> None:
        self._ledger = ledger
        self._nodes = nodes
        self._nudge = nudge
        self._steps = steps
        self.live_standing: Callable[[int], GatewayStanding | None] = lambda _job_id: None
        self.expanded: Expand = as_named

    # checking -------------------------------------------------------------------------------------------

    def fields(self, kind: str, fields: Mapping[str, JsonValue]) -> JobFields:
        """Validate fields against their kind.

        Raises
        ------
        ConfigurationError
            Naming each field that is wrong by its title.
        """
        model = job_kinds.get(kind).Fields
        try:
            checked = model.model_validate(dict(fields))
        except ValidationError as error:
            raise explain(error, model) from error
        if isinstance(checked, ProcessingFields) and checked.step and self._steps is not None:
            return checked.model_copy(update={"step": self._steps.checked(checked.step)})
        return checked

    def check(self, kind: str, fields: Mapping[str, JsonValue], *, follow: bool = False) -> JobFields:
        """Validate fields and what the nodes can do, without talking to them.

        But for a server of which “all modalities” or “all peers” are destinations: that is asked who they are.

        Raises
        ------
        ConfigurationError
        """
        checked = self.fields(kind, fields)
        opened: dict[str, Node] = {}
        try:
            self._check_nodes(job_kinds.get(kind), checked, opened, follow=follow)
        finally:
            for node in opened.values():
                node.close()
        return checked

    def follows(self, kind: str, follow: bool) -> bool:
        """Whether a job of this kind follows its sources: as asked, or because the kind always does."""
        return follow or job_kinds.get(kind).always_follows

    def _check_nodes(
        self, kind: JobKind, fields: JobFields, opened: dict[str, Node], *, follow: bool
    ) -> tuple[JobFields, Expanded]:
        """Open the nodes and let the kind check them; the fields with the nodes that destinations stand for now."""
        if follow and not kind.can_follow:
            raise ConfigurationError(f"A {kind.title.lower()} can't follow.", "Leave out --follow.", code="follow")
        now = Expanded(())
        if isinstance(fields, TransferFields):
            now = self.expanded(fields.destination, fields.source, register=False)
            if not now.names and not now.to_come:
                raise nobody(fields.destination, now)
            fields = fields.model_copy(update={"destination": now.names})
        for name in self.node_names(fields):
            opened[name] = self._nodes.open(name)
        kind.check(fields, opened, follow=follow)
        if isinstance(kind, TransferKind) and isinstance(fields, ProcessingFields) and self._steps is not None:
            sources = [opened[name] for name in fields.source]
            self._steps.check(kind.options(fields, follow=follow).between(sources))
        return fields, now

    def node_names(self, fields: JobFields) -> list[str]:
        """Names of all nodes that a job's fields speak of."""
        if not isinstance(fields, TransferFields):
            return []
        names = [*fields.source, *fields.destination, getattr(fields, "fallback", "")]
        return list(dict.fromkeys(n for n in names if n))

    def abilities(self, name: str) -> NodeAbilities:
        """What a registered node can do in a job; it is not talked to.

        Raises
        ------
        ConfigurationError
        SecretError
        """
        node = self._nodes.open(name)
        try:
            gives = isinstance(node, Inventory) and isinstance(node, Read)
            source = ("gives its studies", *(word for can, word in _AS_SOURCE if isinstance(node, can)))
            destination = ("takes images", *(word for can, word in _AS_DESTINATION if isinstance(node, can)))
            return NodeAbilities(source if gives else (), destination if isinstance(node, Write) else ())
        finally:
            node.close()

    def probe(self, kind: str, fields: Mapping[str, JsonValue], *, follow: bool = False) -> None:
        """As `check`, and ask every node once whether it is there and lets us in.

        Raises
        ------
        FerryError
            The first node's, with its next step.
        """
        checked = self.fields(kind, fields)
        opened: dict[str, Node] = {}
        try:
            self._check_nodes(job_kinds.get(kind), checked, opened, follow=follow)
            for node in opened.values():
                node.probe()
        finally:
            for node in opened.values():
                node.close()

    # dry run --------------------------------------------------------------------------------------------

    def preview(
        self,
        kind: str,
        fields: Mapping[str, JsonValue],
        *,
        abort: Abort | None = None,
        progress: Callable[[Preview], None] | None = None,
    ) -> Preview:
        """What would move, how much, and what is there already; nothing is written anywhere.

        Counts are deliveries: an instance that goes to two destinations counts twice. Blocking.
        """
        checked = self.fields(kind, fields)
        job_kind = job_kinds.get(kind)
        if not isinstance(job_kind, TransferKind) or not isinstance(checked, TransferFields):
            raise ConfigurationError(f"A {job_kind.title.lower()} has no dry run.")
        stop = abort or Abort()
        opened: dict[str, Node] = {}
        steps: JobSteps | None = None
        try:
            checked, now = self._check_nodes(job_kind, checked, opened, follow=False)
            assert isinstance(checked, TransferFields)
            steps = None if self._steps is None else self._steps.opened(job_kind.options(checked, follow=False))
            count = _PreviewCount([opened[n] for n in checked.destination], stop, progress, steps, len(now.to_come))
            count.now = replace(count.now, remarks=(*count.now.remarks, *told(now)))
            for name in checked.source:
                discovery = Discovery(
                    source=opened[name],
                    cursor=None,
                    inventoried=False,
                    follow=False,
                    wait=lambda _seconds: not stop.aborted,
                    abort=stop,
                    listed=lambda _uid: False,
                )
                for found in job_kind.discover(checked, discovery):
                    if isinstance(found, FoundStudy):
                        count.study(found.study, found.pages)
                    elif isinstance(found, LeftOut):
                        count.now = replace(count.now, left_out=count.now.left_out + found.instances)
                    elif isinstance(found, Remark):
                        count.now = replace(count.now, remarks=(*count.now.remarks, found.sentence))
                    elif isinstance(found, InventoryDone) and not found.complete:
                        count.now = replace(count.now, complete=False, reason=found.reason)
            return replace(count.now, seconds=self._estimate(count.now.bytes))
        finally:
            if steps is not None:
                steps.close()
            for node in opened.values():
                node.close()

    def _estimate(self, size: int) -> float | None:
        """Seconds that `size` bytes would take at the speed of the last finished jobs; None where unknown."""
        for job in self._ledger.jobs():
            if job.state is JobState.FINISHED and job.started and job.finished and job.counts.verified:
                seconds = (job.finished - job.started).total_seconds()
                if seconds > 1 and job.counts.bytes_done:
                    return size * seconds / job.counts.bytes_done
        return None

    # creating and commanding ----------------------------------------------------------------------------

    def create(
        self, kind: str, fields: Mapping[str, JsonValue], *, name: str = "", follow: bool = False, start: bool = True
    ) -> JobRecord:
        """Make a job and start it; one that is the same and unfinished is continued, a finished one begins anew.

        Raises
        ------
        ConfigurationError
        """
        follow = self.follows(kind, follow)
        checked = self.check(kind, fields, follow=follow)
        values: dict[str, JsonValue] = checked.model_dump(mode="json")
        found = self._ledger.job_by_fingerprint(fingerprint(kind, values, follow=follow))
        if found is not None and (not name or name == found.name):
            job_id = found.id
        else:
            title = name or _default_name(job_kinds.get(kind), checked)
            job_id = self._ledger.add_job(kind, title, values, follow=follow, state=JobState.SAVED)
        if start:
            self.start(job_id)
        return self.get(job_id)

    def change_rule(self, job_id: int, rule: str) -> JobRecord:
        """Give a job another rule; it holds for what is found from the next start on, and what was found before stays.

        Raises
        ------
        ConfigurationError
            The rule can't be read, the job runs, or its kind has no rule.
        """
        job = self.get(job_id)
        kind = job_kinds.get(job.kind)
        name = rule_field(kind)
        if not name:
            raise ConfigurationError(
                f"A {kind.title.lower()} has no rule.", "Make a job of another kind.", code="no-rule"
            )
        if job.state is JobState.RUNNING:
            raise ConfigurationError(
                f"“{job.name}” is running.", "Pause it, and change its rule then.", code="job-runs"
            )
        values = self.fields(job.kind, {**job.fields, name: rule}).model_dump(mode="json")
        made = fingerprint(job.kind, values, follow=job.follow)
        self._ledger.update_job(job_id, fields=values, fingerprint=made)
        self._ledger.add_log(LogLevel.INFO, f"The rule of “{job.name}” was changed.", job_id=job_id)
        return self.get(job_id)

    def all(self) -> list[JobRecord]:
        return self._ledger.jobs()

    def get(self, key: int | str) -> JobRecord:
        """A job by number or name.

        Raises
        ------
        ConfigurationError
            Naming those that exist.
        """
        found = self._ledger.job(key)
        if found is None and isinstance(key, str) and key.isdigit():
            found = self._ledger.job(int(key))
        if found is None:
            names = ", ".join(f"“{j.name}”" for j in self._ledger.jobs()[:10])
            raise ConfigurationError(
                f"There is no job “{key}”.", f"There are: {names}." if names else "There is none yet.", code="no-job"
            )
        return found

    def start(self, job_id: int) -> None:
        """Start or go on; a finished or cancelled job begins a new pass with a new inventory."""
        job = self.get(job_id)
        if job.state in (JobState.FINISHED, JobState.CANCELLED):
            self._ledger.next_pass(job_id)
        elif job.state is not JobState.RUNNING:
            self._ledger.update_job(job_id, state=JobState.RUNNING.value, started=time.time())
        self._command(Verb.START, job_id=job_id)

    def pause(self, job_id: int) -> None:
        self._command(Verb.PAUSE, job_id=job_id)

    def resume(self, job_id: int) -> None:
        self._command(Verb.RESUME, job_id=job_id)

    def cancel(self, job_id: int) -> None:
        self._command(Verb.CANCEL, job_id=job_id)

    def retry(self, job_id: int) -> None:
        """Send again what failed or was cancelled, and only that."""
        self._command(Verb.RETRY, job_id=job_id)

    # gateways -------------------------------------------------------------------------------------------

    def gateways(self) -> list[JobRecord]:
        """The standing jobs, newest first."""
        kinds = job_kinds.all()
        return [job for job in self._ledger.jobs() if job.kind in kinds and kinds[job.kind].always_follows]

    def route(self, job_id: int, *, on: bool) -> None:
        """Switch a gateway's auto-routing, for good: off, images are received and nothing is sent until it is on.

        Raises
        ------
        ConfigurationError
            The job is no gateway.
        """
        job = self.get(job_id)
        if not job_kinds.get(job.kind).always_follows:
            raise ConfigurationError(
                f"“{job.name}” is no gateway, so it has no auto-routing.", "Pause or resume it instead.", code="routing"
            )
        self._ledger.set_field(job.id, "routing", on)
        self._command(Verb.ROUTE, job_id=job.id)

    def gateway_standing(self, job_id: int) -> GatewayStanding:
        """Where a gateway stands now, what is wrong included. Blocking: its sources are asked.

        Raises
        ------
        FerryError
        """
        live = self.live_standing(job_id)
        if live is not None:
            return live
        job = self.get(job_id)
        kind = job_kinds.get(job.kind)
        fields = self.fields(job.kind, job.fields)
        assert isinstance(kind, TransferKind)
        assert isinstance(fields, TransferFields)
        options = kind.options(fields, follow=job.follow)
        opened: dict[str, Node] = {}
        try:
            for name in options.sources:
                opened[name] = self._nodes.open(name)
            state = state_of(job, routing=options.routing)
            told = [job.problem, job.note if state is GatewayState.ROUTING else ""]
            there = [DestinationLevel(name, None) for name in options.destinations]
            emptied = [name for name, node in opened.items() if options.deletes_at(node)]
            route = self._ledger.route_level(job.id, job.pass_number, wanted=options.evidence, emptied=emptied)
            return standing_of(job, options, state, route, opened, there, told=told, here=False)
        finally:
            for node in opened.values():
                node.close()

    # other commands -------------------------------------------------------------------------------------

    def remove(self, job_id: int) -> None:
        """Remove a job with its evidence; refused while it is unfinished."""
        job = self.get(job_id)
        if job.state in JOB_UNFINISHED:
            raise ConfigurationError(
                f"“{job.name}” is not finished, so it can't be removed.", "Cancel it first.", code="job-unfinished"
            )
        self._ledger.remove_job(job_id)

    def pause_all(self) -> None:
        for job in self._ledger.jobs():
            if job.state is JobState.RUNNING:
                self.pause(job.id)

    def resume_all(self) -> None:
        for job in self._ledger.jobs():
            if job.state is JobState.PAUSED:
                self.resume(job.id)

    def retry_transfer(self, transfer_id: int) -> None:
        self._command(Verb.RETRY_TRANSFER, transfer_id=transfer_id)

    def cancel_transfer(self, transfer_id: int) -> None:
        self._command(Verb.CANCEL_TRANSFER, transfer_id=transfer_id)

    def prioritise_transfer(self, transfer_id: int) -> None:
        self._command(Verb.PRIORITISE_TRANSFER, transfer_id=transfer_id)

    def overwrite_transfer(self, transfer_id: int) -> None:
        """Replace at the destination what is different there, for this study only."""
        self._command(Verb.OVERWRITE_TRANSFER, transfer_id=transfer_id)

    def nodes_changed(self) -> None:
        """A node was edited: a running engine takes it up."""
        self._command(Verb.NODE_CHANGED)

    def _command(self, verb: Verb, *, job_id: int | None = None, transfer_id: int | None = None) -> None:
        self._ledger.command(verb, job_id=job_id, transfer_id=transfer_id)
        self._nudge()


class _PreviewCount:
    """Adds up a dry run, page by page. With `steps`, destinations are asked by the UIDs that they will give.

    `unseen` destinations can't be asked yet.
    """

    def __init__(
        self,
        destinations: list[Node],
        abort: Abort,
        progress: Callable[[Preview], None] | None,
        steps: JobSteps | None,
        unseen: int,
    ) -> None:
        remarks = () if steps is None else (BY_UID if steps.foretells else UNFORETOLD,)
        times = len(destinations) + unseen
        self.now = Preview(0, 0, 0, 0, 0, 0, 0, complete=True, remarks=remarks, destinations=times)
        self._steps = steps
        self._destinations = destinations
        self._abort = abort
        self._progress = progress
        self._said = 0.0

    def study(self, study: StudyInfo, pages: Iterable[list[InstanceRef] | tuple[InstanceRef, ...] | object]) -> None:
        series: set[str] = set()
        sample = self.now.sample
        if len(sample) < SAMPLE:
            words = " ".join(w for w in (study.study_date, "/".join(study.modalities), study.description) if w)
            sample = (*sample, " · ".join(w for w in (_person(study.patient_name), words) if w))
        self.now = replace(self.now, studies=self.now.studies + 1, sample=sample)
        for page in pages:
            assert isinstance(page, list | tuple)
            self._page(study, list(page), series)

    def _page(self, study: StudyInfo, page: list[InstanceRef], series: set[str]) -> None:
        fresh = {ref.series_uid for ref in page} - series
        series |= fresh
        times = self.now.destinations
        here, different = 0, 0
        for node in self._destinations:
            for start in range(0, len(page), ASK_AT_ONCE):
                same, other = self._there(node, study, page[start : start + ASK_AT_ONCE])
                here += same
                different += other
        n = self.now
        self.now = replace(
            n,
            series=n.series + len(fresh),
            instances=n.instances + len(page) * times,
            bytes=n.bytes + sum(ref.size or 0 for ref in page) * times,
            already_there=(n.already_there or 0) + here,
            different=(n.different or 0) + different,
        )
        if self._progress and time.monotonic() - self._said > 0.2:
            self._said = time.monotonic()
            self._progress(self.now)

    def _there(self, node: Node, study: StudyInfo, part: list[InstanceRef]) -> tuple[int, int]:
        if not isinstance(node, Confirm):
            return 0, 0
        if self._steps is not None:
            if not self._steps.foretells:
                return 0, 0
            there, part = self._steps.foretold(study, part)
            holdings = node.confirm(there, part, abort=self._abort)
            return sum(holding.presence is Presence.PRESENT for holding in holdings), 0
        same = different = 0
        for ref, holding in zip(part, node.confirm(study, part, abort=self._abort), strict=True):
            if holding.presence is not Presence.PRESENT:
                continue
            recoded = holding.transfer_syntax != ref.transfer_syntax
            if ref.digest and holding.digest and ref.digest != holding.digest and not recoded:
                different += 1
            else:
                same += 1
        return same, different


def told(now: Expanded) -> list[str]:
    """What a dry run has to say of the nodes that destinations stand for; sentences."""
    found = [now.left_out] if now.left_out else []
    if now.to_come:
        found.append(
            f"Not looked at: {', '.join(now.to_come)}. When the job starts, a node is made of each: what is there "
            "already is skipped then."
        )
    return found


def rule_field(kind: JobKind) -> str:
    """Name of the field in which a kind has its rule; empty where it has none."""
    return next((f.name for f in form_fields(kind.Fields) if f.type is FieldType.RULE), "")


def _person(name: str) -> str:
    """A person name (PS3.5 6.2.1) as people write it: the alphabetic group, or the first that there is."""
    group = next((g for g in name.split("=") if g.strip("^ ")), "")
    return ", ".join(p for p in (part.strip() for part in group.split("^")[:2]) if p)


def _default_name(kind: JobKind, fields: JobFields) -> str:
    if isinstance(fields, TransferFields):
        return f"{kind.title} {', '.join(fields.source)} to {', '.join(fields.destination)}"[:110]
    return kind.title
