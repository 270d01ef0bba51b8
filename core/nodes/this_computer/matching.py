"""Attribute matching of C-FIND (PS3.4 section C.2.2.2): whether a value is what a key asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from pydicom.datadict import dictionary_VR, tag_for_keyword

_WILD_VRS = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_ONE_TEXT = frozenset(("LT", "ST", "UT", "UR"))
_NUMBERS = frozenset(("IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "UV", "SV"))
_RANGES = frozenset(("DA", "TM", "DT"))
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d|60)?)?(?:\.\d{1,6})?")
_MOMENT = re.compile(r"(\d{4,14}(?:\.\d{1,6})?)([+-]\d{4})?")
_MOMENTS = re.compile(r"(\d{4,14}(?:\.\d{1,6})?(?:[+-]\d{4})?)?-(\d{4,14}(?:\.\d{1,6})?(?:[+-]\d{4})?)?")

Matcher = Callable[[str], bool]
"""Tells whether a stored value matches; several values are separated by backslashes."""


class UnusableKeyError(ValueError):
    """A key's value is none that its attribute can have; the text names the attribute, never the value."""


def matcher(keyword: str, wanted: str) -> Matcher | None:
    """How the values of an attribute match a key; None where all do (universal matching).

    Names match whatever their case, everything else to the letter (PS3.4 C.2.2.2.1). Of several values in key
    or attribute, one that matches is enough. A value that is not there matches only what all do.

    Raises
    ------
    UnusableKeyError
    """
    vr = vr_of(keyword)
    parts = [wanted] if vr in _ONE_TEXT else wanted.split("\\")
    parts = [p.strip() for p in parts]
    if not any(parts) or any(p and not p.strip("*") for p in parts):
        return None
    if vr == "SQ" or not vr:
        return None
    one = _single(keyword, vr)
    tests = [one(part) for part in parts if part]
    if vr in _ONE_TEXT:
        return lambda value: any(test(value.rstrip()) for test in tests)
    return lambda value: any(test(v.strip()) for v in value.split("\\") for test in tests)


@lru_cache(maxsize=1024)
def vr_of(keyword: str) -> str:
    """The value representation by the data dictionary; the first where there is a choice, empty where unknown."""
    tag = tag_for_keyword(keyword)
    return dictionary_VR(tag).split(" ")[0] if tag is not None else ""


def _single(keyword: str, vr: str) -> Callable[[str], Matcher]:
    if vr == "PN":
        return _name
    if vr in _RANGES:
        return lambda wanted: _range(keyword, vr, wanted)
    if vr in _NUMBERS:
        return lambda wanted: _number(keyword, wanted)
    if vr in _WILD_VRS:
        return lambda wanted: _wild(wanted, 0)
    return lambda wanted: wanted.__eq__


def _wild(wanted: str, flags: int) -> Matcher:
    """``*`` stands for any characters, ``?`` for one (PS3.4 C.2.2.2.4); takes no longer for hostile patterns."""
    if "*" not in wanted and "?" not in wanted and not flags:
        return wanted.__eq__
    first, *rest = [
        re.compile("".join("." if c == "?" else re.escape(c) for c in piece), flags | re.DOTALL)
        for piece in re.split(r"\*+", wanted)
    ]
    if not rest:
        return lambda value: first.fullmatch(value) is not None
    *middle, last = rest
    last_length = len(re.split(r"\*+", wanted)[-1])

    def matches(value: str) -> bool:
        found = first.match(value)
        end = len(value) - last_length
        if not value or found is None or found.end() > end or not last.fullmatch(value, end):
            return False
        at = found.end()
        for piece in middle:  # each as far to the left as it goes: nothing is ever tried twice
            found = piece.search(value, at, end)
            if found is None:
                return False
            at = found.end()
        return True

    return matches


def _name(wanted: str) -> Matcher:
    """A person's name: the key's component groups one by one, or one key without any against each of them.

    So the ideographic spelling finds the person too, whom a device asks for by that alone (PS3.5 section 6.2).
    """
    groups = [_tidy(g) for g in wanted.split("=")]
    if len(groups) == 1:
        test = _wild(groups[0], re.IGNORECASE)
        return lambda value: test(_tidy(value)) or any(test(_tidy(g)) for g in value.split("="))
    tests = [_wild(g, re.IGNORECASE) if g.strip("*") else None for g in groups]

    def matches(value: str) -> bool:
        have = [_tidy(g) for g in value.split("=")] + [""] * len(tests)
        return all(test is None or test(text) for test, text in zip(tests, have, strict=False))

    return matches


def _tidy(name: str) -> str:
    """Without delimiters that have nothing behind them, and blanks around components: they mean nothing."""
    return "^".join(part.strip() for part in name.rstrip("^= ").split("^"))


def _number(keyword: str, wanted: str) -> Matcher:
    number = _as_number(wanted)
    if number is None:
        raise UnusableKeyError(f"{keyword} is a number")
    return lambda value: _as_number(value) == number


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# dates and times ----------------------------------------------------------------------------------------


def _range(keyword: str, vr: str, wanted: str) -> Matcher:
    if vr == "DT":
        whole = _MOMENTS.fullmatch(wanted) if not _MOMENT.fullmatch(wanted) else None
        first, last = (whole[1] or "", whole[2] or "") if whole else (wanted, wanted)
        single = whole is None
    else:
        wanted = wanted.replace(":", "") if vr == "TM" else wanted.replace(".", "")
        first, dash, last = wanted.partition("-")
        single = not dash
    edges = [_moment(keyword, vr, text.strip()) if text.strip() else None for text in (first, last)]
    if edges == [None, None]:
        raise UnusableKeyError(f"{keyword} is a range without an end")
    low = edges[0][0] if edges[0] else ""
    high = (edges[0] if single else edges[1] or ("", "~"))[1]  # type: ignore[index]

    def matches(value: str) -> bool:
        try:
            start, _ = _moment(keyword, vr, value.replace(":", "") if vr == "TM" else value)
        except UnusableKeyError:
            return False
        return low <= start <= high

    return matches


def _moment(keyword: str, vr: str, text: str) -> tuple[str, str]:
    """The first and the last moment that a date or time stands for, as texts that compare like moments."""
    text = text.replace(".", "") if vr == "DA" else text
    if vr == "DA":
        if not _DATE.fullmatch(text) or not "0101" <= text[4:] <= "1231":
            raise UnusableKeyError(f"{keyword} is a date")
        return text, text
    if vr == "TM":
        if not _TIME.fullmatch(text):
            raise UnusableKeyError(f"{keyword} is a time")
        whole, _, fraction = text.partition(".")
        return _padded(whole, fraction, "000000", "235959")
    found = _MOMENT.fullmatch(text)
    if not found:
        raise UnusableKeyError(f"{keyword} is a date with a time")
    whole, _, fraction = found[1].partition(".")
    return _padded(whole, fraction, "00000101000000", "99991231235959")


def _padded(whole: str, fraction: str, first: str, last: str) -> tuple[str, str]:
    low = whole + first[len(whole) :]
    high = whole + last[len(whole) :]
    return f"{low}.{fraction:0<6}", f"{high}.{fraction:9<6}"
