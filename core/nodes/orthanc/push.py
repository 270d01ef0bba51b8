"""Letting an Orthanc send by itself to a peer, a modality or a DICOMweb server that it knows: `Push`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import quote

from core.model.errors import AnswerError, FerryError
from core.model.outcome import Failure, FailureClass
from core.model.study import InstanceRef, Presence, StudyInfo
from core.nodes.base import Node, PushState, PushStatus
from core.nodes.orthanc import jobs
from core.nodes.orthanc.answers import JsonObject, text
from core.nodes.orthanc.configuration import Modality
from core.nodes.orthanc.fields import OrthancFields, SendBy
from core.nodes.orthanc.holdings import holdings
from core.nodes.orthanc.plugins import dicomweb_root
from core.nodes.orthanc.push_errors import IN_DOUBT, STOW, TRANSFER, push_error, unknown_target
from core.nodes.orthanc.push_targets import OrthancTargets, PushTarget, PushWay
from core.nodes.orthanc.rest import OrthancRest
from core.wire.status import answer_error
from core.wire.tls import TlsSettings

STORE_TIMEOUT = 60  # seconds: the server's own default, 10, is too short for a busy PACS and a large image
MOST_BYTES = 1 << 30  # of one STOW-RS request: services and the proxies before them bound what they take at once
USUAL_TIMEOUT = 60  # seconds: Orthanc's ``HttpTimeout`` where it is not set
SLOW_LINK = 4_000_000  # bytes per second of the slowest link on which a request ends in time
_REMEMBERED = 1000  # jobs of which it is known what they send to, for the words about their end
_BETWEEN = "+"  # of the identifiers of several jobs that are one for us


class OrthancPush(OrthancTargets):
    """`Push`, `PushResume` and `PushWords` of an Orthanc: ``/peers/{name}/store``, ``/modalities/{name}/store``,
    ``/dicom-web/servers/{name}/stow``, ``/transfers/send``, and ``/jobs`` to follow all of them."""

    def __init__(
        self, name: str, fields: OrthancFields, rest: OrthancRest, *, tls: TlsSettings, proxied: bool = False
    ) -> None:
        super().__init__(name, fields, rest, tls=tls, proxied=proxied)
        self._tokens: dict[str, Callable[[], str] | None] = {}  # by target
        self._started: dict[str, PushTarget] = {}  # by job, the latest ones

    def push_target(self, destination: Node) -> str:
        """How this server knows the destination, as one word (`PushTarget`)."""
        target = self.known_as(destination)
        if target is None:
            return ""
        if target.way is PushWay.STOW:
            self._tokens[str(target)] = self.lent_token(destination)
        return str(target)

    def push_words(self, target: str) -> str:
        lent = ", with this program's token" if self._tokens.get(target) is not None else ""
        return PushTarget.parse(target).words + lent

    def push_pays(self, target: str) -> bool:
        """STOW-RS is half as fast as the way through this computer (1.12), or as fast (1.10)."""
        return PushTarget.parse(target).way is not PushWay.STOW or self.fields.send_by is SendBy.STOW

    def push_refusal(self, destination: Node) -> str:
        return self.why_unknown(destination)

    @property
    def pushes_studies(self) -> bool:
        return False

    # --- starting ---

    def push(self, instances: Sequence[InstanceRef], target: str, *, whole: bool = False) -> str:
        """Start the job with those of them that are still there; several as one where one would be too large.

        Raises
        ------
        ConfigurationError
            The server no longer knows the target.
        AnswerError
            ``gone`` when none of them is there any more.
        """
        known = PushTarget.parse(target)
        if known.way is PushWay.ACCELERATOR:  # its job would fail for all of them by one that is gone
            held = self._still_held(instances)
            if not held and instances:
                raise answer_error("gone", node=self.name, status=404, detail="none of the images is there any more")
            try:
                return self._start(held, known)
            except AnswerError as error:
                raise unknown_target(self.name, known, error.detail) if error.code == "gone" else error from error
        try:
            return self._start(instances, known)
        except AnswerError as error:
            if error.code != "gone":
                raise
            # One that is gone, or an unknown target: the server's answer is the same, and nothing was started.
            left = self._still_held(instances)
            if not left:
                raise
            if len(left) == len(instances):
                raise unknown_target(self.name, known, error.detail) from error
        return self._start(left, known)

    def _start(self, instances: Sequence[InstanceRef], target: PushTarget) -> str:
        parts = in_parts(instances, self._most_bytes(target)) if target.way is PushWay.STOW else [instances]
        begun: list[str] = []
        try:
            for part in parts:
                path, payload = self._order(part, target)
                begun.append(jobs.started(self.rest, path, self.rest.json("POST", path, payload=payload)))
        except BaseException:
            for job in begun:
                jobs.cancel(self.rest, job)
            raise
        job = _BETWEEN.join(begun)
        self._started[job] = target
        while len(self._started) > _REMEMBERED:
            self._started.pop(next(iter(self._started)), None)
        return job

    def _most_bytes(self, target: PushTarget) -> int:
        """Of one STOW-RS request: Orthanc ends it after the entry's ``Timeout``, however much is still to come."""
        entry = next((s for s in self.configuration.dicomweb_servers() if s.name == target.name), None)
        seconds = entry.timeout if entry is not None and entry.timeout else USUAL_TIMEOUT
        return min(MOST_BYTES, seconds * SLOW_LINK)

    def _order(self, instances: Sequence[InstanceRef], target: PushTarget) -> tuple[str, JsonObject]:
        """Path and payload of the request that starts a job."""
        resources = [one.ref for one in instances]
        payload: JsonObject = {"Resources": resources, "Synchronous": False, "Priority": 0}
        name = quote(target.name, safe="")
        if target.way is PushWay.MODALITY:
            modality = self._modality(target)
            payload["StorageCommitment"] = False  # it would be one report for all of them, which nobody here reads
            if not modality.timeout:
                payload["Timeout"] = STORE_TIMEOUT
            return f"/modalities/{name}/store", payload
        if target.way is PushWay.ACCELERATOR:
            return "/transfers/send", {
                "Resources": [{"Level": "Instance", "ID": one} for one in resources],
                "Compression": "gzip" if self.fields.gzip else "none",
                "Peer": target.name,
                "Priority": 0,
            }
        if target.way is PushWay.STOW:
            token = self._tokens.get(str(target))
            if token is not None:  # of this one request: it is kept in no configuration, and told by no job
                payload["HttpHeaders"] = {"Authorization": token()}
            return f"{dicomweb_root(self.rest)}/servers/{name}/stow", payload
        return f"/peers/{name}/store", payload

    def _still_held(self, instances: Sequence[InstanceRef]) -> list[InstanceRef]:
        study = StudyInfo(study_uid=instances[0].study_uid, patient_id=instances[0].patient_id) if instances else None
        if study is None:
            return []
        held = holdings(self.rest, study, instances, own=True)
        return [one for one, now in zip(instances, held, strict=True) if now.presence is not Presence.ABSENT]

    def _modality(self, target: PushTarget) -> Modality:
        modality = self.configuration.modality(target.name)
        if modality is None:
            raise unknown_target(self.name, target)
        return modality

    # --- following ---

    def push_status(self, job: str) -> PushStatus:
        """That of all its jobs together: done when all are, failed when one is and none goes on."""
        target = self._started.get(job)
        return together([self._status(one, target) for one in job.split(_BETWEEN)])

    def _status(self, job: str, target: PushTarget | None) -> PushStatus:
        found = jobs.look(self.rest, job)
        if found is None:
            return PushStatus(PushState.GONE, detail="The server no longer knows the job.")
        status = jobs.job_status(found) or self.rest.unexpected(f"/jobs/{job}", f"state {text(found, 'State')!r}")
        if status.state is not PushState.FAILED:
            return status
        lent = self._tokens.get(str(target)) is not None
        return replace(status, error=push_error(found, server=self.name, target=target, lent=lent))

    def push_cancel(self, job: str) -> bool:
        ended = [jobs.cancel(self.rest, one) for one in job.split(_BETWEEN)]  # each, whatever became of the others
        return all(ended)

    def push_resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        """Found among ``/jobs?expand`` by the resources that each job names and by where it sends them.

        A modality's job tells the AE title only: where the server knows several modalities with this one, none of
        their jobs is surely for `target`. The DICOMweb plugin's job tells neither before version 1.18, and that of
        the accelerator not before it begins: then it counts as one for `target`, and its end is waited for.
        """
        wanted = {one.ref for one in instances}
        known = PushTarget.parse(target)
        for job in jobs.at_work(self.rest):
            if wanted and self._sends_to(job, known) and (not (named := resources_of(job)) or named & wanted):
                return text(job, "ID")
        return ""

    def _sends_to(self, job: JsonObject, target: PushTarget) -> bool:
        content = jobs.content_of(job)
        kind = text(job, "Type")
        if kind == "DicomModalityStore" and target.way is PushWay.MODALITY and resources_of(job):
            aet = self._modality(target).aet
            alike = [m for m in self.configuration.modalities() if m.aet == aet]
            return text(content, "RemoteAet") == aet and len(alike) == 1
        if kind == "OrthancPeerStore" and target.way is PushWay.PEER and resources_of(job):
            entry = content.get("Peer")
            if isinstance(entry, list) and entry:  # a peer without further settings: address, user name
                url = str(entry[0])
            else:
                url = text(entry, "Url") if isinstance(entry, dict) else ""
            peers = self.configuration.peers()
            return any(peer.name == target.name and peer.url.rstrip("/") == url.rstrip("/") for peer in peers)
        if kind == STOW and target.way is PushWay.STOW:
            return text(content, "Server") in ("", target.name)
        if kind == TRANSFER and target.way is PushWay.ACCELERATOR:
            return text(content, "Peer") in ("", target.name)
        return False

    # --- what it means ---

    def failure(self, error: FerryError, side: str) -> Failure:
        found = super().failure(error, side)
        return replace(found, cls=FailureClass.ASK) if error.code in IN_DOUBT else found


