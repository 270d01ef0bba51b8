"""Letting an Orthanc send by itself to a peer that it knows: `Push`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import quote

from core.model.study import InstanceRef
from core.nodes.base import Node, PushState, PushStatus
from core.nodes.orthanc.answers import number, text
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.fields import place_of

_CANCEL_WAIT = 5.0  # seconds until a cancelled job counts as still running
_CANCEL_STEP = 0.1


class OrthancPush(OrthancBase):
    """`Push` of an Orthanc (``/peers/{name}/store`` and ``/jobs``)."""

    def push_target(self, destination: Node) -> str:
        """The peer whose address is the destination's; "localhost" there is this server's own host."""
        if not isinstance(destination, OrthancBase):
            return ""
        wanted = place_of(destination.fields.url)
        for name, entry in sorted(self.rest.get_object("/peers?expand").items()):
            url = text(entry, "Url") if isinstance(entry, dict) else ""
            if url and place_of(url, self.fields.host) == wanted:
                return name
        return ""

    @property
    def pushes_studies(self) -> bool:
        return False

    def push(self, instances: Sequence[InstanceRef], target: str, *, whole: bool = False) -> str:
        path = f"/peers/{quote(target, safe='')}/store"
        payload = {"Resources": [one.ref for one in instances], "Synchronous": False, "Priority": 0}
        found = self.rest.json("POST", path, payload=payload)
        job = text(found, "ID") if isinstance(found, dict) else ""
        if not job:
            self.rest.unexpected(path, "no job was started")
        return job

    def push_status(self, job: str) -> PushStatus:
        path = f"/jobs/{quote(job, safe='')}"
        answer = self.rest.fetch("GET", path)
        if answer.status == 404 and job not in self.rest.get_identifiers("/jobs"):
            return PushStatus(PushState.GONE, detail="The server no longer knows the job.")
        found = self.rest.parsed(path, answer)
        if not isinstance(found, dict):
            self.rest.unexpected(path, "not a job")
        state = text(found, "State")
        progress = (number(found, "Progress") or 0) / 100
        if state == "Success":
            return PushStatus(PushState.DONE, 1.0)
        if state == "Failure":
            described = text(found, "ErrorDetails") or text(found, "ErrorDescription")
            return PushStatus(PushState.FAILED, progress, f"{described} ({number(found, 'ErrorCode')})")
        if state in ("Pending", "Running", "Paused", "Retry"):
            return PushStatus(PushState.RUNNING, progress, state)
        self.rest.unexpected(path, f"state {state!r}")

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
