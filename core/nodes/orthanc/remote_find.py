"""C-FIND by an Orthanc: one query of ours there at a time for each question, and none left behind (``/queries``).

Orthanc keeps the last hundred queries of everybody: those of others are not ours to remove, and each of ours
takes the place of one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydicom.datadict import keyword_for_tag

from core.model.errors import AnswerError, FerryError
from core.nodes.orthanc.answers import JsonObject, text
from core.nodes.orthanc.rest import OrthancRest
from core.wire.abort import Abort
from core.wire.dimse.status import Service
from core.wire.found import Answer, Found
from core.wire.status import answer_error

if TYPE_CHECKING:
    from core.nodes.orthanc.remote import RemoteModality

log = logging.getLogger(__name__)

_LEVELS = {"PATIENT": "Patient", "STUDY": "Study", "SERIES": "Series", "IMAGE": "Instance"}
_TOGETHER = 5000  # answers that are asked for with one request: some megabytes
_PAGE = 500
_ATTEMPTS = 3  # at a query that others' queries have pushed out before its answers were read
_LONGEST = 900.0  # seconds that a list may take to come in: Orthanc is silent until it has all of it
_LOOK = 0.05  # seconds between two looks at the abort switch
_PATIENCE = 5.0  # seconds that closing waits for questions that nobody waits for any more


class RemoteFind:
    """The questions to one modality. Thread-safe."""

    def __init__(self, entity: RemoteModality) -> None:
        self._entity = entity
        self._lock = threading.Lock()
        self._under_way: set[_Question] = set()

    def find(
        self,
        keys: Mapping[str, str],
        most: int,
        keep: Callable[[Answer], bool],
        character_set: str,
        timeout: float,
        abort: Abort | None,
    ) -> Found:
        """Ask in a thread of its own: when we are told to stop, it still removes the query that it made."""
        question = _Question(self._entity, keys, most, keep, character_set, timeout)
        with self._lock:
            self._under_way = {one for one in self._under_way if one.is_alive()} | {question}
        question.start()
        while not question.done.wait(_LOOK if abort is not None else None):
            try:
                if abort is not None:
                    abort.check()
            except FerryError:
                question.unwanted = True
                raise
        return question.result()

    def close(self) -> None:
        with self._lock:
            under_way = list(self._under_way)
        for question in under_way:
            question.unwanted = True
        for question in under_way:
            question.join(_PATIENCE)


class _Question(threading.Thread):
    """One question, from the query's beginning to its removal.

    Attributes
    ----------
    done : threading.Event
    unwanted : bool
        Nobody waits for the answers any more.
    """

    def __init__(
        self,
        entity: RemoteModality,
        keys: Mapping[str, str],
        most: int,
        keep: Callable[[Answer], bool],
        character_set: str,
        timeout: float,
    ) -> None:
        super().__init__(name=f"C-FIND {entity.node}", daemon=True)
        self.done = threading.Event()
        self.unwanted = False
        self._entity = entity
        self._rest = entity.rest
        self._payload = _query(keys, character_set, timeout)
        self._most = most
        self._keep = keep
        self._found: Found | None = None
        self._error: BaseException | None = None

    def result(self) -> Found:
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found

    def run(self) -> None:
        try:
            self._found = self._ask()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for the answer
            self._error = error
        finally:
            self.done.set()

    def _ask(self) -> Found:
        for _ in range(_ATTEMPTS):
            made = self._entity.command(Service.FIND, "query", self._payload, wait=_LONGEST)
            query = text(made, "ID")
            if not query:
                self._rest.unexpected("/modalities/…/query", "no query was made")
            try:
                return self._answers(f"/queries/{quote(query, safe='')}/answers")
            except AnswerError as error:
                if error.code != "gone":
                    raise
            finally:
                remove_query(self._rest, query)
        raise answer_error(
            "query-lost", node=self._rest.node, detail="others' queries pushed ours out before it was read"
        )

    def _answers(self, path: str) -> Found:
        if self.unwanted:
            return Found([])
        listed = self._rest.get_identifiers(path)
        if not listed:
            return Found([])
        if len(listed) <= _TOGETHER:
            rows = self._rest.json("GET", f"{path}?expand&short")
            if not isinstance(rows, list) or len(rows) != len(listed):
                self._rest.unexpected(path, "not the list of answers")
            return self._chosen(self._shaped(path, rows), len(listed))
        answers: list[Answer] = []
        for start in range(0, len(listed), _PAGE):
            paths = [f"{path}/{quote(i, safe='')}/content?short" for i in listed[start : start + _PAGE]]
            for one, answer in zip(paths, self._rest.pipeline(paths), strict=True):
                answers += [a for a in self._shaped(one, [self._rest.parsed(one, answer)]) if self._keep(a)]
            if len(answers) > self._most or self.unwanted:
                return Found(answers, broken_off=True, count=len(listed))
        return Found(answers, count=len(listed))

    def _chosen(self, answers: list[Answer], count: int) -> Found:
        kept = [answer for answer in answers if self._keep(answer)]
        return Found(kept, broken_off=len(kept) > self._most, count=count)

    def _shaped(self, path: str, rows: list[object]) -> list[Answer]:
        if not all(isinstance(row, dict) for row in rows):
            self._rest.unexpected(path, "not an answer of a query")
        return [_answer(row) for row in rows if isinstance(row, dict)]


def remove_query(rest: OrthancRest, query: str) -> None:
    """One of ours, whatever happened to it; a server that is out of reach forgets it by itself in time."""
    path = f"/queries/{quote(query, safe='')}"
    for _ in range(2):
        with contextlib.suppress(FerryError):
            if rest.fetch("DELETE", path, idempotent=True).status in (200, 404):
                return
    log.warning("%s: the query %s could not be removed", rest.node, query)


def _query(keys: Mapping[str, str], character_set: str, timeout: float) -> JsonObject:
    """Exactly these keys: Orthanc's “normalization” would leave out what it does not expect at the level.

    Orthanc names a character set in every query, Latin 1 unless told otherwise, and some servers answer in the one
    of the query, whatever letters that costs.
    """
    wanted = {keyword: value for keyword, value in keys.items() if keyword != "QueryRetrieveLevel"}
    if not wanted.get("SOPInstanceUID"):
        wanted.pop("SOPInstanceUID", None)  # Orthanc asks for it by itself, without file meta information beside it
    wanted["SpecificCharacterSet"] = character_set or "ISO_IR 192"
    return {
        "Level": _LEVELS[keys["QueryRetrieveLevel"]],
        "Query": wanted,
        "Normalize": False,
        "Timeout": max(1, round(timeout)),
    }


def _answer(row: JsonObject) -> Answer:
    """An answer in Orthanc's short form ("0010,0010" → text, already decoded), by keyword."""
    found: dict[str, str] = {}
    for tag, value in row.items():
        group, _, element = tag.partition(",")
        try:
            keyword = keyword_for_tag(int(group + element, 16))
        except ValueError:
            continue
        if keyword and (value is None or isinstance(value, (str, int, float))):
            found[keyword] = "" if value is None else str(value).strip(" \0")
    return found
