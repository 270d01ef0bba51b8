"""C-MOVE by an Orthanc: its jobs that make a modality send to a third one, followed to their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from core.model.errors import AnswerError
from core.model.study import InstanceRef
from core.nodes.base import PushState, PushStatus
from core.nodes.intermediary import BeyondError
from core.nodes.orthanc import jobs
from core.nodes.orthanc.answers import JsonObject, text
from core.nodes.orthanc.capabilities import version_numbers
from core.nodes.orthanc.remote_errors import modality_error, status_in
from core.nodes.orthanc.remote_find import remove_query
from core.wire.dimse.retrieval import Retrieval, Wanted
from core.wire.dimse.status import Meaning, Service, dimse_answer, status_row

if TYPE_CHECKING:
    from core.nodes.orthanc.remote import RemoteModality

_LEVELS = {"STUDY": "Study", "SERIES": "Series", "IMAGE": "Instance"}
_MOVES_BY_JOB = (1, 11, 1)  # from this version on /modalities/{name}/move can be a job
_TO_START = 60.0  # seconds until the server has to have begun a job
_BETWEEN = "+"  # of the identifiers of several jobs that are one for us
_SUCCESS = 0x0000
_STUDY, _IMAGE = "0020,000d", "0008,0018"


class RemoteMoves:
    """The C-MOVEs of one modality."""

    def __init__(self, entity: RemoteModality) -> None:
        self._entity = entity
        self._rest = entity.rest

    def start(self, wanted: Sequence[Wanted], target: str, timeout: float) -> str:
        """One job where the server can (since 1.11.1), else one for each request, by way of a query."""
        options: JsonObject = {"TargetAet": target, "Synchronous": False, "Timeout": max(1, round(timeout))}
        if version_numbers(self._rest.capabilities().version) >= _MOVES_BY_JOB:
            payload = {"Level": _LEVELS[wanted[0].level], "Resources": [_keys(one) for one in wanted], **options}
            found = self._entity.command(Service.MOVE, "move", payload, wait=_TO_START)
            return jobs.started(self._rest, "/modalities/…/move", found)
        begun: list[str] = []
        try:
            for one in wanted:
                begun.append(self._by_query(one, options, timeout))
        except BaseException:
            for job in begun:
                jobs.cancel(self._rest, job)
            raise
        return _BETWEEN.join(begun)

    def _by_query(self, wanted: Wanted, options: JsonObject, timeout: float) -> str:
        """The job that retrieves all answers of a query, which is removed again at once."""
        payload = {"Level": _LEVELS[wanted.level], "Query": _keys(wanted), "Normalize": False}
        made = self._entity.command(
            Service.FIND, "query", payload | {"Timeout": options["Timeout"]}, wait=max(timeout, _TO_START)
        )
        query = text(made, "ID")
        if not query:
            self._rest.unexpected("/modalities/…/query", "no query was made")
        path = f"/queries/{quote(query, safe='')}/retrieve"
        try:
            return jobs.started(self._rest, path, self._rest.json("POST", path, payload=options))
        finally:
            remove_query(self._rest, query)

    def status(self, job: str) -> PushStatus:
        """That of all its jobs together. A job that was partly done is done: the destination tells which images."""
        found = [self._in_words(jobs.status_of(self._rest, one)) for one in job.split(_BETWEEN)]
        progress = sum(1.0 if one.state is not PushState.RUNNING else one.progress for one in found) / len(found)
        states = {one.state for one in found}
        detail = "; ".join(dict.fromkeys(one.detail for one in found if one.detail))
        if PushState.RUNNING in states:
            return PushStatus(PushState.RUNNING, progress, detail)
        if PushState.DONE in states:
            return PushStatus(PushState.DONE, 1.0, detail)
        return PushStatus(PushState.GONE if PushState.GONE in states else PushState.FAILED, found[0].progress, detail)

    def ended(self, job: str) -> Retrieval | None:
        """By the jobs' errors; Orthanc tells no counters."""
        found = [jobs.status_of(self._rest, one) for one in job.split(_BETWEEN)]
        if any(one.state is PushState.RUNNING for one in found):
            return None
        bad = next((one for one in found if one.state is not PushState.DONE), None)
        if bad is None:
            return Retrieval(_SUCCESS, counted=False)
        status = status_in(bad.detail)
        if status is None:
            raise self._error(bad) or dimse_answer("move-no-end", node=self._entity.node, detail=bad.detail)
        return Retrieval(status, comment=bad.detail, counted=False)

    def cancel(self, job: str) -> bool:
        ended = [jobs.cancel(self._rest, one) for one in job.split(_BETWEEN)]  # each, whatever became of the others
        return all(ended)

    def resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        """Found by the request that each job names, and by its target (told since Orthanc 1.12)."""
        aet = self._entity.modality().aet
        studies = {one.study_uid for one in instances}
        images = {one.sop_uid for one in instances}
        for job in jobs.at_work(self._rest):
            content = jobs.content_of(job)
            ours = text(content, "TargetAet") == target and text(content, "RemoteAet") == aet
            if ours and text(job, "Type") == "DicomMoveScu" and _concerns(content.get("Query"), studies, images):
                return text(job, "ID")
        return ""

    def _in_words(self, status: PushStatus) -> PushStatus:
        if status.state is not PushState.FAILED:
            return status
        said = status_in(status.detail)
        if said is not None and status_row(Service.MOVE, said).meaning is Meaning.WARNING:
            return PushStatus(PushState.DONE, 1.0, status.detail)
        error = self._error(status)
        words = f"{error.sentence} ({status.detail})" if error is not None and status.detail else status.detail
        return PushStatus(PushState.FAILED, status.progress, words)

    def _error(self, status: PushStatus) -> AnswerError | BeyondError | None:
        """What a failed job's text stands for; it ends with the error's number in brackets."""
        if status.state is not PushState.FAILED:
            return None
        said, _, code = status.detail.rpartition(" (")
        number = code.removesuffix(")")
        return modality_error(
            Service.MOVE,
            int(number) if number.isdigit() else None,
            said,
            node=self._entity.node,
            server=self._rest.node,
        )


def _keys(wanted: Wanted) -> dict[str, str]:
    return {keyword: value for keyword, value in wanted.keys().items() if keyword != "QueryRetrieveLevel"}


def _concerns(query: object, studies: set[str], images: set[str]) -> bool:
    """Whether a job is about any of these images: by itself or with its study or series."""
    if not isinstance(query, list):
        return False
    for row in query:
        if isinstance(row, dict) and not studies.isdisjoint(text(row, _STUDY).split("\\")):
            named = text(row, _IMAGE)
            if not named or not images.isdisjoint(named.split("\\")):
                return True
    return False
