"""Questions to the node by C-FIND, and lists of series and images that are whole or an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from core.model.errors import AnswerError
from core.model.study import SeriesInfo
from core.nodes.base import OpenContext
from core.nodes.dicom.base import DicomBase
from core.nodes.dicom.fields import DicomFields, QueryCharacterSet, term
from core.nodes.search.answers import image_keys, number, series_keys
from core.nodes.search.limit import AnswerLimit
from core.wire.abort import Abort
from core.wire.dimse.association import Association
from core.wire.dimse.errors import AssociationAborted
from core.wire.dimse.find import FIND_CONTEXTS, find
from core.wire.dimse.peer import Peer
from core.wire.dimse.status import dimse_answer
from core.wire.found import MOST_ANSWERS, Answer, Found

FIND_LIMIT = "find-limit"
"""Fact of the last diagnosis: after so many answers the node cuts a list off."""
MOST_LISTED = 500_000
"""Answers to one question about series or images; no study has so many, but a broken node may never come to an end."""
_NUMBERS_BEYOND = 50  # above the number of images, where some are left out
_MOST_BY_NUMBER = 5000  # questions of a few milliseconds each
_NOT_UNDERSTOOD = {"find-a9xx", "find-cxxx", "find-0110"}

Ask = Callable[[Mapping[str, str]], Found]
"""Puts one question on an association that is open for several."""


class DicomFind(DicomBase):
    """What `Inventory`, `Confirm` and others ask a node.

    Attributes
    ----------
    answer_limit : AnswerLimit
    """

    def __init__(self, fields: DicomFields, peer: Peer, context: OpenContext) -> None:
        super().__init__(fields, peer, context)
        known = self.fact(FIND_LIMIT)
        self.answer_limit = AnswerLimit(fields.find_limit or (int(known) if known.isdigit() else 0))
        self._character_set = term(fields.character_set)

    @contextmanager
    def asking(self, abort: Abort | None = None) -> Iterator[Ask]:
        """An association for some questions. Nothing is to be waited for while it is held."""
        with self.associate(FIND_CONTEXTS, abort=abort) as association:
            yield lambda keys: self._bounded(self._put(association, keys, MOST_LISTED, lambda answer: True))

    def _bounded(self, found: Found) -> Found:
        """A list that we broke off ourselves is not whole."""
        if not found.broken_off:
            return found
        endless = dimse_answer("find-maybe-cut", node=self.name, detail=f"more than {MOST_LISTED:,} answers")
        return replace(found, failure=endless)

    def ask(
        self,
        keys: Mapping[str, str],
        *,
        most: int = MOST_ANSWERS,
        keep: Callable[[Answer], bool] = lambda answer: True,
        abort: Abort | None = None,
    ) -> Found:
        """One question on an association of its own."""
        with self.associate(FIND_CONTEXTS, abort=abort) as association:
            return self._put(association, keys, most, keep)

    def _put(
        self, association: Association, keys: Mapping[str, str], most: int, keep: Callable[[Answer], bool]
    ) -> Found:
        try:
            return find(association, keys, most=most, keep=keep, character_set=self._character_set)
        except AssociationAborted as error:
            error.next_step = (
                "Many servers answer questions of AE titles that they know only: ask the PACS administrator to enter "
                f"{self.fields.calling_aet}. The test of the node tells more."
            )
            raise
        except AnswerError as error:
            chosen = self.fields.character_set is not QueryCharacterSet.AUTO
            if chosen or not self._character_set or error.code not in _NOT_UNDERSTOOD or not association.is_open:
                raise
            found = find(association, keys, most=most, keep=keep)
            self._character_set = ""  # it was the character set that the node would not have
            return found

    def series_of(self, ask: Ask, study_uid: str, series_uid: str = "", more: Sequence[str] = ()) -> list[Answer]:
        """The series of a study, one answer each; empty where there is none.

        Raises
        ------
        AnswerError, TransportError
            The list is not whole.
        """
        found = ask(series_keys(study_uid, series_uid, more=more))
        series = _own(_ended(found), "SeriesInstanceUID", {"StudyInstanceUID": study_uid})
        if series_uid:
            return [s for s in series if s["SeriesInstanceUID"] == series_uid]
        if self.answer_limit.suspects(found.count):
            said = self._told(ask, study_uid, "NumberOfStudyRelatedSeries")
            if said is None:
                raise dimse_answer("find-maybe-cut", node=self.name, detail=f"{found.count} series")
            self._compare(len(series), said, "series")
        return series

    def images_of(self, ask: Ask, study_uid: str, series: SeriesInfo, more: Sequence[str] = ()) -> list[Answer]:
        """All images of a series that is there, one answer each.

        Raises
        ------
        AnswerError
            ``find-no-images`` where the node lists none, ``find-incomplete`` and ``find-maybe-cut`` where not all.
        TransportError
        """
        found = ask(image_keys(study_uid, series.series_uid, more=more))
        images = images_in(Found(found.answers), study_uid, series.series_uid)
        said = series.instance_count
        if found.failure is not None and (said is None or not isinstance(found.failure, AnswerError)):
            raise found.failure
        if not images:
            raise dimse_answer("find-no-images", node=self.name)
        if said is not None and len(images) < said:  # the count may be of a moment ago, and images deleted since
            now = self.series_of(ask, study_uid, series.series_uid)
            said = number(now[0], "NumberOfSeriesRelatedInstances") if now else 0
        if said is not None and len(images) < said:
            return self._by_number(ask, image_keys(study_uid, series.series_uid, more=more), images, said)
        if said is not None:
            self.answer_limit.whole_with(len(images))
        elif self.answer_limit.suspects(found.count):
            self._look_for_more(ask, study_uid, series.series_uid, images)
        return images

    def _by_number(self, ask: Ask, keys: dict[str, str], images: list[Answer], said: int) -> list[Answer]:
        """The images of a series that is longer than the node's lists, asked for by their numbers until all are there.

        Numbers that were not seen come first; one that was may be that of several images.
        """
        self.answer_limit.cut_at(len(images))
        found = {image["SOPInstanceUID"]: image for image in images}
        seen = {number(image, "InstanceNumber") for image in images}
        most = max([said, *(n for n in seen if n is not None)]) + _NUMBERS_BEYOND
        if said <= _MOST_BY_NUMBER:
            for wanted in sorted(range(most + 1), key=lambda n: n in seen):
                if len(found) >= said:
                    return list(found.values())
                told = ask(keys | {"InstanceNumber": str(wanted)})
                fresh = images_in(told, keys["StudyInstanceUID"], keys["SeriesInstanceUID"])
                if len(fresh) > 1 and any(number(image, "InstanceNumber") != wanted for image in fresh):
                    break  # the node doesn't look at this key: it would be asked in vain
                found |= {image["SOPInstanceUID"]: image for image in fresh}
        if len(found) >= said:
            return list(found.values())
        raise dimse_answer(
            "find-incomplete", node=self.name, detail=f"{said} images of a series counted, {len(found)} listed"
        )

    def compare_total(self, ask: Ask, study_uid: str, listed: int, said: int | None) -> None:
        """Hold the number of images listed for a study against what the node says of it, if it does.

        Raises
        ------
        AnswerError
            ``find-incomplete`` where it lists fewer than it counts.
        """
        if said is not None and listed < said:
            said = self._told(ask, study_uid, "NumberOfStudyRelatedInstances")
        if said is not None and listed < said:
            raise dimse_answer(
                "find-incomplete", node=self.name, detail=f"{said} images of a study counted, {listed} listed"
            )

    def _told(self, ask: Ask, study_uid: str, keyword: str) -> int | None:
        keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid, keyword: ""}
        for answer in _ended(ask(keys)):
            if answer.get("StudyInstanceUID") == study_uid:
                return number(answer, keyword)
        return None

    def _compare(self, listed: int, said: int, what: str) -> None:
        if listed < said:
            self.answer_limit.cut_at(listed)
            raise dimse_answer("find-incomplete", node=self.name, detail=f"{said} {what} counted, {listed} listed")
        self.answer_limit.whole_with(listed)

    def _look_for_more(self, ask: Ask, study_uid: str, series_uid: str, images: Sequence[Answer]) -> None:
        """A list of a length that looks like a limit: whole if its images are numbered through, with none beyond."""
        numbers = {number(image, "InstanceNumber") for image in images}
        known = {n for n in numbers if n is not None}
        through = len(known) == len(images) and max(known) - min(known) + 1 == len(images)
        if through:
            for beyond in (min(known) - 1, max(known) + 1):
                keys = image_keys(study_uid, series_uid) | {"InstanceNumber": str(beyond)}
                told = images_in(ask(keys), study_uid, series_uid)
                if any(number(image, "InstanceNumber") == beyond for image in told):
                    self.answer_limit.cut_at(len(images))
                    raise dimse_answer("find-incomplete", node=self.name, detail=f"cut off after {len(images)} images")
        if not through:
            raise dimse_answer("find-maybe-cut", node=self.name, detail=f"{len(images)} images in a series")


def images_in(found: Found, study_uid: str, series_uid: str) -> list[Answer]:
    """The images of an answer, each once; those of other series are left out, should the node not look at the key."""
    return _own(_ended(found), "SOPInstanceUID", {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid})


def _ended(found: Found) -> list[Answer]:
    if found.failure is not None:
        raise found.failure
    return found.answers


def _own(answers: Sequence[Answer], unique: str, parents: Mapping[str, str]) -> list[Answer]:
    """Answers by their unique key, without those that say to belong elsewhere."""
    own: dict[str, Answer] = {}
    for answer in answers:
        if answer.get(unique) and all(answer.get(k) in (None, "", uid) for k, uid in parents.items()):
            own.setdefault(answer[unique], answer)
    return list(own.values())
