"""What an Orthanc keeps beside the images of a study, on its way to another Orthanc: labels, metadata, attachments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from core.model.errors import AnswerError, FerryError, NotSupportedError
from core.model.job import ExtraKind
from core.model.study import StudyInfo
from core.nodes.base import Node
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.marking import study_refs
from core.nodes.orthanc.rest import OrthancRest
from core.wire.http import Abort, Answer
from core.wire.status import answer_error

_PAGE = 200  # resources that are asked about in one row of requests
_FREE = 1024  # metadata and content types from here on are the users' own (Orthanc book, "Metadata", "Attachments")

# What the server itself keeps (OrthancServer/ServerEnumerations); a name that is none of these was registered by a
# user (``UserMetadata``, ``UserContentType``).
_OWN_METADATA = frozenset(
    {
        "AnonymizedFrom", "CalledAET", "ExpectedNumberOfInstances", "HttpHost", "HttpUsername", "IndexInSeries",
        "LastUpdate", "MainDicomSequences", "MainDicomTagsSignature", "ModifiedFrom", "Origin", "PatientRecycling",
        "PixelDataOffset", "PixelDataVR", "ReceptionDate", "RemoteAET", "RemoteIP", "SopClassUid", "TransferSyntax",
    }
)  # fmt: skip
_OWN_ATTACHMENTS = re.compile(r"dicom(-as-json|-until-pixel-data)?")


class OrthancExtras(OrthancBase):
    """`Extras` of an Orthanc: from one Orthanc to another, whose identifiers are the same."""

    def carry_extras(
        self,
        study: StudyInfo,
        destination: Node,
        kinds: frozenset[ExtraKind],
        *,
        overwrite: bool = False,
        abort: Abort | None = None,
    ) -> list[str]:
        """By ``/labels`` (since 1.12.0), ``/metadata`` and ``/attachments`` of study, series and instances.

        What belongs to the patient is left alone: it is shared with other studies.
        """
        if not isinstance(destination, OrthancBase):
            raise NotSupportedError(
                f"{destination.name} is no Orthanc server, so it takes images only.",
                "Leave out labels, metadata and attachments.",
                code="extras",
            )
        copy = _Copy(self.rest, destination.rest, overwrite, abort)
        for level, refs in _resources(self.rest, study, abort):
            for start in range(0, len(refs), _PAGE):
                page = copy.held(level, refs[start : start + _PAGE])
                if ExtraKind.LABELS in kinds:
                    copy.labels(level, page)
                if ExtraKind.METADATA in kinds:
                    copy.metadata(level, page)
                if ExtraKind.ATTACHMENTS in kinds:
                    copy.attachments(level, page)
        return copy.differences


def _resources(rest: OrthancRest, study: StudyInfo, abort: Abort | None) -> Iterator[tuple[str, list[str]]]:
    """Identifiers by level, of the study as the source holds it now."""
    for ref in study_refs(rest, study):
        yield "studies", [ref]
        for series in rest.resources("/series", rest.json("GET", f"/studies/{ref}/series", abort=abort)):
            yield "series", [series["ID"]]
            held = rest.get_object(f"/series/{series['ID']}", abort=abort).get("Instances")
            yield "instances", [str(one) for one in held] if isinstance(held, list) else []


class _Copy:
    """One study's extras on their way; what is different at the destination is told, and replaced only if asked."""

    def __init__(self, source: OrthancRest, destination: OrthancRest, overwrite: bool, abort: Abort | None) -> None:
        self.source = source
        self.destination = destination
        self.overwrite = overwrite
        self.abort = abort
        self.differences: list[str] = []

    def held(self, level: str, refs: Sequence[str]) -> list[str]:
        """Those of some resources that the destination holds: the others' images did not get there."""
        paths = [f"/{level}/{ref}/metadata" for ref in refs]
        answers = self.destination.pipeline(paths, abort=self.abort)
        found = []
        for ref, path, answer in zip(refs, paths, answers, strict=True):
            if not self.destination.says_absent(path, answer):
                self.destination.parsed(path, answer)
                found.append(ref)
        return found

    def labels(self, level: str, refs: Sequence[str]) -> None:
        """Labels that the destination lacks; none is removed there."""
        if not self.source.capabilities(abort=self.abort).labels:
            return
        ours = self._lists(self.source, level, refs, "labels")
        if not any(ours):
            return
        if not self.destination.capabilities(abort=self.abort).labels:
            raise NotSupportedError(
                f"“{self.destination.node}” has no labels: they came with Orthanc 1.12.0.",
                "Leave out the labels, or update the destination.",
                code="labels",
            )
        for ref, mine, theirs in zip(refs, ours, self._lists(self.destination, level, refs, "labels"), strict=True):
            for label in sorted(set(mine) - set(theirs)):
                self._put(f"/{level}/{ref}/labels/{quote(label, safe='')}", b"")

    def metadata(self, level: str, refs: Sequence[str]) -> None:
        """The users' own metadata."""
        suffix = "metadata?expand"
        wanted: dict[str, dict[str, str]] = {}
        for ref, answer in self._ask(self.source, level, refs, suffix):
            mine = _users(self._mapping(self.source, f"/{level}/{ref}/{suffix}", answer), _OWN_METADATA)
            if mine:
                wanted[ref] = mine
        for ref, answer in self._ask(self.destination, level, list(wanted), suffix):
            theirs = self._mapping(self.destination, f"/{level}/{ref}/{suffix}", answer)
            for name, value in wanted[ref].items():
                if name not in theirs or self._replaces(theirs[name] == value, "metadata", name):
                    self._put_named(f"/{level}/{ref}/metadata/{quote(name, safe='')}", name, str(value).encode())

    def attachments(self, level: str, refs: Sequence[str]) -> None:
        """The users' own attachments, compared by their MD5 before and after."""
        ours = self._lists(self.source, level, refs, "attachments")
        wanted = [(ref, [n for n in mine if _is_users_file(n)]) for ref, mine in zip(refs, ours, strict=True)]
        wanted = [(ref, mine) for ref, mine in wanted if mine]
        theirs = self._lists(self.destination, level, [ref for ref, _ in wanted], "attachments")
        for (ref, names), present in zip(wanted, theirs, strict=True):
            for name in names:
                path = f"/{level}/{ref}/attachments/{quote(name, safe='')}"
                digest = self._digest(self.source, path)
                if name in present and not self._replaces(
                    self._digest(self.destination, path) == digest, "attachment", name
                ):
                    continue
                self._send_attachment(path, name)
                if self._digest(self.destination, path) != digest:
                    raise answer_error(
                        "not-stored", node=self.destination.node, status=200, detail=f"{path}: another MD5 than sent"
                    )

    def _replaces(self, same: bool, what: str, name: str) -> bool:
        """Whether what is there already is to be written anew."""
        if same:
            return False
        if not self.overwrite:
            words = f"{self.destination.node} holds another value of the {what} “{name}”: it was left as it is there."
            if words not in self.differences:
                self.differences.append(words)
        return self.overwrite

    def _send_attachment(self, path: str, name: str) -> None:
        """As a stream: an attachment may be of any size."""
        with self.source.pool.request("GET", f"{path}/data", abort=self.abort) as response:
            if response.status != 200:
                self.source.refuse(path, response.status, response.headers, response.read_all(65536))
            self._put_named(path, name, response)

    def _put_named(self, path: str, name: str, body: object) -> None:
        try:
            self._put(path, body)
        except AnswerError as error:
            if error.status not in (400, 404) or name.isdigit():
                raise
            raise FerryError(
                f"{self.destination.node} does not know “{name}”.",
                "Enter it there under the same number (UserMetadata or UserContentType in its configuration).",
                detail=error.detail,
                code="extras-unknown",
            ) from error

    def _put(self, path: str, body: object) -> None:
        # A value that is replaced needs its revision where the server checks them (``CheckRevisions``, since 1.9.2).
        headers: dict[str, str] = {}
        if self.overwrite:
            now = self.destination.fetch("GET", path, abort=self.abort) if "/metadata/" in path else None
            tag = now.headers.get("etag", "") if now is not None and now.status == 200 else ""
            headers = {"If-Match": tag} if tag else {}
        answer = self.destination.pool.fetch(
            "PUT", path, body=body, content_type="application/octet-stream", headers=headers,  # type: ignore[arg-type]
            abort=self.abort, idempotent=True,
        )  # fmt: skip
        if answer.status != 200:
            self.destination.refuse(path, answer.status, answer.headers, answer.body)

    def _ask(self, rest: OrthancRest, level: str, refs: Sequence[str], what: str) -> Iterator[tuple[str, Answer]]:
        paths = [f"/{level}/{ref}/{what}" for ref in refs]
        yield from zip(refs, rest.pipeline(paths, abort=self.abort) if paths else (), strict=True)

    def _lists(self, rest: OrthancRest, level: str, refs: Sequence[str], what: str) -> list[list[str]]:
        found = []
        for ref, answer in self._ask(rest, level, refs, what):
            names = rest.parsed(f"/{level}/{ref}/{what}", answer)
            if not isinstance(names, list):
                rest.unexpected(f"/{level}/{ref}/{what}", "not a list")
            found.append([str(name) for name in names])
        return found

    def _mapping(self, rest: OrthancRest, path: str, answer: Answer) -> dict[str, str]:
        found = rest.parsed(path, answer)
        if not isinstance(found, dict):
            rest.unexpected(path, "not the metadata of a resource")
        return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}

    def _digest(self, rest: OrthancRest, path: str) -> str:
        answer = rest.fetch("GET", f"{path}/md5", abort=self.abort)
        if answer.status != 200:
            rest.refuse(f"{path}/md5", answer.status, answer.headers, answer.body)
        return answer.body.decode("ascii", "replace").strip().lower()


def _users(found: dict[str, str], own: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if _is_users(name, own)}


def _is_users(name: str, own: frozenset[str]) -> bool:
    return int(name) >= _FREE if name.isdigit() else name not in own


def _is_users_file(name: str) -> bool:
    return int(name) >= _FREE if name.isdigit() else _OWN_ATTACHMENTS.fullmatch(name) is None
