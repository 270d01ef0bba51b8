"""Letting an Orthanc send by itself to a peer or modality that it knows: `Push`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import quote

from core.model.errors import AnswerError, ConfigurationError, NotSupportedError
from core.model.study import InstanceRef, Presence, StudyInfo
from core.nodes.base import Dimse, Node, PushState, PushStatus
from core.nodes.orthanc.answers import JsonObject, number, text
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.configuration import Modality, Peer
from core.nodes.orthanc.fields import place_of
from core.nodes.orthanc.holdings import holdings
from core.nodes.orthanc.modalities import known_modality

MODALITY = "modality:"  # no name of a peer or modality has a colon in it (Orthanc allows letters, digits, - and _)
STORE_TIMEOUT = 60  # seconds: the server's own default, 10, is too short for a busy PACS and a large image
_CANCEL_WAIT = 5.0  # seconds until a cancelled job counts as still running
_CANCEL_STEP = 0.1
_AT_WORK = frozenset({"Pending", "Running", "Paused", "Retry"})
_NOT_FOR_US = frozenset({"forbidden", "method", "gone"})


class OrthancPush(OrthancBase):
    """`Push` of an Orthanc (``/peers/{name}/store``, ``/modalities/{name}/store`` and ``/jobs``)."""

    def push_target(self, destination: Node) -> str:
        """The peer whose address is the destination's, or "modality:" and the modality that it is.

        "localhost" among them is this server's own host. A peer is taken first: it gets the very same files.
        """
        if isinstance(destination, OrthancBase):
            if destination.place == self.place:
                return ""
            wanted = place_of(destination.fields.url)
            for peer in self._peers():
                if peer.url and place_of(peer.url, self.fields.host) == wanted:
                    return peer.name
        if not isinstance(destination, Dimse):
            return ""
        modalities = self._modalities()
        if not modalities:
            return ""
        try:
            address = destination.dicom_address()
        except NotSupportedError:
            return ""
        modality = known_modality(modalities, address, self.fields.host)
        return MODALITY + modality.name if modality is not None else ""

    @property
    def pushes_studies(self) -> bool:
        return False

    def push(self, instances: Sequence[InstanceRef], target: str, *, whole: bool = False) -> str:
        """Start the job with those of them that are still there.

        Raises
        ------
        ConfigurationError
            The server no longer knows the target.
        AnswerError
            ``gone`` when none of them is there any more.
        """
        try:
            return self._start(instances, target)
        except AnswerError as error:
            if error.code != "gone":
                raise
            # One that is gone, or an unknown target: the server's answer is the same, and nothing was started.
            left = self._still_held(instances)
            if not left:
                raise
            if len(left) == len(instances):
                raise self._unknown(target, error.detail) from error
        return self._start(left, target)

    def _start(self, instances: Sequence[InstanceRef], target: str) -> str:
        payload: JsonObject = {"Resources": [one.ref for one in instances], "Synchronous": False, "Priority": 0}
        if target.startswith(MODALITY):
            modality = self._modality(target.removeprefix(MODALITY))
            path = f"/modalities/{quote(modality.name, safe='')}/store"
            payload["StorageCommitment"] = False  # it would be one report for all of them, which nobody here reads
            if not modality.timeout:
                payload["Timeout"] = STORE_TIMEOUT
        else:
            path = f"/peers/{quote(target, safe='')}/store"
        found = self.rest.json("POST", path, payload=payload)
        job = text(found, "ID") if isinstance(found, dict) else ""
        if not job:
            self.rest.unexpected(path, "no job was started")
        return job

    def _still_held(self, instances: Sequence[InstanceRef]) -> list[InstanceRef]:
        study = StudyInfo(study_uid=instances[0].study_uid, patient_id=instances[0].patient_id) if instances else None
        if study is None:
            return []
        held = holdings(self.rest, study, instances, own=True)
        return [one for one, now in zip(instances, held, strict=True) if now.presence is not Presence.ABSENT]

    def push_status(self, job: str) -> PushStatus:
        path = f"/jobs/{quote(job, safe='')}"
        answer = self.rest.fetch("GET", path)
        if answer.status == 404 and job not in self.rest.get_identifiers("/jobs"):
            return PushStatus(PushState.GONE, detail="The server no longer knows the job.")
        found = self.rest.parsed(path, answer)
        if not isinstance(found, dict):
            self.rest.unexpected(path, "not a job")
        return job_status(found) or self.rest.unexpected(path, f"state {text(found, 'State')!r}")

    def push_cancel(self, job: str) -> bool:
        """Cancel, and look until it has ended; a job that ended by itself meanwhile is not running either."""
        path = f"/jobs/{quote(job, safe='')}"
        answer = self.rest.fetch("POST", f"{path}/cancel", payload={}, idempotent=True)
        if answer.status != 200 and answer.status != 404:
            self.rest.refuse(f"{path}/cancel", answer.status, answer.headers, answer.body)
        deadline = time.monotonic() + _CANCEL_WAIT
        while self.push_status(job).state is PushState.RUNNING:
            if time.monotonic() > deadline:
                return False
            time.sleep(_CANCEL_STEP)
        return True

    def push_resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        """Found among ``/jobs?expand`` by the resources that each job names and by where it sends them.

        A modality's job tells the AE title only: where the server knows several modalities with this one, none of
        their jobs is surely for `target`.
        """
        wanted = {one.ref for one in instances}
        found = self.rest.json("GET", "/jobs?expand")
        if not isinstance(found, list):
            self.rest.unexpected("/jobs?expand", "not a list of jobs")
        at_work = [job for job in found if isinstance(job, dict) and text(job, "State") in _AT_WORK]
        mine = [job for job in at_work if wanted & _resources(job)]
        for job in sorted(mine, key=lambda job: text(job, "CreationTime")):
            if self._sends_to(job, target):
                return text(job, "ID")
        return ""

    def _sends_to(self, job: JsonObject, target: str) -> bool:
        content = job["Content"]
        if text(job, "Type") == "DicomModalityStore" and target.startswith(MODALITY):
            aet = self._modality(target.removeprefix(MODALITY)).aet
            alike = [m for m in self._modalities() if m.aet == aet]
            return text(content, "RemoteAet") == aet and len(alike) == 1
        if text(job, "Type") == "OrthancPeerStore" and not target.startswith(MODALITY):
            entry = content.get("Peer")
            if isinstance(entry, list) and entry:  # a peer without further settings: address, user name
                url = str(entry[0])
            else:
                url = text(entry, "Url") if isinstance(entry, dict) else ""
            return any(peer.name == target and peer.url.rstrip("/") == url.rstrip("/") for peer in self._peers())
        return False

    def _modality(self, name: str) -> Modality:
        modality = self.configuration.modality(name)
        if modality is None:
            raise self._unknown(MODALITY + name)
        return modality

    def _unknown(self, target: str, detail: str = "") -> ConfigurationError:
        what = "modality" if target.startswith(MODALITY) else "peer"
        return ConfigurationError(
            f"“{self.name}” no longer knows the {what} “{target.removeprefix(MODALITY)}”.",
            "Add it again in the settings of that server, or send through this computer.",
            detail=detail,
            code="push-target",
        )

    def _peers(self) -> list[Peer]:
        """None where the server doesn't let us see them: it won't let us send to them either."""
        try:
            return self.configuration.peers()
        except AnswerError as error:
            if error.code in _NOT_FOR_US:
                return []
            raise

    def _modalities(self) -> list[Modality]:
        try:
            return self.configuration.modalities()
        except AnswerError as error:
            if error.code in _NOT_FOR_US:
                return []
            raise


def job_status(job: JsonObject) -> PushStatus | None:
    """The state of a job of ``/jobs/{id}``; None where it is none that Orthanc has."""
    state = text(job, "State")
    progress = min(max((number(job, "Progress") or 0) / 100, 0.0), 1.0)
    content = job.get("Content")
    left_out = number(content, "FailedInstancesCount") if isinstance(content, dict) else None
    if state == "Success" and left_out:  # a job that was told to go on after failures
        return PushStatus(PushState.FAILED, progress, f"{left_out} images could not be sent")
    if state == "Success":
        return PushStatus(PushState.DONE, 1.0)
    if state == "Failure":
        described = text(job, "ErrorDetails") or text(job, "ErrorDescription")
        return PushStatus(PushState.FAILED, progress, f"{described} ({number(job, 'ErrorCode')})")
    if state in _AT_WORK:
        return PushStatus(PushState.RUNNING, progress, state)
    return None


def _resources(job: JsonObject) -> set[str]:
    """What a job was told to send (since Orthanc 1.5.7)."""
    content = job.get("Content")
    listed = content.get("ParentResources") if isinstance(content, dict) else None
    return {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()
