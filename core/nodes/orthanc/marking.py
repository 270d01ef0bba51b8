"""Marks on studies of an Orthanc: labels for people, and a passing mark that tells one server from another."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from core.model.errors import AnswerError, ConfigurationError, FerryError, NotSupportedError
from core.model.study import StudyInfo
from core.nodes.base import Node
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.holdings import lookup
from core.nodes.orthanc.identifiers import study_id
from core.nodes.orthanc.rest import OrthancRest
from core.wire.status import answer_error

_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_LABEL_LENGTH = 64
_USER_METADATA = range(1024, 65536)  # Orthanc book, "Metadata": free for users


class OrthancMarking(OrthancBase):
    """`Label` and `Identity` of an Orthanc."""

    def label(self, study: StudyInfo, label: str) -> None:
        """``PUT /studies/{id}/labels/{label}`` (since 1.12.0)."""
        if not label or len(label) > _LABEL_LENGTH or not set(label) <= _LABEL_CHARACTERS:
            raise ConfigurationError(
                f"“{label}” can't be a label of an Orthanc.",
                "Use letters, digits, “_” and “-”, at most 64 of them.",
                code="label",
            )
        if not self.has_labels:
            raise NotSupportedError(
                f"“{self.name}” has no labels: they came with Orthanc 1.12.0.", "Leave out the label.", code="labels"
            )
        refs = study_refs(self.rest, study)
        if not refs:
            raise answer_error("gone", node=self.name, status=404, detail=f"study {study.study_uid}")
        for ref in refs:
            path = f"/studies/{ref}/labels/{label}"
            answer = self.rest.fetch("PUT", path, idempotent=True)
            if answer.status != 200:
                self.rest.refuse(path, answer.status, answer.headers, answer.body)

    @property
    def has_labels(self) -> bool:
        return self.rest.capabilities().labels

    def same_storage(self, other: Node, study: StudyInfo) -> bool:
        """Told by a passing mark: a metadata of the study at `other` that is looked for here, and removed.

        Addresses tell only when they are equal, and servers that share a database have different identifiers.

        Raises
        ------
        FerryError
            It can't be told: the mark can't be set, or `other` is reached by another protocol.
        """
        if not isinstance(other, OrthancBase):
            if not hasattr(other.fields, "url") and not hasattr(other.fields, "host"):
                return False
            raise FerryError(
                f"It can't be told whether “{other.name}” is the same server as “{self.name}”.",
                "Keep the images at the source, or add the destination as an Orthanc node.",
                code="identity",
            )
        if self.place == other.place:
            return True
        refs = study_refs(other.rest, study)
        if not refs:
            raise answer_error("gone", node=other.name, status=404, detail=f"study {study.study_uid}")
        path = f"/studies/{refs[0]}/metadata/{secrets.choice(_USER_METADATA)}"
        mark = secrets.token_hex(16)
        answer = other.rest.fetch("PUT", path, body=mark.encode(), idempotent=True)
        if answer.status != 200:
            other.rest.refuse(path, answer.status, answer.headers, answer.body)
        try:
            if not _holds(other.rest, path, mark):  # so it was not the server that said it had set it
                raise answer_error(
                    "not-the-server", node=other.name, status=200, detail=f"{path}: the mark is not there"
                )
            return _holds(self.rest, path, mark)
        finally:
            answer = other.rest.fetch("DELETE", path)
            if answer.status not in (200, 404):
                other.rest.refuse(path, answer.status, answer.headers, answer.body)


def study_refs(rest: OrthancRest, study: StudyInfo) -> Sequence[str]:
    """Identifiers of this study at a server: the computed one when it is among them, else all of its UID."""
    found = lookup(rest, study.study_uid, "Study")
    computed = study_id(study.patient_id, study.study_uid)
    return [computed] if computed in found else found


def _holds(rest: OrthancRest, path: str, mark: str) -> bool:
    answer = rest.fetch("GET", path)
    if answer.status == 200:
        return answer.body.decode("ascii", "replace").strip() == mark
    error: AnswerError = rest.error(path, answer.status, answer.headers, answer.body)
    if answer.status == 404 and (error.code == "gone" or (not answer.body and _is_orthanc(rest))):
        return False
    raise error


def _is_orthanc(rest: OrthancRest) -> bool:
    rest.system()
    return True
