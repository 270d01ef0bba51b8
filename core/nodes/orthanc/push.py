"""Letting an Orthanc send by itself to a peer or modality that it knows: `Push`."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from core.model.errors import AnswerError, ConfigurationError, NotSupportedError
from core.model.study import InstanceRef, Presence, StudyInfo
from core.nodes.base import Dimse, Node, PushStatus
from core.nodes.orthanc import jobs
from core.nodes.orthanc.answers import JsonObject, text
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.configuration import Modality, Peer
from core.nodes.orthanc.fields import place_of
from core.nodes.orthanc.holdings import holdings
from core.nodes.orthanc.modalities import known_modality

MODALITY = "modality:"  # no name of a peer or modality has a colon in it (Orthanc allows letters, digits, - and _)
STORE_TIMEOUT = 60  # seconds: the server's own default, 10, is too short for a busy PACS and a large image
_NOT_FOR_US = frozenset({"forbidden", "method", "gone"})


class OrthancPush(OrthancBase):
    """`Push` of an Orthanc (``/peers/{name}/store``, ``/modalities/{name}/store`` and ``/jobs``)."""

    def push_target(self, destination: Node) -> str:
        """The peer whose address is the destination's, or "modality:" and the modality that it is.

        "localhost" among them is this server's own host. An Orthanc is sent to as a peer only: it then gets the very
        same files, which its digests prove. By C-STORE it would write files of its own, with other digests.
        """
        if isinstance(destination, OrthancBase):
            wanted = place_of(destination.fields.url)
            for peer in self._peers():
                if peer.url and place_of(peer.url, self.fields.host) == wanted:
                    return peer.name
            return ""
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
        return jobs.started(self.rest, path, self.rest.json("POST", path, payload=payload))

    def _still_held(self, instances: Sequence[InstanceRef]) -> list[InstanceRef]:
        study = StudyInfo(study_uid=instances[0].study_uid, patient_id=instances[0].patient_id) if instances else None
        if study is None:
            return []
        held = holdings(self.rest, study, instances, own=True)
        return [one for one, now in zip(instances, held, strict=True) if now.presence is not Presence.ABSENT]

    def push_status(self, job: str) -> PushStatus:
        return jobs.status_of(self.rest, job)

    def push_cancel(self, job: str) -> bool:
        return jobs.cancel(self.rest, job)

    def push_resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        """Found among ``/jobs?expand`` by the resources that each job names and by where it sends them.

        A modality's job tells the AE title only: where the server knows several modalities with this one, none of
        their jobs is surely for `target`.
        """
        wanted = {one.ref for one in instances}
        for job in jobs.at_work(self.rest):
            if wanted & _resources(job) and self._sends_to(job, target):
                return text(job, "ID")
        return ""

    def _sends_to(self, job: JsonObject, target: str) -> bool:
        content = jobs.content_of(job)
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


def _resources(job: JsonObject) -> set[str]:
    """What a job was told to send (since Orthanc 1.5.7)."""
    listed = jobs.content_of(job).get("ParentResources")
    return {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()
