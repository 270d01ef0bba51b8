"""Orthanc's identifiers: long lists of them kept small, and what of them has not come yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.nodes.orthanc.answers import identifiers
from core.nodes.orthanc.describe import series_info
from core.nodes.orthanc.identifiers import IdentifierList, ListSieve, Outstanding, instance_id

MANY = [instance_id("P", "1.2", "1.2.3", f"1.2.3.{number}") for number in range(1000)]
ODD = ["", "an-identifier", MANY[0].upper(), MANY[0] + "\n", MANY[0].replace("-", ""), MANY[0][:-1] + "g"]


INDENTS = [None, 0, 3]  # one line, and as Orthanc writes it


def loads(body: bytes, part: int = 1 << 20) -> Any:
    """What a sieve makes of a text that comes in parts of so many bytes."""
    sieve = ListSieve()
    left = b"".join(sieve.take(memoryview(body)[at : at + part]) for at in range(0, len(body), part))
    return sieve.loads(left + sieve.end())


def _small(listed: Sequence[str]) -> Sequence[str]:
    found = loads(json.dumps({"Instances": listed}).encode())["Instances"]
    return identifiers(found)


@pytest.mark.parametrize("indent", INDENTS)
def test_a_long_list_is_kept_small_and_the_same(indent: int | None) -> None:
    series = {"ID": "s", "Instances": MANY, "MainDicomTags": {"SeriesInstanceUID": "1.2.3"}, "Type": "Series"}
    found = loads(json.dumps(series, indent=indent).encode())
    small = found.pop("Instances")
    assert found == {key: value for key, value in series.items() if key != "Instances"}
    assert isinstance(small, IdentifierList)
    assert identifiers(small) is small
    assert list(small) == MANY
    assert len(small) == 1000
    assert (small[0], small[999], small[-1]) == (MANY[0], MANY[999], MANY[-1])
    assert small[200:400] == MANY[200:400]
    assert small[990:2000] == MANY[990:]
    with pytest.raises(IndexError):
        small[1000]
    assert series_info({**found, "Instances": small}).instance_count == 1000


@pytest.mark.parametrize("indent", INDENTS)
def test_each_series_has_its_own(indent: int | None) -> None:
    """Also where short ones, which stay as they are, stand between."""
    lists = [MANY[:600], MANY[:3], [], MANY[300:], MANY[:1]]
    found = loads(json.dumps([{"Instances": listed} for listed in lists], indent=indent).encode())
    assert [list(item["Instances"]) for item in found] == lists
    assert [isinstance(item["Instances"], IdentifierList) for item in found] == [True, False, False, True, False]


def test_a_list_that_is_all() -> None:
    assert list(loads(json.dumps(MANY).encode())) == MANY


@pytest.mark.parametrize("odd", [*ODD, 7, None, [], {"a": 1}])
@pytest.mark.parametrize("place", [0, 1, 700, 1000])
def test_a_list_with_something_else_in_it_stays_as_it_is(odd: object, place: int) -> None:
    listed = [*MANY[:place], odd, *MANY[place:]]
    assert loads(json.dumps(listed).encode()) == listed


def test_texts_that_look_like_lists() -> None:
    """Tags hold whatever somebody has typed."""
    texts = ["[", '["' + MANY[0] + '",', json.dumps(MANY), json.dumps({"Instances": MANY})]
    series = {text: text for text in texts}
    assert loads(json.dumps(series).encode()) == series


@pytest.mark.parametrize("end", ["", ",", ",]", "}", '"', ' "x"]', "]]", "] {}"])
def test_a_broken_list_is_no_json(end: str) -> None:
    body = json.dumps(MANY)[:-1] + end
    with pytest.raises(ValueError, match="line"):
        json.loads(body)
    with pytest.raises(ValueError, match="line"):
        loads(body.encode())


_VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=5), st.sampled_from([MANY[:2], MANY[:501], MANY])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=_VALUES, indent=st.sampled_from([*INDENTS, 100]), part=st.sampled_from([1, 7, 300, 1000, 1 << 20]))
def test_the_same_value_as_any_reader_of_json_has(value: object, indent: int | None, part: int) -> None:
    """However the text is cut on its way."""
    text = json.dumps(value, indent=indent).encode()
    assert _plain(loads(text, part)) == value


@pytest.mark.parametrize("indent", INDENTS)
@pytest.mark.parametrize("part", [1, 7, 300, 1000, 1 << 20])
def test_of_a_long_list_next_to_nothing_is_kept_as_text(indent: int | None, part: int) -> None:
    text = json.dumps({"Instances": MANY}, indent=indent).encode()
    sieve = ListSieve()
    assert sum(len(sieve.take(text[at : at + part])) for at in range(0, len(text), part)) + len(sieve.end()) < 100


def _plain(value: object) -> object:
    if isinstance(value, IdentifierList):
        return list(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_sha1_may_be_outstanding_too(odd: str) -> None:
    left = Outstanding([[MANY[0], odd, MANY[1]]])
    assert left.count == 3
    assert odd in left
    assert left.take(odd) == 0
    assert odd not in left
    assert MANY[0] in left


def test_nothing() -> None:
    left = Outstanding([])
    assert left.count == 0
    assert left.take(MANY[0]) is None
    assert MANY[0] not in left


def test_each_comes_once() -> None:
    left = Outstanding([_small(MANY[:600]), MANY[600:999]])
    assert left.take(MANY[999]) is None, "in no list"
    assert [left.take(one) for one in MANY[:999]] == [0] * 600 + [1] * 399
    assert left.count == 0
    assert left.take(MANY[0]) is None, "a second time"
    assert left.count == 0


@given(
    lists=st.lists(st.lists(st.sampled_from(MANY[:30] + ODD), unique=True, max_size=20), max_size=4),
    came=st.lists(st.sampled_from(MANY[:40] + ODD), max_size=60),
)
def test_as_a_dictionary_would_have_it(lists: Sequence[list[str]], came: list[str]) -> None:
    known = {one: number for number, listed in enumerate(lists) for one in listed}
    left = Outstanding(lists)
    for one in came:
        assert left.take(one) == known.pop(one, None)
        assert left.count == len(known)
    assert {one for one in MANY[:40] + ODD if one in left} == set(known)
