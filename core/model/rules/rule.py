"""Rules as data: conditions on tags, all or any of them, and what they say of a study or an image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache

from core.model.rules.tags import WHOLE_TEXT_VRS, vr_of
from core.model.rules.values import day_of, days_ago, equal_to, like, one_of, order_to


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_EQUAL = "<="
    GREATER = ">"
    GREATER_EQUAL = ">="
    BETWEEN = "between"  # both ends included
    MATCHES = "~"  # DICOM wildcards * and ?
    NOT_MATCHES = "!~"
    IN = "in"  # one of a list
    NOT_IN = "not in"
    WITHIN = "in last"  # so many days, weeks, months or years before today, or later
    OLDER = "older than"
    EMPTY = "is empty"
    PRESENT = "is present"


#: Those that are true of a tag without a value: it is not this, not one of these, nothing like that.
NEGATIVE = frozenset({Operator.NOT_EQUAL, Operator.NOT_MATCHES, Operator.NOT_IN})
LISTS = frozenset({Operator.IN, Operator.NOT_IN})
RELATIVE = frozenset({Operator.WITHIN, Operator.OLDER})
WITHOUT_VALUE = frozenset({Operator.EMPTY, Operator.PRESENT})

_PLAIN = re.compile(r'[^\s()=<>!~",]+\Z')
_PLAIN_SINGLE = re.compile(r'[^\s()=<>!~"]+\Z')


@dataclass(frozen=True, slots=True)
class Condition:
    """One tag–operator–value.

    A multi-valued tag matches when any of its values does; for "not" operators when none of them does. Texts are
    compared without regard to case, dates and times as far as the value goes: ``StudyDate > 2020`` is 2021 and
    later, and ``StudyDate <= 2020`` the whole of 2020 too. What has no value, or one that isn't what the tag should
    hold, is neither before nor after anything.

    Attributes
    ----------
    tag : str
        As `tags.tag_key` gives it.
    operator : Operator
    values : tuple[str, ...]
        One; two for BETWEEN; one or more for IN and NOT_IN; number and unit for WITHIN and OLDER; else none.
    """

    tag: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, value: str, today: date) -> bool:
        """Whether it is true of a tag with this value; several are separated by backslashes, empty is none."""
        split = [value] if vr_of(self.tag) in WHOLE_TEXT_VRS else value.split("\\")
        return _test(self)([part.strip(" \0") for part in split], today)

    def __str__(self) -> str:
        op, values = self.operator, self.values
        if op in WITHOUT_VALUE:
            return f"{self.tag} {op.value}"
        if op in RELATIVE:
            return f"{self.tag} {op.value} {' '.join(values)}"
        if op in LISTS:
            return f"{self.tag} {op.value} {', '.join(_quoted(v, _PLAIN) for v in values)}"
        if op is Operator.BETWEEN:
            return f"{self.tag} between {_quoted(values[0])} and {_quoted(values[1])}"
        return f"{self.tag} {op.value} {_quoted(values[0])}"


def _quoted(value: str, plain: re.Pattern[str] = _PLAIN_SINGLE) -> str:
    return value if plain.match(value) else '"' + value.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Rule:
    """All or any of some conditions and rules; without parts it matches everything.

    What makes no difference is not kept: groups without parts, groups of one, "any" of one.
    """

    any_of: bool = False
    parts: tuple[Condition | Rule, ...] = ()

    def __post_init__(self) -> None:
        parts = tuple(
            p.parts[0] if isinstance(p, Rule) and len(p.parts) == 1 else p
            for p in self.parts
            if isinstance(p, Condition) or p.parts
        )
        any_of = self.any_of
        if len(parts) == 1 and isinstance(parts[0], Rule):
            any_of, parts = parts[0].any_of, parts[0].parts
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "any_of", any_of and len(parts) > 1)

    def matches(self, tags: Mapping[str, str], *, today: date | None = None) -> bool:
        """Whether a study or instance with these tags is taken; one that is not among them has no value.

        Parameters
        ----------
        tags : Mapping[str, str]
            Values by `Condition.tag`.
        today : date | None
            For "in last" and "older than"; this computer's own by default, looked at now.
        """
        day = today or date.today()
        results = (
            p.holds(tags.get(p.tag, ""), day) if isinstance(p, Condition) else p.matches(tags, today=day)
            for p in self.parts
        )
        return any(results) if self.any_of and self.parts else all(results)

    def verdict(self, tags: Mapping[str, str], *, today: date | None = None) -> bool | None:
        """As `matches`, where only some tags are known: None where it depends on others."""
        day = today or date.today()
        undecided = False
        for p in self.parts:
            if isinstance(p, Rule):
                found = p.verdict(tags, today=day)
            else:
                found = p.holds(tags[p.tag], day) if p.tag in tags else None
            if found is self.any_of:
                return found
            undecided |= found is None
        return None if undecided else not self.any_of or not self.parts

    @property
    def tags(self) -> frozenset[str]:
        """All tags that the rule looks at, as `Condition.tag`."""
        return frozenset(condition.tag for condition in self.conditions())

    def conditions(self) -> Iterator[Condition]:
        """All conditions, those of groups within groups included."""
        for p in self.parts:
            if isinstance(p, Condition):
                yield p
            else:
                yield from p.conditions()

    def __str__(self) -> str:
        word = " or " if self.any_of else " and "
        return word.join(f"({p})" if isinstance(p, Rule) else str(p) for p in self.parts)


# what a condition asks of the values of its tag ----------------------------------------------------------------

_Values = Sequence[str]
_Test = Callable[[_Values, date], bool]

_HOLDS: dict[Operator, Callable[[int], bool]] = {
    Operator.LESS: lambda order: order < 0,
    Operator.LESS_EQUAL: lambda order: order <= 0,
    Operator.GREATER: lambda order: order > 0,
    Operator.GREATER_EQUAL: lambda order: order >= 0,
}


@lru_cache(maxsize=2048)
def _test(condition: Condition) -> _Test:
    """Made once: a rule is held against each of millions of images."""
    op, vr, wanted = condition.operator, vr_of(condition.tag), condition.values
    if op in WITHOUT_VALUE:
        padding = "^=" if vr == "PN" else ""  # delimiters with nothing between them name nobody
        return _some(lambda value: bool(value.strip(f" {padding}")), opposite=op is Operator.EMPTY)
    if op in RELATIVE:
        return _relative(op, vr, int(wanted[0]), wanted[1])
    if op in (Operator.EQUAL, Operator.NOT_EQUAL):
        return _some(equal_to(vr, wanted[0]), opposite=op in NEGATIVE)
    if op in LISTS:
        return _some(one_of(vr, wanted), opposite=op in NEGATIVE)
    if op in (Operator.MATCHES, Operator.NOT_MATCHES):
        return _some(like(vr, wanted[0]), opposite=op in NEGATIVE)
    if op is Operator.BETWEEN:
        low, high = order_to(vr, wanted[0]), order_to(vr, wanted[1])
        return _some(lambda value: bool(value) and _not(low(value), -1) and _not(high(value), 1))
    order, holds = order_to(vr, wanted[0]), _HOLDS[op]

    def ordered(value: str) -> bool:
        found = order(value) if value else None
        return found is not None and holds(found)

    return _some(ordered)


def _not(order: int | None, side: int) -> bool:
    return order is not None and order != side


def _some(test: Callable[[str], bool], *, opposite: bool = False) -> _Test:
    if opposite:
        return lambda values, _today: not any(test(value) for value in values)
    return lambda values, _today: any(test(value) for value in values)


def _relative(op: Operator, vr: str, count: int, unit: str) -> _Test:
    """A day in the future is "in the last" days too: the clock of whoever made the images may be ahead of ours."""

    def test(values: _Values, today: date) -> bool:
        first = days_ago(today, count, unit)
        days = [day for day in (day_of(vr, value) for value in values) if day is not None]
        return any(day >= first if op is Operator.WITHIN else day < first for day in days)

    return test
