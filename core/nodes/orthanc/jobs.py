"""The jobs of an Orthanc: how far each is, and ending one (``/jobs``)."""

from __future__ import annotations

import time
from urllib.parse import quote

from core.nodes.base import PushState, PushStatus
from core.nodes.orthanc.answers import JsonObject, number, text
from core.nodes.orthanc.rest import OrthancRest

_CANCEL_WAIT = 5.0  # seconds until a cancelled job counts as still running
_CANCEL_STEP = 0.1
_AT_WORK = frozenset({"Pending", "Running", "Paused", "Retry"})


def status_of(rest: OrthancRest, job: str) -> PushStatus:
    """State of a job, asked now."""
    found = look(rest, job)
    if found is None:
        return PushStatus(PushState.GONE, detail="The server no longer knows the job.")
    return job_status(found) or rest.unexpected(f"/jobs/{job}", f"state {text(found, 'State')!r}")


def look(rest: OrthancRest, job: str) -> JsonObject | None:
    """A job as the server tells it now; None when it is gone from its history (``JobsHistorySize``)."""
    path = f"/jobs/{quote(job, safe='')}"
    answer = rest.fetch("GET", path)
    if answer.status == 404 and job not in rest.get_identifiers("/jobs"):
        return None
    found = rest.parsed(path, answer)
    if not isinstance(found, dict):
        rest.unexpected(path, "not a job")
    return found


def cancel(rest: OrthancRest, job: str) -> bool:
    """Cancel, and look until it has ended; a job that ended by itself meanwhile is not running either."""
    path = f"/jobs/{quote(job, safe='')}"
    answer = rest.fetch("POST", f"{path}/cancel", payload={}, idempotent=True)
    if answer.status != 200 and answer.status != 404:
        rest.refuse(f"{path}/cancel", answer.status, answer.headers, answer.body)
    deadline = time.monotonic() + _CANCEL_WAIT
    while status_of(rest, job).state is PushState.RUNNING:
        if time.monotonic() > deadline:
            return False
        time.sleep(_CANCEL_STEP)
    return True


def at_work(rest: OrthancRest) -> list[JsonObject]:
    """The jobs that have not ended, oldest first (``/jobs?expand``)."""
    found = rest.json("GET", "/jobs?expand")
    if not isinstance(found, list):
        rest.unexpected("/jobs?expand", "not a list of jobs")
    running = [job for job in found if isinstance(job, dict) and text(job, "State") in _AT_WORK]
    return sorted(running, key=lambda job: text(job, "CreationTime"))


def content_of(job: JsonObject) -> JsonObject:
    """What a job tells about itself beside its state."""
    content = job.get("Content")
    return content if isinstance(content, dict) else {}


def why_failed(job: JsonObject) -> tuple[str, int | None]:
    """A failed job's own words, and its error's number. A plugin's job tells them in its content (DICOMweb)."""
    content = content_of(job)
    for place, beginning in ((content, "FunctionError"), (job, "Error")):
        said = text(place, f"{beginning}Details") or text(place, f"{beginning}Description")
        if said:
            return said, number(place, f"{beginning}Code")
    return "", number(job, "ErrorCode")


def started(rest: OrthancRest, path: str, found: object) -> str:
    """The identifier in the answer to what starts a job."""
    job = text(found, "ID") if isinstance(found, dict) else ""
    if not job:
        rest.unexpected(path, "no job was started")
    return job


def job_status(job: JsonObject) -> PushStatus | None:
    """The state of a job of ``/jobs/{id}``; None where it is none that Orthanc has."""
    state = text(job, "State")
    progress = min(max((number(job, "Progress") or 0) / 100, 0.0), 1.0)
    left_out = number(content_of(job), "FailedInstancesCount")
    if state == "Success" and left_out:  # a job that was told to go on after failures
        return PushStatus(PushState.FAILED, progress, f"{left_out} images could not be sent")
    if state == "Success":
        return PushStatus(PushState.DONE, 1.0)
    if state == "Failure":
        said, code = why_failed(job)
        return PushStatus(PushState.FAILED, progress, f"{said} ({code})")
    if state in _AT_WORK:
        return PushStatus(PushState.RUNNING, progress, state)
    return None
