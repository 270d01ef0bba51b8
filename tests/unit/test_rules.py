"""Rules over tags: what people write is what they mean, and a typing error never matches at random."""

from __future__ import annotations

import contextlib
from datetime import date

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from core.model.errors import ConfigurationError
from core.model.rules import Condition, Operator, Rule, RuleError, parse_rule
from core.model.rules.tags import vr_of
from core.model.rules.values import order_to

#: A busy machine is no failure.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
TODAY = date(2026, 11, 21)

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
    ],
)
def test_dates_times_and_numbers(rule, values):
    parsed = parse_rule(rule)
    tag = next(iter(parsed.tags))
    for value, taken in values.items():
        assert parsed.matches({tag: value}) is taken, value


def test_several_values():
    tags = {"ModalitiesInStudy": "CT\\SR", "ImageType": "DERIVED\\SECONDARY"}
    assert parse_rule("ModalitiesInStudy = SR").matches(tags)
    assert not parse_rule("ModalitiesInStudy != SR").matches(tags)
    assert parse_rule("ModalitiesInStudy != MR").matches(tags)
    assert parse_rule("ImageType in PRIMARY,DERIVED").matches(tags)


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        # Names: by component groups, whatever the case, the padding with carets and the composition of letters.
        ("PatientName = müller^jörg", {"Müller^Jörg": True, "MÜLLER^JÖRG^^^": True, "Mu\u0308ller^Jo\u0308rg": True,
                                       "Müller": False, "Müller^Jörg^Dr": False}),
        ('PatientName = "Müller, Jörg"', {"Müller^Jörg": True, "Müller, Jörg": True, "Jörg^Müller": False}),
        ("PatientName = 山田^太郎", {"Yamada^Tarou=山田^太郎=やまだ^たろう": True, "山田^太郎": True,
                                    "Yamada^Tarou": False}),
        ('PatientName = "Yamada^Tarou=山田^太郎"', {"YAMADA^TAROU=山田^太郎=やまだ^たろう": True,
                                                  "Yamada^Tarou": False}),
        ("PatientName ~ yama*", {"Yamada^Tarou=山田^太郎": True, "山田^太郎=Yamada": True, "Okonkwo^Yama": False}),
        ("PatientName is empty", {"": True, "^^^^": True, "A": False}),
        # Of what is not as the tag should be, nothing is before or after anything.
        ("StudyDate > 1900", {"unknown": False, "20200101": True, "": False}),
        ("StudyDate < 2100", {"unknown": False, "": False}),
        ("StudyDate = 2020", {"2020x": False}),
        ("StudyDate between 2019 and 202003", {"20190101": True, "20200331": True, "20200401": False,
                                                "20181231": False}),
        ("StudyTime between 09:30 and 10:15", {"093000": True, "101559.9": True, "1016": False, "092959": False}),
        ("StudyTime = 9:30:15.5", {"093015.500000": True, "093015": False}),
        ("AcquisitionDateTime < 202003150930", {"20200315092959.9": True, "20200315093000": False, "2020": True}),
        # 09:30 in Paris is 08:30 in London; without offsets the clocks are compared as they are.
        ("AcquisitionDateTime = 202003150930+0100", {"20200315083000+0000": True, "202003150930-0500": False,
                                                     "20200315093000": True}),
        ('AcquisitionDateTime > "2020-03-15 09:30:00-05:00"', {"20200315142959+0000": False,
                                                               "20200315143001+0000": True}),
        ("SeriesNumber > 9007199254740992", {"9007199254740993": True, "9007199254740992": False}),
        ("SliceThickness = 0.1", {"0.10": True, "1e-1": True, ".1": True, "0.1000000001": False}),
        ("SliceThickness in 1, 1.25", {"1.0": True, "1.250 ": True, "2": False}),
        ("SeriesNumber > 5", {"nan": False, "1_000": False, "x": False, "6": True}),
        ("PatientAge < 18Y", {"017Y": True, "018Y": False, "011M": True, "216M": False, "": False, "young": False}),
        ("PatientAge >= 12M", {"001Y": True, "364D": False, "052W": False, "053W": True}),
        ('StudyDescription in "CHEST, PA", ABDOMEN', {"Chest, PA": True, "abdomen ": True, "CHEST": False,
                                                       "PA": False}),
        ("StudyDescription !~ *thorax*", {"CT Thorax": False, "CT Head": True, "": True}),
        ("Modality not in SR, PR, KO", {"CT": True, "SR": False, "": True}),
        ("BodyPartExamined is present", {"HEAD": True, "": False}),
        ("ImageType is empty", {"": True, "\\": True, "ORIGINAL": False}),
        ('PatientComments = "a\\b"', {"a\\b": True, "a": False}),  # a text of one value: a backslash parts nothing
        ("(0009,1010) = 007", {"007": True, "7": False}),
        ("(0009,1010) > 9", {"10": True, "9": False, "abc": True}),
        ("RequestAttributesSequence.ScheduledProcedureStepID = A7", {"B1\\A7": True, "B1": False}),
    ],
)  # fmt: skip
def test_values_by_their_representation(rule, values):
    parsed = parse_rule(rule)
    tag = next(iter(parsed.tags))
    for value, taken in values.items():
        assert parsed.matches({tag: value}, today=TODAY) is taken, value


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        ("StudyDate in last 7 days", date(2026, 11, 14)),
        ("StudyDate in last 1 day", date(2026, 11, 20)),
        ("StudyDate IN LAST 2 weeks", date(2026, 11, 7)),
        ("StudyDate in last 9 months", date(2026, 2, 21)),
        ("StudyDate in last 2 years", date(2024, 11, 21)),
        ("StudyDate in last 36500 years", date(1, 1, 1)),
        ("AcquisitionDateTime in last 7 days", date(2026, 11, 14)),
    ],
)
def test_days_are_counted_back_from_the_day_of_the_look(rule, first):
    tag = next(iter(parse_rule(rule).tags))
    older = parse_rule(rule.lower().replace("in last", "older than"))
    for day, inside in ((first, True), (date(2026, 11, 21), True), (date(2027, 1, 1), True), (None, False)):
        value = f"{day.year:04}{day.month:02}{day.day:02}" if day else "unknown"
        assert parse_rule(rule).matches({tag: value}, today=TODAY) is inside
        assert not older.matches({tag: value}, today=TODAY)
    if first > date.min:
        before = f"{date.fromordinal(first.toordinal() - 1):%Y%m%d}"
        assert not parse_rule(rule).matches({tag: before}, today=TODAY)
        assert older.matches({tag: before}, today=TODAY)
    assert not older.matches({}, today=TODAY)


