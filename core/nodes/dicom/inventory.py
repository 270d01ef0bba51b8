"""What a DICOM node holds: studies, series and images by C-FIND, each list whole, or told or raised where not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from core.model.rules.tags import is_plain
from core.model.study import InstanceRef, StudyInfo, StudyQuery
from core.nodes.base import StudyListing
from core.nodes.dicom.asking import Ask, DicomFind
from core.nodes.dicom.fields import QueryCharacterSet
from core.nodes.search.answers import instance_ref, series_info, tells
from core.nodes.search.studies import StudySearch
from core.wire.abort import Abort
from core.wire.dimse.status import dimse_answer
from core.wire.found import Answer
from core.wire.status import answer_error

PAGE = 200
_BATCH = 5000  # images listed over one association and held until they are taken


class DicomInventory(DicomFind):
    """`Inventory` of a DICOM node."""

    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> StudyListing:
        return StudySearch(
            self.name,
            partial(self.ask, abort=abort),
            query,
            self.answer_limit,
            uid_lists=self.takes_uid_lists,
            any_letters=self.fields.character_set is not QueryCharacterSet.AUTO,
        )

    def study(self, ref: str, *, abort: Abort | None = None) -> StudyInfo | None:
        """By Study Instance UID, which is the node's only handle."""
        return next(iter(self.studies(StudyQuery(study_uids=(ref,)), abort=abort)), None) if ref else None

    def instances(
        self, study: StudyInfo, *, series_ref: str = "", digests: bool = True, abort: Abort | None = None
    ) -> Iterator[Sequence[InstanceRef]]:
        """Series by series; the counts that the node tells of series and study are held against its lists.

        Raises
        ------
        AnswerError
            ``gone``, or ``find-…``: a list can't be had whole, or the node lists no images at all.
        """
        self._need_images()
        left: deque[Answer] | None = None
        total = 0
        while left is None or left:
            batch: list[InstanceRef] = []
            with self.asking(abort) as ask:
                if left is None:
                    left = deque(self._series(ask, study, series_ref))
                while left and len(batch) < _BATCH:
                    series = series_info(left.popleft())
                    images = self.images_of(ask, study.study_uid, series)
                    batch += [instance_ref(image, study, series) for image in images]
                total += len(batch)
                if not left and not series_ref:
                    self.compare_total(ask, study.study_uid, total, study.instance_count)
            for at in range(0, len(batch), PAGE):
                yield batch[at : at + PAGE]

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[Mapping[str, str]]:
        """What the node's answers at the levels of images and series tell; by keyword.

        Raises
        ------
        AnswerError
            ``find-untold`` where it tells one of them at no level: a filter by it would be guesswork.
        """
        if odd := sorted(key for key in keywords if not is_plain(key) or key == "TransferSyntaxUID"):
            # What it may say of private tags, and of those within sequences, means something else on each server.
            raise dimse_answer("find-untold", node=self.name, detail=", ".join(odd))
        by_series: dict[tuple[str, str], dict[str, Answer]] = {}
        for one in instances:
            by_series.setdefault((one.study_uid, one.series_uid), {})
        with self.asking() as ask:
            for (study_uid, series_uid), found in by_series.items():
                listed = self.series_of(ask, study_uid, series_uid)
                if not listed:
                    continue  # gone meanwhile
                wanted = sorted(k for k in keywords if not tells(listed[0], k))
                images = self.images_of(ask, study_uid, series_info(listed[0]), wanted)
                untold = [k for k in wanted if not tells(images[0], k)]
                if untold:
                    listed = self.series_of(ask, study_uid, series_uid, untold) or listed
                found |= {image["SOPInstanceUID"]: _both(listed[0], image) for image in images}
        return [self._told_tags(by_series[i.study_uid, i.series_uid].get(i.sop_uid), keywords) for i in instances]

    def _told_tags(self, answer: Answer | None, keywords: frozenset[str]) -> Mapping[str, str]:
        if answer is None:
            raise answer_error("gone", node=self.name, detail="an image that was listed before")
        untold = sorted(keyword for keyword in keywords if not tells(answer, keyword))
        if untold:
            raise dimse_answer("find-untold", node=self.name, detail=", ".join(untold))
        return {keyword: answer[keyword] for keyword in keywords}

    def _series(self, ask: Ask, study: StudyInfo, series_ref: str) -> list[Answer]:
        found = self.series_of(ask, study.study_uid, series_ref)
        if not found:
            keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study.study_uid}
            if not series_ref and any(a.get("StudyInstanceUID") == study.study_uid for a in ask(keys).answers):
                raise dimse_answer("find-no-images", node=self.name, detail="a study without series")
            raise answer_error("gone", node=self.name, detail=f"series {series_ref}" if series_ref else "study")
        return found

    def _need_images(self) -> None:
        if not self.fields.image_find:
            raise dimse_answer("find-no-images", node=self.name, detail="switched off for this node")


def _both(series: Answer, image: Answer) -> Answer:
    """What two answers tell together, that of the image first where it says something."""
    return {**series, **{keyword: value for keyword, value in image.items() if value or keyword not in series}}
