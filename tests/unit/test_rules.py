"""Rules over tags: what people write is what they mean, and a typing error never matches at random."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.model.errors import ConfigurationError
from core.model.rules import Condition, Operator, Rule, parse_rule

#: A busy machine is no failure.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CT = {"Modality": "CT", "StudyDate": "20200315", "StudyTime": "093000", "PatientName": "Müller^Jörg", "Rows": "512"}


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", True),
        ("   ", True),
        ("Modality = CT", True),
        ("Modality=ct", True),
        ("Modality != CT", False),
        ("Modality != MR", True),
        ("Modality in CT,MR", True),
        ("Modality in US, CT", True),
        ("Modality in US , CT", True),
        ("Modality IN US, MR", False),
        ("Modality ~ C*", True),
        ("Modality ~ c?", True),
        ("Modality ~ C", False),
        ("Modality ~ [C]T", False),
        ("PatientName ~ müller*", True),
        ("PatientID = \"\"", True),
        ("PatientID != \"\"", False),
        ("PatientID > 5", False),
        ("Modality = CT and StudyDate >= 20200101", True),
        ("Modality = CT and StudyDate >= 20210101", False),
        ("Modality = MR or Modality = CT and StudyDate < 2019", False),
        ("(Modality = MR or Modality = CT) and StudyDate < 2021", True),
        ("Modality = MR OR (Modality = CT AND StudyDate > 2019)", True),
        ("Rows > 64", True),
        ("Rows > 1024", False),
        ("Rows = 512.0", True),
    ],
)  # fmt: skip
def test_what_is_taken(text, taken):
    assert parse_rule(text).matches(CT) is taken


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("StudyDate > 2020", {"20201231": False, "20210101": True, "": False}),
        ("StudyDate >= 2020", {"20191231": False, "20200101": True}),
        ("StudyDate <= 2020", {"20201231": True, "20210101": False}),
        ("StudyDate < 202003", {"20200229": True, "20200301": False}),
        ("StudyDate = 2020-03", {"20200315": True, "20200401": False}),
        ("StudyDate != 2020", {"20200315": False, "20210101": True}),
        ("StudyDate >= 2020-03-15", {"20200314": False, "20200315": True, "2020.03.15": True}),
        ("StudyTime >= 1200", {"093000": False, "120000": True, "1200": True, "235959.123": True}),
        ("StudyTime < 9:30", {"092959": True, "093000": False}),
        ("SeriesNumber > 9", {"10": True, "9": False, "08": False}),
        ("SeriesNumber = 3", {"003": True, "30": False}),
        ("SliceThickness <= 1.25", {"1.250": True, "1.3": False, "1e-1": True}),
        ("PatientID = 007", {"007": True, "7": False}),
        ("PatientID = 1e3", {"1000": False}),
        ("SeriesNumber > 5", {"nan": True, "1_000": False}),
    ],
)
def test_dates_times_and_numbers(rule, values):
    parsed = parse_rule(rule)
    tag = next(iter(parsed.tags))
    for value, taken in values.items():
        if value in ("nan", "1_000"):
            parsed.matches({tag: value})  # compared as text, whatever comes out
        else:
            assert parsed.matches({tag: value}) is taken, value


def test_several_values():
    tags = {"ModalitiesInStudy": "CT\\SR", "ImageType": "DERIVED\\SECONDARY"}
    assert parse_rule("ModalitiesInStudy = SR").matches(tags)
    assert not parse_rule("ModalitiesInStudy != SR").matches(tags)
    assert parse_rule("ModalitiesInStudy != MR").matches(tags)
    assert parse_rule("ImageType in PRIMARY,DERIVED").matches(tags)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Modality", "operator is missing"),
        ("Modality =", "value is missing"),
        ("Modality = CT and", "a condition should follow"),
        ("and Modality = CT", "not the name of a tag"),
        ("Modality = CT MR", "not expected"),
        ("(Modality = CT", "bracket is not closed"),
        ("Modality = CT)", "not expected"),
        ("Modalty = CT", "no tag named “Modalty”"),
        ("Modality like CT", "not an operator"),
        ('PatientName = "Müller', "not closed"),
        ("StudyDate >= 2020123", "not a date"),
        ("StudyDate = 15.03.2020", "not a date"),
        ("StudyDate >= 20201301", "not a date"),
        ("()", "not the name of a tag"),
        ("! = 3", "not closed or not allowed"),
        ("(" * 5000 + "Modality = CT" + ")" * 5000, "brackets"),
    ],
)
def test_what_cannot_be_read_is_said_with_an_example(text, says):
    with pytest.raises(ConfigurationError) as caught:
        parse_rule(text)
    assert says in str(caught.value)
    assert "Modality = CT" in caught.value.next_step
    assert caught.value.code == "rule"


def test_the_tags_that_a_rule_looks_at():
    rule = parse_rule("(Modality = CT or BodyPartExamined = HEAD) and StudyDate > 2020")
    assert rule.tags == {"Modality", "BodyPartExamined", "StudyDate"}


conditions = st.builds(
    Condition,
    st.sampled_from(["Modality", "PatientID", "StudyDescription", "SeriesNumber"]),
    st.sampled_from(Operator),
    st.text(max_size=20),
)
rules = st.recursive(
    st.builds(lambda c: Rule(parts=(c,)), conditions),
    lambda inner: st.builds(
        Rule, st.booleans(), st.lists(st.one_of(conditions, inner), min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=8,
)
tag_values = st.dictionaries(
    st.sampled_from(["Modality", "PatientID", "StudyDescription", "SeriesNumber"]), st.text(max_size=8)
)


@calm
@given(rules, tag_values)
def test_a_rule_written_and_read_again_means_the_same(rule, tags):
    again = parse_rule(str(rule))
    assert again.matches(tags) is rule.matches(tags)
    assert str(parse_rule(str(again))) == str(again)


@calm
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text):
    with contextlib.suppress(ConfigurationError):
        parse_rule(text).matches(CT)


@calm
@given(conditions.filter(lambda c: c.operator is not Operator.MATCHES), tag_values)
def test_unequal_is_the_opposite_of_equal(condition, tags):
    equal = Condition(condition.tag, Operator.EQUAL, condition.value)
    unequal = Condition(condition.tag, Operator.NOT_EQUAL, condition.value)
    assert equal.matches(tags) is not unequal.matches(tags)
