"""What a service says of each image that was sent to it (PS3.18 section 10.5.3, Annex I)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.model.errors import AnswerError, FerryError
from core.nodes.base import Acknowledgement
from core.nodes.dicomweb.answers import number_of, sequence_of, text_of
from core.wire.http import Answer
from core.wire.status import Meaning, answer_error, stow_error, stow_row, stow_warning

Outcome = Acknowledgement | FerryError
"""What became of one image."""

_REFERENCED, _FAILED = "00081199", "00081198"
_FAILED_ATTRIBUTES, _ERROR_COMMENT, _COMMENT_LIMIT = "00741048", "00000902", 1000
_SOP_UID, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"


@dataclass(frozen=True, slots=True)
class StowAnswer:
    """The images that a service speaks of.

    Attributes
    ----------
    stored : Mapping[str, int | None]
        Warning Reason (0008,1196) by SOP Instance UID, None without one.
    failed : Mapping[str, int | None]
        Failure Reason (0008,1197) by SOP Instance UID, None without one.
    comments : Mapping[str, str]
        What it finds wrong with the attributes of an image, by SOP Instance UID: the Error Comments (0000,0902) of
        its Failed Attributes Sequence (0074,1048).
    """

    stored: Mapping[str, int | None] = field(default_factory=dict)
    failed: Mapping[str, int | None] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)

    @property
    def says_nothing(self) -> bool:
        return not self.stored and not self.failed


def read_answer(body: bytes) -> StowAnswer | None:
    """The data set of an answer, whatever its status; None where there is none."""
    if body.lstrip()[:1] not in (b"{", b"["):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    items = found if isinstance(found, list) else [found]
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    if not any(_REFERENCED in item or _FAILED in item for item in items):
        return None
    stored: dict[str, int | None] = {}
    failed: dict[str, int | None] = {}
    comments: dict[str, str] = {}
    for item in items:
        stored |= _reasons(item, _REFERENCED, _WARNING_REASON)
        failed |= _reasons(item, _FAILED, _FAILURE_REASON)
        comments |= _comments(item)
    return StowAnswer(stored, failed, comments)


def _comments(item: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in sequence_of(item, _FAILED):
        element = one.get(_SOP_UID)
        uid = text_of(element) if isinstance(element, dict) else ""
        elements = [attribute.get(_ERROR_COMMENT) for attribute in sequence_of(one, _FAILED_ATTRIBUTES)]
        said = " ".join(text_of(e) for e in elements if isinstance(e, dict))
        if uid and said:
            found[uid] = said[:_COMMENT_LIMIT]
    return found


def _reasons(item: Mapping[str, Any], sequence: str, tag: str) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for one in sequence_of(item, sequence):
        element = one.get(_SOP_UID)
        uid = text_of(element) if isinstance(element, dict) else ""
        if uid:
            found[uid] = number_of(one, tag)
    return found


def outcome_of(uid: str, said: StowAnswer, answer: Answer, node: str) -> Outcome | None:
    """What became of one image; None where the service doesn't speak of it.

    One that is named as stored and as failed counts as failed.
    """
    status = f"{answer.status} {answer.reason}".strip()
    if uid in said.failed:
        reason = said.failed[uid]
        _, row = stow_row(reason)
        if row.meaning is Meaning.DUPLICATE:
            return Acknowledgement(False, uid, f"{status}; held already (Failure Reason {reason})")
        return stow_error(reason, node=node, detail=f"{status}. {said.comments.get(uid, '')}".strip())
    if uid in said.stored:
        return Acknowledgement(True, uid, status, stow_warning(said.stored[uid], node=node))
    return None


def silent(node: str, answer: Answer) -> AnswerError:
    """The service took the request, and does not say what became of an image."""
    detail = f"{answer.status} {answer.reason}: the answer does not name it".replace(" :", ":")
    return answer_error("stow-silent", node=node, status=answer.status, detail=detail)
