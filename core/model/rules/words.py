"""Rules in words: how a person would say a condition, which operators fit which tags, and what a rule means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.model.rules.rule import LISTS, RELATIVE, WITHOUT_VALUE, Condition, Operator, Rule
from core.model.rules.tags import NUMBER_VRS, title_of, vr_of

MODALITY_REMARK = (
    "“Modality” is looked at image by image: of a study with CT and SR, “Modality is CT” takes the CT images only. "
    "For whole studies that have CT in them, choose “Modalities in study” (ModalitiesInStudy)."
)
RELATIVE_REMARK = "Days are counted back from the day on which a study is looked at, not from the day the job is made."


class Shape(StrEnum):
    """Where the text stands in a pattern."""

    WHOLE = ""
    CONTAINS = "contains"
    BEGINS = "begins"


@dataclass(frozen=True, slots=True)
class Phrase:
    """An operator as people say it of one kind of tag."""

    operator: Operator
    words: str
    shape: Shape = Shape.WHOLE

    def pattern(self, text: str) -> str:
        """What is compared for the text that a person typed."""
        if self.shape is Shape.CONTAINS:
            return f"*{text}*"
        return f"{text}*" if self.shape is Shape.BEGINS else text


_IS = (Phrase(Operator.EQUAL, "is"), Phrase(Operator.NOT_EQUAL, "is not"))
_LISTED = (Phrase(Operator.IN, "is one of"), Phrase(Operator.NOT_IN, "is none of"))
_VALUED = (Phrase(Operator.PRESENT, "has a value"), Phrase(Operator.EMPTY, "is empty"))
_PATTERNS = (
    Phrase(Operator.MATCHES, "contains", Shape.CONTAINS),
    Phrase(Operator.NOT_MATCHES, "does not contain", Shape.CONTAINS),
    Phrase(Operator.MATCHES, "begins with", Shape.BEGINS),
    Phrase(Operator.MATCHES, "matches (* and ?)"),
    Phrase(Operator.NOT_MATCHES, "does not match (* and ?)"),
)


def _ordered(before: str, to: str, after: str, since: str, between: str = "is between") -> tuple[Phrase, ...]:
    return (
        Phrase(Operator.GREATER_EQUAL, since),
        Phrase(Operator.LESS_EQUAL, to),
        Phrase(Operator.BETWEEN, between),
        Phrase(Operator.LESS, before),
        Phrase(Operator.GREATER, after),
    )


_DAYS = _ordered("is before", "is on or before", "is after", "is on or after")
_SPANS = (Phrase(Operator.WITHIN, "is in the last"), Phrase(Operator.OLDER, "is longer ago than"))
_MOMENTS = _ordered("is before", "is at or before", "is after", "is at or after")
_NUMBERS = _ordered("is less than", "is at most", "is more than", "is at least")
_AGES = _ordered("is younger than", "is at most", "is older than", "is at least")
_SORTED = _ordered("comes before", "is or comes before", "comes after", "is or comes after", "lies between")

_BY_VR: dict[str, tuple[Phrase, ...]] = {
    "DA": (*_SPANS, *_DAYS, *_IS, *_LISTED, *_VALUED),
    "DT": (*_SPANS, *_MOMENTS, *_IS, *_VALUED),
    "TM": (*_MOMENTS, *_IS, *_VALUED),
    "AS": (*_AGES, *_IS, *_VALUED),
    "CS": (*_IS, *_LISTED, *_PATTERNS, *_VALUED),
    "UI": (*_IS, *_LISTED, *_PATTERNS, *_VALUED),
    "AE": (*_IS, *_LISTED, *_PATTERNS, *_VALUED),
    "SQ": _VALUED,
    "": (*_IS, *_LISTED, *_PATTERNS, *_NUMBERS, *_VALUED),
} | dict.fromkeys(NUMBER_VRS, (*_IS, *_NUMBERS, *_LISTED, *_VALUED))
_TEXT = (*_PATTERNS[:1], *_IS, *_LISTED, *_PATTERNS[1:], *_VALUED)
_MODALITY = (*_LISTED, *_IS, *_VALUED)
_ALL = (*_IS, *_LISTED, *_PATTERNS, *_SORTED, *_SPANS, *_VALUED)


def phrases(tag: str) -> tuple[Phrase, ...]:
    """What can be said of a tag; what is said most comes first."""
    if is_modality(tag):
        return _MODALITY
    return _BY_VR.get(vr_of(tag), _TEXT)


def is_modality(tag: str) -> bool:
    """Whether its values are modalities."""
    return tag.rpartition(".")[2] in ("Modality", "ModalitiesInStudy")


def phrase_of(condition: Condition) -> tuple[Phrase, tuple[str, ...]]:
    """How a condition is said, and the values as a person would type them."""
    op, values = condition.operator, condition.values
    known = (*phrases(condition.tag), *_ALL)
    if op in (Operator.MATCHES, Operator.NOT_MATCHES):
        for phrase in known:
            if phrase.operator is op and phrase.shape and (inner := _inside(phrase.shape, values[0])):
                return phrase, (inner,)
    return next(p for p in known if p.operator is op and not p.shape), values


def _inside(shape: Shape, pattern: str) -> str:
    """The text within a pattern of this shape; empty where it has another one."""
    inner = pattern[1:-1] if shape is Shape.CONTAINS else pattern[:-1]
    fits = pattern.endswith("*") and len(pattern) > 2 and pattern.startswith("*") is (shape is Shape.CONTAINS)
    return inner if fits and not set(inner) & set("*?") else ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a rule in words; `depth` is how many groups it lies in."""

    depth: int
    text: str