def test_the_end_of_a_month_lies_a_month_back_at_its_end():
    rule = parse_rule("StudyDate in last 1 month")
    assert rule.matches({"StudyDate": "20240229"}, today=date(2024, 3, 31))
    assert not rule.matches({"StudyDate": "20240228"}, today=date(2024, 3, 31))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("modality", "Modality"),
        ("MODALITY", "Modality"),
        ("(0008,0060)", "Modality"),
        ("0008,0060", "Modality"),
        ("00080060", "Modality"),
        ('"Study date"', "StudyDate"),
        ('"patient\'s name"', "PatientName"),
        ('"Slice Thickness"', "SliceThickness"),
        ("( 0009 , 10aF )", "(0009,10AF)"),
        ("(0009,0010)", "(0009,0010)"),
        ("requestattributessequence.modality", "RequestAttributesSequence.Modality"),
        ("(0009,1010).PatientID", "(0009,1010).PatientID"),
        ("ProcedureCodeSequence.(0009,1010)", "ProcedureCodeSequence.(0009,1010)"),
    ],
)
def test_tags_by_keyword_number_name_and_path(text, key):
    assert parse_rule(f"{text} = 2024").tags == {key}
    assert parse_rule(str(parse_rule(f"{text} = 2024"))).tags == {key}


