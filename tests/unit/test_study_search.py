"""Searching studies in parts: which parts, what looks like a limit, and whether an answer is what was asked for."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import pytest

from core.model.study import StudyInfo, StudyQuery
from core.nodes.search.answers import matches, study_info, study_keys, untold
from core.nodes.search.limit import AnswerLimit
from core.nodes.search.parts import MODALITIES, Part, as_date, beyond

TODAY = date(2026, 11, 21)


def halves(part: Part, *, by_modality: bool = True) -> tuple[Part, ...]:
    return part.smaller(today=TODAY, by_modality=by_modality)


def test_dates_are_halved_down_to_days_and_nothing_falls_between() -> None:
    """Each day of a century, and whatever lies before and after it, is in exactly one of the smallest parts."""
    left, days = [Part()], []
    while left:
        part = left.pop()
        smaller = halves(part)
        if smaller[0].begin or smaller[0].end != 1440 or smaller[0].modality:
            days.append(part)
        elif part.last is None and part.first and part.first < TODAY - timedelta(days=40):
            left.append(smaller[1])
            days.append(smaller[0])
        else:
            left += smaller
    days.sort(key=lambda p: p.first or date.min)
    assert days[0].first is None
    assert days[-1].last is None
    for before, after in itertools.pairwise(days):
        assert before.last is not None
        assert after.first == before.last + timedelta(days=1)
    assert days[-1].first is not None
    assert days[-1].first > TODAY, "studies of the future are a part of their own"


def test_keys_of_parts() -> None:
    day = date(2026, 3, 15)
    assert Part().keys() == {}
    assert Part(day, day).keys() == {"StudyDate": "20260315"}
    assert Part(None, day).keys() == {"StudyDate": "-20260315"}
    assert Part(day, None).keys() == {"StudyDate": "20260315-"}
    assert Part(day, day, 600, 720).keys()["StudyTime"] == "100000-120000"
    assert Part(day, day, 720, 1440).keys()["StudyTime"] == "120000-"
    assert Part(uids=("1.2", "1.3"), modality="CT").keys() == {
        "StudyInstanceUID": "1.2\\1.3",
        "ModalitiesInStudy": "CT",
    }


def test_a_day_is_halved_by_minutes_and_then_by_kinds() -> None:
    part = Part(TODAY, TODAY)
    minutes = 0
    while len(smaller := halves(part)) == 2:
        assert smaller[0].end == smaller[1].begin
        part = smaller[0]
        minutes += 1
    assert minutes == 10 or minutes == 11
    assert {p.modality for p in smaller} == set(MODALITIES)
    assert halves(smaller[0]) == ()
    assert halves(part, by_modality=False) == ()
    assert all(len(m) <= 16 for m in MODALITIES)
    assert len(set(MODALITIES)) == len(MODALITIES)


def test_lists_of_uids_are_halved() -> None:
    assert [p.uids for p in halves(Part(uids=("1", "2", "3")))] == [("1",), ("2", "3")]
    assert halves(Part(uids=("1",))) == ()


def test_what_lies_beyond() -> None:
    first, last = date(2020, 1, 1), date(2021, 1, 1)
    before, after = beyond(Part(), first, last)
    assert (before.last, after.first) == (date(2019, 12, 31), date(2021, 1, 2))
    assert beyond(Part(first, last), first, last) == ()


@pytest.mark.parametrize("text", ["", "2024", "20241301", "2024-1-1", "ABCDEFGH", "２０２４０１０１"])
def test_dates_that_are_none(text: str) -> None:
    assert as_date(text) is None


def test_round_numbers_look_like_limits_until_more_was_seen() -> None:
    limit = AnswerLimit()
    assert [n for n in (1, 49, 50, 64, 99, 100, 101, 128, 250, 999, 1000) if limit.suspects(n)] == [
        50, 64, 100, 128, 250, 1000,
    ]  # fmt: skip
    limit.whole_with(321)
    assert [n for n in (50, 100, 250, 400, 500) if limit.suspects(n)] == [400, 500]
    limit.cut_at(87)
    assert limit.known == 87
    assert limit.suspects(87)
    assert limit.suspects(300)
    assert not limit.suspects(86)


def test_a_limit_that_is_said_is_the_limit() -> None:
    limit = AnswerLimit(200)
    assert not limit.suspects(100)
    assert limit.suspects(200)
    assert limit.known == 200


def study(**texts: str) -> StudyInfo:
    return study_info({"StudyInstanceUID": "1.2", **texts})


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Müller*", "MÜLLER^JÖRG"),
        ("müller^jörg", "Müller^Jörg"),
        ("Yamada^Tarou", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("山田*", "Yamada^Tarou=山田^太郎"),
        ("Smith^John", "Smith^John^^^"),
        ("Smith^John^^", "Smith^John"),
        ("Sm?th*", "Smith"),
        ("O'Neil [x]", "O'NEIL [X]"),
    ],
)
def test_names_that_match(wanted: str, name: str) -> None:
    assert matches(StudyQuery(patient_name=wanted), study(PatientName=name))


@pytest.mark.parametrize(("wanted", "name"), [("Mül*", "Muller"), ("Smith", "Smithers"), ("*太郎", "Yamada^Jirou")])
def test_names_that_do_not_match(wanted: str, name: str) -> None:
    assert not matches(StudyQuery(patient_name=wanted), study(PatientName=name))


def test_dates() -> None:
    query = StudyQuery(date_from="20240101", date_to="20241231")
    assert matches(query, study(StudyDate="2024.06.01"))
    assert not matches(query, study(StudyDate="20250101"))
    assert not matches(query, study(StudyDate=""))
    assert untold(query, {"StudyInstanceUID": "1"}) == "StudyDate"
    assert untold(StudyQuery(description="x"), {}) == "StudyDescription"
    assert untold(StudyQuery(), {}) == ""


def test_letters_beyond_ascii_are_asked_for_by_wildcards_and_looked_at_here() -> None:
    assert study_keys(StudyQuery(patient_name="Müller^Jörg"), any_letters=False)["PatientName"] == "M*ller^J*rg"
    assert study_keys(StudyQuery(patient_name="山田^太郎"), any_letters=False)["PatientName"] == "*^*"
    chosen = study_keys(StudyQuery(patient_name="Müller"), any_letters=True)
    assert chosen["PatientName"] == "Müller"
    assert study_keys(StudyQuery(description="a\\b"), any_letters=False)["StudyDescription"] == "a?b"


def test_one_modality_is_asked_for_and_several_are_looked_at_here() -> None:
    assert study_keys(StudyQuery(modalities=("CT",)), any_letters=False)["ModalitiesInStudy"] == "CT"
    assert study_keys(StudyQuery(modalities=("CT", "MR")), any_letters=False)["ModalitiesInStudy"] == ""


def test_an_answer_s_texts() -> None:
    found = study(
        StudyTime="10:15:00.123", ModalitiesInStudy="CT\\SR", NumberOfStudyRelatedInstances=" 12".strip(), PatientID="P"
    )
    assert (found.study_time, found.modalities, found.instance_count, found.patient_id) == (
        "101500", ("CT", "SR"), 12, "P",
    )  # fmt: skip
    assert study(NumberOfStudyRelatedInstances="many").instance_count is None