def in_words(rule: Rule) -> tuple[Line, ...]:
    """A rule line by line."""
    if not rule.parts:
        return (Line(0, "Everything"),)
    if len(rule.parts) == 1 and isinstance(rule.parts[0], Condition):
        return (Line(0, said(rule.parts[0])),)
    return tuple(_lines(rule, 0))


def _lines(rule: Rule, depth: int) -> list[Line]:
    found = [Line(depth, "Any of these:" if rule.any_of else "All of these:")]
    for part in rule.parts:
        if isinstance(part, Rule):
            found += _lines(part, depth + 1)
        else:
            found.append(Line(depth + 1, said(part)))
    return found


def sentence(rule: Rule) -> str:
    """A rule in one line."""
    if not rule.parts:
        return "Everything"
    word = " or " if rule.any_of else " and "
    return word.join(f"({sentence(p)})" if isinstance(p, Rule) else said(p) for p in rule.parts)


def said(condition: Condition) -> str:
    """ "Study date is on or after 2020-01-01"."""
    phrase, values = phrase_of(condition)
    words = f"{title_of(condition.tag)} {phrase.words.removesuffix(' (* and ?)')}"
    if condition.operator in WITHOUT_VALUE:
        return words
    if condition.operator in RELATIVE:
        return f"{words} {' '.join(values) if values[0] != '1' else f'{values[0]} {values[1][:-1]}'}"
    shown = [_value(condition.tag, v) for v in values]
    if condition.operator in LISTS:
        return f"{words} {_listed(shown)}"
    return f"{words} {' and '.join(shown)}"


def _listed(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"


def _value(tag: str, value: str) -> str:
    if not value.strip():
        return "empty"
    if vr_of(tag) == "DA" and value.isascii() and value.isdigit():
        return "-".join(part for part in (value[:4], value[4:6], value[6:8]) if part)
    return f"“{value}”" if " " in value or '"' in value else value


def remarks(rule: Rule) -> tuple[str, ...]:
    """What people should know of a rule before they trust it."""
    found = []
    if "Modality" in rule.tags:
        found.append(MODALITY_REMARK)
    if any(c.operator in RELATIVE for c in rule.conditions()):
        found.append(RELATIVE_REMARK)
    return tuple(found)