def in_parts(instances: Sequence[InstanceRef], most: int) -> list[list[InstanceRef]]:
    """Instances for one request each: at most `most` bytes, series together as far as they fit.

    An image that is larger than that is a part of its own. What is of unknown size counts as nothing.
    """
    by_series: dict[str, list[InstanceRef]] = {}
    for one in instances:
        by_series.setdefault(one.series_uid, []).append(one)
    parts: list[list[InstanceRef]] = [[]]
    room = most
    for series in by_series.values():
        if parts[-1] and sum(one.size or 0 for one in series) > room:
            parts.append([])
            room = most
        for one in series:
            if parts[-1] and (one.size or 0) > room:
                parts.append([])
                room = most
            parts[-1].append(one)
            room -= one.size or 0
    return parts


def together(found: Sequence[PushStatus]) -> PushStatus:
    """The state of several jobs that are one for us."""
    if len(found) == 1:
        return found[0]
    progress = sum(1.0 if one.state is PushState.DONE else one.progress for one in found) / len(found)
    detail = "; ".join(dict.fromkeys(one.detail for one in found if one.detail))
    for state in (PushState.RUNNING, PushState.FAILED, PushState.GONE):
        if any(one.state is state for one in found):
            error = next((one.error for one in found if one.error is not None), None)
            return PushStatus(state, progress, detail, None if state is PushState.RUNNING else error)
    return PushStatus(PushState.DONE, 1.0, detail)


def resources_of(job: JsonObject) -> set[str]:
    """What a job was told to send: of Orthanc's own jobs since 1.5.7, of plugins' as far as they tell it."""
    content = jobs.content_of(job)
    listed = content.get("ParentResources")
    found = content.get("Resources")
    if isinstance(found, dict):  # DICOMweb: by kind of resource
        listed = [one for group in found.values() if isinstance(group, list) for one in group]
    elif isinstance(found, list):  # transfers accelerator
        listed = [one.get("ID") for one in found if isinstance(one, dict)]
    return {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()