def test_where_it_goes_wrong_is_told():
    for text, at, length in (
        ("Modality = CT and Modalty = MR", 18, 7),
        ("Modality = CT and", 17, 1),
        ("StudyDate >= 2020123", 13, 7),
        ("Modality in CT,, MR", 12, 4),
        ("(Modality = CT", 0, 1),
        ("  Modality = 'CT' MR", 18, 2),
        ("Modality = CT\x00", 13, 1),
        ("Modality = CT and Modality = MR", 18, 8),
    ):
        with pytest.raises(RuleError) as caught:
            parse_rule(text)
        assert (caught.value.at, caught.value.length) == (at, length)
        assert f"at character {at + 1}" in caught.value.sentence


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
        ("Modalty = CT", "“Modalty” is not the name of a tag in DICOM; perhaps Modality is meant"),
        ("Modality like CT", "not an operator"),
        ('PatientName = "Müller', "not closed"),
        ("StudyDate >= 2020123", "not a date"),
        ("StudyDate = 15.03.2020", "not a date"),
        ("StudyDate >= 20201301", "not a date"),
        ("()", "not the name of a tag"),
        ("StudyDate between 2020", "“and” and a second value are missing"),
        ("StudyDate between 2021 and 2020", "turn them round"),
        ("StudyDate in last week", "is missing"),
        ("StudyDate in last 7", "days, weeks, months or years is missing"),
        ("StudyDate in last 7 moons", "not a number of days"),
        ("StudyDate older than 0 days", "not a number of days"),
        ("PatientID older than 7 days", "is for dates"),
        ("StudyDate in 20200101, 2020123", "not a date"),
        ("StudyTime >= 25:00", "not a time"),
        ("StudyTime = 930", "not a time"),
        ("AcquisitionDateTime = yesterday", "not a date with a time"),
        ("SeriesNumber > five", "not a number"),
        ("PatientAge > 18", "not an age"),
        ('StudyDate > ""', "empty value"),
        ('PatientID ~ " "', "empty value"),
        ('Modality in CT, ""', "no empty value"),
        ('PatientID = "a\nb"', "within quotes"),
        ("Modality is CT", "only “empty” or “present”"),
        ("PixelData is present", "no text or number"),
        ("MediaStorageSOPClassUID = 1.2", "belongs to the file"),
        ("(0010,0000) = 4", "group length"),
        ("(0010,9999) = 4", "not a tag of DICOM"),
        ("(0009,0005) = 4", "can't be a private tag"),
        ("PatientName.Modality = CT", "no sequence"),
        ("RequestAttributesSequence = CT", "name a tag within it"),
        ("NumberOfPatientRelatedStudies > 3", "no rule can rely on it"),
        ("Modality = CT and Modality = MR", "can't be CT and MR at once"),
        ("StudyDate > 2021 and StudyDate < 2020", "can't be > 2021 and < 2020 at once"),
        ("PatientID is empty and PatientID = 3", "can't be empty and have a value"),
        ('"' * 10_001, "quotes are opened and not closed"),
        ("\x00" * 10_000, "can't be typed"),
        ("PatientName = \x1b[31m", "can't be typed"),
        ("Modality = CT or " * 2_000 + "Modality = CT", "more than 1,000 conditions"),
        ("x" * 300_000, "longer than"),
        ("a." * 5_000 + "b = 1", "too deep"),
        ("! = 3", "not allowed"),
        ("(" * 5000 + "Modality = CT" + ")" * 5000, "brackets"),
    ],
)
def test_what_cannot_be_read_is_said_with_an_example(text, says):
    with pytest.raises(ConfigurationError) as caught:
        parse_rule(text)
    assert says in str(caught.value)
    assert "Write" in caught.value.next_step or "Turn" in caught.value.next_step
    assert caught.value.code == "rule"
    assert caught.value.exit_status == 2
    assert len(caught.value.sentence) < 300
    assert caught.value.sentence.isprintable()


def test_the_tags_that_a_rule_looks_at():
    rule = parse_rule("(Modality = CT or BodyPartExamined = HEAD) and StudyDate > 2020")
    assert rule.tags == {"Modality", "BodyPartExamined", "StudyDate"}


TAGS = (
    "Modality", "ModalitiesInStudy", "PatientID", "PatientName", "StudyDescription", "StudyDate", "StudyTime",
    "AcquisitionDateTime", "SeriesNumber", "SliceThickness", "PatientAge", "(0009,1010)",
    "RequestAttributesSequence.ScheduledProcedureStepID", "ProcedureCodeSequence.(0009,1010)",
)  # fmt: skip
#: What can be typed: nobody types what ends a line of a terminal or is half a character.
typed = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12).filter(str.strip)
days = st.dates().map(lambda day: f"{day.year:04}{day.month:02}{day.day:02}"[: 8 - 2 * (day.day % 3)])
times = st.times().map(lambda time: f"{time:%H%M%S}"[: 6 - 2 * (time.second % 3)])
USABLE = {
    "DA": days,
    "TM": times,
    "DT": st.builds(lambda day, time, zone: f"{day:%Y%m%d}{time:%H%M}{zone}", st.dates(date(1000, 1, 1)), st.times(),
                    st.sampled_from(["", "+0100", "-0530"])),
    "IS": st.integers(-(10**12), 10**12).map(str),
    "DS": st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-9999, max_value=9999).map(str),
    "AS": st.builds(lambda n, unit: f"{n:03}{unit}", st.integers(0, 999), st.sampled_from("DWMY")),
}  # fmt: skip
BOUNDS = (Operator.LESS, Operator.LESS_EQUAL, Operator.GREATER, Operator.GREATER_EQUAL)


