"""Questions by QIDO-RS (PS3.18 section 10.6), page after page: lists that are whole or say that they may not be."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from core.model.errors import AnswerError, FerryError
from core.nodes.dicomweb.answers import TAGS, answer_of
from core.nodes.dicomweb.base import DicomwebBase, series_path, study_path
from core.nodes.search.answers import IMAGE_KEYS, SERIES_KEYS, STUDY_KEYS
from core.wire.abort import Abort
from core.wire.found import MOST_ANSWERS, Answer, Found
from core.wire.http_message import Headers
from core.wire.status import answer_error

PAGES = (1000, 200, 100)
"""Answers that are asked for at a time, of some two kilobytes each; a smaller number where one is refused."""
MOST_LISTED = 500_000
"""Answers to one question; no study has so many images, but a broken service may never come to an end."""
_RESTARTS = 3  # lists that change while they are read are read anew so often
_MORE = re.compile(r"\b299\b")
_UIDS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_KEYS = {"STUDY": STUDY_KEYS, "SERIES": SERIES_KEYS, "IMAGE": IMAGE_KEYS}
_UNESCAPED = "*?,^:/@!$'()~"  # by RFC 3986 section 3.4, and the caret, without which no name can be asked for
_TEXTS = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription")
_ESCAPED = re.compile(r"[^A-Za-z0-9_.\-*?,^:/@!$'()~]")
_EARLIEST, _LATEST = "00010101", "99991231"


class DicomwebQuery(DicomwebBase):
    """What `Inventory`, `Confirm` and others ask a service.

    Attributes
    ----------
    page : int
        Answers that are asked for at a time.
    longest_pages : dict[str, int]
        By level, the longest page that was seen: what is shorter was not cut off by a limit.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.page = PAGES[0]
        self.longest_pages: dict[str, int] = {}

    def ask(
        self,
        keys: Mapping[str, str],
        *,
        most: int = MOST_ANSWERS,
        keep: Callable[[Answer], bool] = lambda answer: True,
        abort: Abort | None = None,
    ) -> Found:
        """One question, all its answers. `keys` are as C-FIND's, with ``QueryRetrieveLevel``.

        Raises
        ------
        AnswerError, TransportError
            Nothing usable came at all. What breaks after the first page is told in `Found.failure`.
        """
        found = self._ask(keys, most, keep, abort)
        if not found.count and (other := _without_escapes(keys)):
            found = self._ask(other, most, keep, abort)
        return found

    def _ask(self, keys: Mapping[str, str], most: int, keep: Callable[[Answer], bool], abort: Abort | None) -> Found:
        listing = self.listed(keys, abort=abort)
        answers: list[Answer] = []
        broken_off = False
        failure: FerryError | None = None
        count = 0
        try:
            for answer in listing:
                count += 1
                if not keep(answer):
                    continue
                if len(answers) >= most:
                    broken_off = True
                    break
                answers.append(answer)
        except FerryError as error:
            if not count:
                raise
            failure = error
        return Found(answers, failure or listing.failure, broken_off, count, listing.whole and not broken_off)

    def listed(self, keys: Mapping[str, str], *, abort: Abort | None = None) -> Pages:
        """The answers to a question as they come."""
        level = keys["QueryRetrieveLevel"]
        path, parameters = _question(level, keys)
        return Pages(self, level, path, parameters, abort)

    def series_of(self, study_uid: str, *, abort: Abort | None = None) -> list[Answer]:
        """The series of a study, one answer each; none where it isn't there.

        Raises
        ------
        AnswerError
            ``incomplete`` where the list may lack some.
        TransportError
        """
        return self.whole({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": study_uid}, abort=abort)

    def whole(self, keys: Mapping[str, str], *, abort: Abort | None = None) -> list[Answer]:
        """All answers to a question.

        Raises
        ------
        AnswerError
            ``incomplete`` where the list may lack some.
        TransportError
        """
        try:
            found = self.ask(keys, abort=abort)
        except AnswerError as error:
            if error.status == 404 and self.is_here(abort=abort):
                return []  # not as the standard has it, but what some services answer for "none"
            raise
        if found.failure is not None:
            raise found.failure
        if found.broken_off:
            raise answer_error("incomplete", node=self.name, detail=f"more than {len(found.answers):,} answers")
        if not found.whole and self.answer_limit.suspects(found.count):
            detail = f"{found.count} answers, which may be all that it gives at once"
            raise answer_error("incomplete", node=self.name, detail=detail)
        return found.answers

    def is_here(self, *, abort: Abort | None = None) -> bool:
        """Whether the DICOMweb service surely answers at this address: then a 404 is about what was asked for."""
        path = "/studies?limit=1"
        try:
            with self.access.request("GET", path, abort=abort) as response:
                if response.status == 204:
                    return True
                for _study in self.access.objects(path, response):
                    break
        except AnswerError:
            return False
        return True


@dataclass
class _Page:
    answers: list[Answer]
    count: int
    more: bool
    total: int | None


class Pages:
    """Iterate for the answers to a question; afterwards `whole` and `failure` say how the list ended.

    Each page begins with the last answer of the one before: where it doesn't, the list has changed meanwhile
    (images were deleted), or the service doesn't look at ``offset``.

    Attributes
    ----------
    whole : bool
        The service was seen to have no more than was given.
    failure : FerryError | None
        The service said that it has more, and gives no more.
    """

    def __init__(
        self, node: DicomwebQuery, level: str, path: str, parameters: list[tuple[str, str]], abort: Abort | None
    ) -> None:
        self.whole = False
        self.failure: FerryError | None = None
        self._node = node
        self._path = path
        self._parameters = parameters
        self._abort = abort
        self._level = level
        self._uid = _UIDS[level]
        self._keywords = tuple(dict.fromkeys((*_KEYS[level], *_UIDS.values())))
        self._seen: set[str] = set()

    def __iter__(self) -> Iterator[Answer]:
        for _again in range(_RESTARTS):
            if (yield from self._pass()):
                return
        self.failure = self._incomplete("it changed each time while it was read")

    def _pass(self) -> Generator[Answer, None, bool]:
        """All pages from the first on; whether that was the list, and not one that changed in between."""
        offset = 0
        first = last = ""
        size = 0  # of the first page
        while True:
            page = self._fetch(max(0, offset - 1))
            uids = [answer.get(self._uid, "") for answer in page.answers]
            if offset:
                if uids and uids[0] == first and uids[0] != last and page.count == size:
                    self._offset_is_ignored(page)
                    return True
                if not uids or uids[0] != last:
                    return False
                if len(uids) == 1:
                    self.whole = True
                    return True
            fresh = page.count - (1 if offset else 0)
            for answer, uid in zip(page.answers, uids, strict=True):
                if uid not in self._seen:
                    self._seen.add(uid)
                    yield answer
            if not offset:
                first, size = uids[0] if uids else "", page.count
            if not page.count or (page.total is not None and offset + fresh >= page.total and not page.more):
                self.whole = True
                return True
            if not offset and not page.more and page.count < min(self._node.page, self._longest):
                self.whole = True  # it was seen to give longer ones: no limit has cut this off
                return True
            self._longest = page.count
            last = uids[-1]
            offset += fresh
            if offset > MOST_LISTED:
                self.failure = self._incomplete(f"it has more than {MOST_LISTED:,} answers")
                return True

    def _offset_is_ignored(self, page: _Page) -> None:
        """The same page came again: all there is where it is longer than was asked for, else nobody knows."""
        if page.more or (page.total is not None and page.total > page.count):
            self._node.answer_limit.cut_at(page.count)
            self.failure = self._incomplete("it says that there are more, and gives no other page")
        self.whole = self.failure is None and page.count > self._node.page

    @property
    def _longest(self) -> int:
        return self._node.longest_pages.get(self._level, 0)

    @_longest.setter
    def _longest(self, count: int) -> None:
        self._node.longest_pages[self._level] = max(count, self._longest)

    def _fetch(self, offset: int) -> _Page:
        while True:
            page = self._node.page
            try:
                return self._page(page, offset)
            except AnswerError as error:
                smaller = [size for size in PAGES if size < page]
                if error.status not in (400, 413, 422) or offset or not smaller:
                    raise
                if self._node.page == page:
                    self._node.page = smaller[0]  # some refuse a limit above their own

    def _page(self, limit: int, offset: int) -> _Page:
        parameters = [*self._parameters, ("limit", str(limit)), ("offset", str(offset))]
        path = self._path + "?" + "&".join(f"{name}={quote(value, safe=_UNESCAPED)}" for name, value in parameters)
        access = self._node.access
        with access.request("GET", path, abort=self._abort) as response:
            more = _MORE.search(response.headers.get("warning", "")) is not None
            total = _total(response.headers)
            answers, count = [], 0
            for item in access.objects(path, response):
                count += 1
                answer = answer_of(item, self._keywords)
                answers.append(answer)
        return _Page(answers, count, more, total)

    def _incomplete(self, why: str) -> AnswerError:
        return answer_error("incomplete", node=self._node.name, detail=f"{self._path}: {why}")


def _total(headers: Headers) -> int | None:
    """How many there are in all, where the service says so in a header that some have agreed on."""
    value = headers.get("x-total-count", "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None


def _question(level: str, keys: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]]:
    """Path and parameters of a question (PS3.18 Table 10.6.1-5)."""
    left = {keyword: value for keyword, value in keys.items() if value and keyword != "QueryRetrieveLevel"}
    if level == "STUDY":
        path = "/studies"
    else:
        study_uid = left.pop("StudyInstanceUID")
        series_uid = left.pop("SeriesInstanceUID", "") if level == "IMAGE" else ""
        above = series_path(study_uid, series_uid) if series_uid else study_path(study_uid)
        path = f"{above}/{'series' if level == 'SERIES' else 'instances'}"
    parameters = [(keyword, _value(keyword, value)) for keyword, value in left.items()]
    if level == "STUDY":
        # All else is answered without being asked for (PS3.18 Table 10.6.3-3).
        parameters.append(("includefield", TAGS["StudyDescription"]))
    return path, parameters


def _without_escapes(keys: Mapping[str, str]) -> dict[str, str]:
    """The question with wildcards for what has to be escaped in it; empty where there is nothing.

    Some services (Orthanc's plugin) don't undo the escapes of the values that they look for.
    """
    other = {keyword: _ESCAPED.sub("?", keys[keyword]) for keyword in _TEXTS if _ESCAPED.search(keys.get(keyword, ""))}
    return {**keys, **other} if other else {}


def _value(keyword: str, value: str) -> str:
    """A value as it stands in a question: lists with commas, ranges with both ends (some take no others)."""
    if keyword == "StudyDate" and "-" in value:
        first, _, last = value.partition("-")
        return f"{first or _EARLIEST}-{last or _LATEST}"
    if keyword == "StudyTime" and value.endswith("-"):
        return f"{value}235959.999999"
    if keyword.endswith("UID"):
        return value.replace("\\", ",")
    return value
