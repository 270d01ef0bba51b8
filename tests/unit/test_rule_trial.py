"""A rule tried on a node: what is counted, what is left open, and how it ends when somebody has enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

import pytest

from core.model.errors import AnswerError, FerryError, TransportError, TransportFault
from core.model.rules import parse_rule
from core.model.study import InstanceRef, Listing, SeriesInfo, StudyInfo, StudyQuery
from core.nodes.base import Node
from core.rule_trial import Trial, TrialLimits, Verdict, try_rule
from core.wire.abort import Abort
from tests.support.memory_node import MemoryListing, MemoryNode


class ListedNode(MemoryNode):
    """Lists the studies that a test gives it; images are the modalities of a study, two of each."""

    def __init__(self, name: str, *studies: StudyInfo) -> None:
        super().__init__(name)
        self.given = list(studies)
        self.complete = True
        self.images = 2
        self.asked: list[str] = []
        self.tag_error: FerryError | None = None
        self.body_parts: Mapping[str, str] = {}

    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> MemoryListing:
        return OneListing(self.given, self.complete)

    def instances(
        self, study: StudyInfo, *, series_ref: str = "", digests: bool = True, abort: Abort | None = None
    ) -> Iterator[Sequence[InstanceRef]]:
        self.asked.append(study.study_uid)
        for modality in study.modalities or ("CT",):
            uid = f"{study.study_uid}.{modality}"
            series = SeriesInfo(uid, uid, modality)
            yield [
                InstanceRef(f"{uid}.{n}", uid, study.study_uid, f"{uid}.{n}", series=series) for n in range(self.images)
            ]

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[dict[str, str]]:
        if self.tag_error is not None:
            raise self.tag_error
        return [{"BodyPartExamined": self.body_parts.get(i.series_uid, "")} for i in instances]


class OneListing(MemoryListing):
    def __init__(self, studies: list[StudyInfo], complete: bool) -> None:
        super().__init__(studies)
        self._complete = complete

    def __iter__(self) -> Iterator[StudyInfo]:
        yield from super().__iter__()
        if not self._complete:
            self.outcome = Listing(len(self._studies), False, "The list was cut off.")


class Book:
    def __init__(self, *nodes: Node, broken: FerryError | None = None) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._broken = broken

    def open(self, name: str) -> Node:
        if name not in self._nodes and self._broken is not None:
            raise self._broken
        return self._nodes[name]


def study(uid: str, *modalities: str, **texts: str) -> StudyInfo:
    given = {"patient_name": "A^B", "patient_id": uid, "study_date": "20261120"} | texts
    return StudyInfo(uid, uid, modalities=tuple(modalities), **given)  # type: ignore[arg-type]


def trial(rule: str, *nodes: Node, **limits: int | bool) -> Trial:
    names = [n.name for n in nodes]
    return try_rule(Book(*nodes), names, parse_rule(rule), limits=TrialLimits(**limits), today=date(2026, 11, 21))  # type: ignore[arg-type]


def test_what_the_list_of_studies_tells_needs_no_image() -> None:
    node = ListedNode("A", study("1", "CT"), study("2", "CT", "SR"), study("3", "MR"), study("4", "SR", "CT"))
    found = trial("Modality = CT and StudyDate in last 7 days", node)
    assert (found.studies, found.wholly, found.partly, found.left, found.undecided) == (4, 1, 2, 1, 0)
    assert found.matched == 3
    assert found.certain
    assert not node.asked
    assert [e.study.study_uid for e in found.matching] == ["1", "2", "4"]
    assert [e.verdict for e in found.matching] == [Verdict.ALL, Verdict.SOME, Verdict.SOME]
    assert trial("ModalitiesInStudy = CT", node).wholly == 3
    assert trial("StudyDate older than 7 days", node).matched == 0
    assert trial("", node).wholly == 4


def test_what_only_the_images_tell_is_looked_for_in_some_of_them() -> None:
    node = ListedNode("A", study("1", "CT", "SR"), study("2", "CT"), study("3", "MR"), study("4", "CT"))
    node.body_parts = {"1.CT": "HEAD", "2.CT": "HEAD", "4.CT": "CHEST"}
    found = trial("Modality = CT and BodyPartExamined = HEAD", node)
    # Of the MR study everything is known without its images.
    assert node.asked == ["1", "2", "4"]
    assert (found.wholly, found.partly, found.left, found.looked_into) == (1, 1, 2, 3)
    assert found.by_images
    assert found.certain  # the body part is the same in all images of a series
    assert [(e.taken, e.looked_at) for e in found.matching] == [(1, 2), (1, 1)]
    found = trial("Modality = CT and BodyPartExamined = HEAD", node, every_image=True)
    assert [(e.taken, e.looked_at) for e in found.matching] == [(2, 4), (2, 2)]
    found = trial("BodyPartExamined = HEAD", node, looked_into=1)
    assert (found.looked_into, found.undecided, found.matched) == (1, 3, 1)


def test_where_images_of_a_series_may_differ_some_are_looked_at() -> None:
    node = ListedNode("A", study("1", "CT"))
    node.images = 40
    found = trial("ImageType is empty", node)
    assert found.sampled
    assert not found.certain
    assert (found.matching[0].taken, found.matching[0].looked_at) == (4, 4)
    found = trial("ImageType is empty", node, every_image=True)
    assert found.certain
    assert (found.matching[0].taken, found.matching[0].looked_at) == (40, 40)


def test_limits_incomplete_lists_and_stops_are_told() -> None:
    node = ListedNode("A", *(study(f"{n}", "CT") for n in range(50)))
    found = trial("Modality = CT", node, studies=20)
    assert (found.studies, found.bounded, found.certain) == (20, True, False)
    assert not trial("Modality = CT", node, studies=50).bounded
    node.complete = False
    found = trial("Modality = CT", node)
    assert (found.complete, found.reasons, found.certain) == (False, ("The list was cut off.",), False)
    stop = Abort()
    seen: list[Trial] = []

    def enough(now: Trial) -> None:
        seen.append(now)
        stop.abort()

    found = try_rule(Book(node), ["A"], parse_rule("Modality = CT"), abort=stop, progress=enough)
    assert found.stopped
    assert found.studies == seen[0].studies == 1


def test_a_tag_that_the_node_never_tells_is_asked_for_once() -> None:
    node = ListedNode("A", study("1", "CT"), study("2", "CT"))
    node.tag_error = AnswerError(0, "A does not tell what the filter looks at.", "Use another.", code="find-untold")
    found = trial("BodyPartExamined = HEAD", node)
    assert (found.undecided, found.matched, len(found.troubles)) == (2, 0, 1)
    assert found.troubles[0].sentence.startswith("A does not tell")
    assert node.asked == ["1"]


def test_one_of_several_sources_that_is_down_hides_nothing() -> None:
    node = ListedNode("A", study("1", "CT"))
    down = TransportError(TransportFault.REFUSED, "B does not answer.")
    found = try_rule(Book(node, broken=down), ["A", "B"], parse_rule("Modality = CT"))
    assert found.matched == 1
    assert [t.source for t in found.troubles] == ["B"]
    assert not found.certain
    with pytest.raises(TransportError):
        try_rule(Book(node, broken=down), ["B"], parse_rule("Modality = CT"))


def test_what_a_list_leaves_out_is_no_empty_value() -> None:
    node = ListedNode("A", replace(study("1"), untold=frozenset({"StudyDate"}), study_date=""))
    found = trial("StudyDate > 2020", node, looked_into=0)
    assert found.undecided == 1