@st.composite
def a_condition(
    draw: st.DrawFn, tags: tuple[str, ...] = TAGS, operators: tuple[Operator, ...] = tuple(Operator)
) -> Condition:
    tag = draw(st.sampled_from(tags))
    operator = draw(st.sampled_from(operators))
    vr = vr_of(tag)
    if operator in (Operator.WITHIN, Operator.OLDER):
        tag = draw(st.sampled_from(["StudyDate", "AcquisitionDateTime"]))
        count = draw(st.integers(1, 36_500))
        return Condition(tag, operator, (str(count), draw(st.sampled_from(["days", "weeks", "months", "years"]))))
    if operator in (Operator.EMPTY, Operator.PRESENT):
        return Condition(tag, operator)
    value = USABLE.get(vr, typed)
    if operator in (Operator.MATCHES, Operator.NOT_MATCHES):
        return Condition(tag, operator, (draw(typed),))
    if operator in (Operator.IN, Operator.NOT_IN):
        return Condition(tag, operator, tuple(draw(st.lists(value, min_size=1, max_size=4, unique=True))))
    if operator is Operator.BETWEEN:
        two = draw(st.tuples(value, value))
        assume(vr not in USABLE or (order_to(vr, two[1])(two[0]) or 0) <= 0)
        return Condition(tag, operator, two)
    return Condition(tag, operator, (draw(value),))


conditions = a_condition()
rules = st.recursive(
    st.builds(lambda c: Rule(parts=(c,)), conditions),
    lambda inner: st.builds(
        Rule, st.booleans(), st.lists(st.one_of(conditions, inner), min_size=1, max_size=4).map(tuple)
    ),
    max_leaves=12,
)
tag_values = st.dictionaries(st.sampled_from(TAGS), st.one_of(typed, days, times, USABLE["DT"], USABLE["DS"]))


def read(text: str) -> Rule | RuleError:
    try:
        return parse_rule(text)
    except RuleError as error:
        return error


@calm
@given(rules, tag_values)
def test_a_rule_written_and_read_again_is_the_same(rule, tags):
    again = read(str(rule))
    if isinstance(again, RuleError):  # what contradicts itself is refused, and nothing else
        assert "can never match" in again.sentence
        return
    assert again == rule
    assert str(again) == str(rule)
    assert again.matches(tags, today=TODAY) is rule.matches(tags, today=TODAY)


@calm
@given(st.sampled_from(TAGS), st.data())
def test_what_is_refused_as_never_matching_never_matches(tag, data):
    of_tag = a_condition((tag,), (*BOUNDS, Operator.EQUAL, Operator.EMPTY))
    rule = Rule(parts=(data.draw(of_tag), data.draw(of_tag)))
    assume(isinstance(read(str(rule)), RuleError))
    wanted = [v for c in rule.conditions() for v in c.values]
    for value in ["", *wanted, data.draw(USABLE.get(vr_of(tag), typed))]:
        assert not rule.matches({tag: value})


@calm
@given(rules, tag_values)
def test_a_verdict_without_all_tags_is_never_wrong(rule, tags):
    """Whatever the others are: what was decided without them stays so."""
    whole = {tag: tags.get(tag, "") for tag in TAGS}
    for known in ({}, tags, whole):
        verdict = rule.verdict(known, today=TODAY)
        assert verdict in (None, rule.matches(tags, today=TODAY))
    assert rule.verdict(whole, today=TODAY) is rule.matches(tags, today=TODAY)


@calm
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text):
    with contextlib.suppress(ConfigurationError):
        parse_rule(text).matches(CT)


@calm
@given(
    st.lists(
        st.sampled_from(
            [
                *'()"=<>~!,.\\',
                " and ",
                " or ",
                "Modality",
                " in ",
                " is ",
                "last",
                " 7 ",
                "\0",
                "not",
                "StudyDate",
                "20200101",
                "(0009,1010)",
                "between",
                "empty",
                "days",
                "\x1b[31m",
            ]
        )
    )
)
def test_any_words_of_the_language_are_read_or_refused_in_words(words):
    text = "".join(words)
    found = read(text)
    if isinstance(found, RuleError):
        assert 0 <= found.at <= len(text)
        assert found.sentence.isprintable()
    else:
        assert parse_rule(str(found)) == found
        found.matches(CT)


@calm
@given(conditions, tag_values)
def test_each_not_is_the_opposite(condition, tags):
    opposite = {
        Operator.EQUAL: Operator.NOT_EQUAL,
        Operator.IN: Operator.NOT_IN,
        Operator.MATCHES: Operator.NOT_MATCHES,
        Operator.EMPTY: Operator.PRESENT,
    }.get(condition.operator)
    assume(opposite)
    other = Condition(condition.tag, opposite, condition.values)
    assert Rule(parts=(condition,)).matches(tags) is not Rule(parts=(other,)).matches(tags)


@calm
@given(a_condition(operators=BOUNDS), tag_values)
def test_what_is_before_is_not_after(condition, tags):
    value = tags.get(condition.tag, "")
    found = [Condition(condition.tag, op, condition.values).holds(value, TODAY) for op in BOUNDS]
    less, less_equal, greater, greater_equal = found
    assert not (less and greater_equal and "\\" not in value)
    assert not (greater and less_equal and "\\" not in value)
    assert less <= less_equal
    assert greater <= greater_equal
