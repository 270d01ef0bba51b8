"""Orthanc's identifiers: long lists of them kept small, and what of them has not come yet."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.nodes.orthanc.identifiers import IdentifierList, Outstanding, instance_id, kept_small

MANY = [instance_id("P", "1.2", "1.2.3", f"1.2.3.{number}") for number in range(1000)]
ODD = ["", "an-identifier", MANY[0].upper(), MANY[0] + "\n", MANY[0].replace("-", ""), MANY[0][:-1] + "g"]


def test_a_list_kept_small_is_the_same_list() -> None:
    small = kept_small(MANY)
    assert isinstance(small, IdentifierList)
    assert list(small) == MANY
    assert len(small) == 1000
    assert (small[0], small[999], small[-1]) == (MANY[0], MANY[999], MANY[-1])
    assert small[200:400] == MANY[200:400]
    assert small[990:2000] == MANY[990:]
    with pytest.raises(IndexError):
        small[1000]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_sha1_stays_as_it_is(odd: str) -> None:
    listed = [MANY[0], odd, MANY[1]]
    assert kept_small(listed) is listed
    left = Outstanding([listed])
    assert left.count == 3
    assert odd in left
    assert left.take(odd) == 0
    assert odd not in left
    assert MANY[0] in left


def test_nothing() -> None:
    assert len(kept_small([])) == 0
    left = Outstanding([])
    assert left.count == 0
    assert left.take(MANY[0]) is None
    assert MANY[0] not in left


def test_each_comes_once() -> None:
    left = Outstanding([kept_small(MANY[:600]), MANY[600:999]])
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
    left = Outstanding([kept_small(listed) for listed in lists])
    for one in came:
        assert left.take(one) == known.pop(one, None)
        assert left.count == len(known)
    assert {one for one in MANY[:40] + ODD if one in left} == set(known)
