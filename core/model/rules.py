"""Rules over tags: "Modality = CT and StudyDate >= 20200101", as text and as data."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from core.model.errors import ConfigurationError


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_EQUAL = "<="
    GREATER = ">"
    GREATER_EQUAL = ">="
    MATCHES = "~"  # DICOM wildcards * and ?, without regard to case
    IN = "in"  # one of a list, separated by commas


@dataclass(frozen=True, slots=True)
class Condition:
    """One tag–operator–value. A multi-valued tag matches when any of its values does (`!=`: none equal).

    Dates and times are compared as far as `value` goes: ``StudyDate > 2020`` is 2021 and later, and
    ``StudyDate <= 2020`` the whole of 2020 too. Dashes, dots and colons in them don't count.
    """

    tag: str
    operator: Operator
    value: str

    def matches(self, tags: Mapping[str, str]) -> bool:
        values = [v.strip() for v in tags.get(self.tag, "").split("\\")]
        op = self.operator
        if op is Operator.MATCHES:
            pattern = self.value.casefold().replace("[", "[[]")
            return any(fnmatch.fnmatchcase(v.casefold(), pattern) for v in values)
        if op is Operator.EQUAL:
            return any(self._order(v, self.value) == 0 for v in values)
        if op is Operator.NOT_EQUAL:
            return all(self._order(v, self.value) != 0 for v in values)
        if op is Operator.IN:
            wanted = [w.strip() for w in self.value.split(",")]
            return any(self._order(v, w) == 0 for v in values for w in wanted)
        return any(_HOLDS[op](self._order(v, self.value)) for v in values if v)

    def _order(self, value: str, want: str) -> int:
        """Below, at or above 0 as `value` comes before, equals or comes after `want`."""
        vr = _vr(self.tag)
        if vr in _TEMPORAL:
            value, want = _digits(value, vr), _digits(want, vr)
            if value and want:
                value = value[: len(want)].ljust(len(want), "0")
        elif vr in _NUMERIC and _NUMBER.match(value) and _NUMBER.match(want):
            left, right = float(value), float(want)
            return (left > right) - (left < right)
        value, want = value.casefold(), want.casefold()
        return (value > want) - (value < want)

    def __str__(self) -> str:
        plain = _PLAIN.match(self.value) and not (self.operator is Operator.IN and self.value.endswith(","))
        value = self.value if plain else '"' + self.value.replace('"', '""') + '"'
        return f"{self.tag} {self.operator.value} {value}"


@dataclass(frozen=True, slots=True)
class Rule:
    """All or any of some conditions and rules; without parts it matches everything."""

    any_of: bool = False
    parts: tuple[Condition | Rule, ...] = ()

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Whether a study or instance with these tags (keyword → value) is taken."""
        if not self.parts:
            return True
        results = (p.matches(tags) for p in self.parts)
        return any(results) if self.any_of else all(results)

    @property
    def tags(self) -> frozenset[str]:
        """Keywords of all tags that the rule looks at."""
        found: set[str] = set()
        for p in self.parts:
            found |= {p.tag} if isinstance(p, Condition) else p.tags
        return frozenset(found)

    def __str__(self) -> str:
        word = " or " if self.any_of else " and "
        return word.join(f"({p})" if isinstance(p, Rule) else str(p) for p in self.parts)


_HOLDS: dict[Operator, Callable[[int], bool]] = {
    Operator.LESS: lambda order: order < 0,
    Operator.LESS_EQUAL: lambda order: order <= 0,
    Operator.GREATER: lambda order: order > 0,
    Operator.GREATER_EQUAL: lambda order: order >= 0,
}
_TEMPORAL = frozenset({"DA", "TM", "DT"})
_NUMERIC = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"})
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
_DATE = re.compile(r"[0-9]{4}(-?(0[1-9]|1[0-2])(-?(0[1-9]|[12][0-9]|3[01]))?)?\Z")


@lru_cache(maxsize=256)
def _vr(keyword: str) -> str:
    """The value representation of a tag; empty for one that the dictionary doesn't have."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    return "" if tag is None else dictionary_VR(tag)


def _digits(text: str, vr: str) -> str:
    if vr == "TM" and ":" in text:  # "9:30" means 0930
        return "".join(part.zfill(2) for part in text.split(":")).replace(".", "")
    return re.sub(r"[-.:\s]", "", text)


_TOKEN = re.compile(
    r'\s*(?:(?P<par>[()])|(?P<op>!=|<=|>=|=|<|>|~)|"(?P<quoted>(?:[^"]|"")*)"|(?P<word>[^\s()=<>!~"]+))'
)
_PLAIN = re.compile(r'[^\s()=<>!~"]+\Z')
_DEEPEST = 32
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{1,63}\Z")


def parse_rule(text: str) -> Rule:
    """Read a rule from text; an empty text matches everything.

    Raises
    ------
    ConfigurationError
        With what could not be understood and an example.
    """
    text = text.strip()
    if not text:
        return Rule()
    tokens = _tokens(text)
    rule, rest = _any(tokens, 0)
    if rest != len(tokens):
        raise _bad(f"“{tokens[rest][1]}” was not expected there")
    return rule


def _bad(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The rule can't be read: {what}.",
        "Write for example: Modality = CT and StudyDate >= 20200101.",
        code="rule",
    )


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            if not text[at:].strip():
                break
            raise _bad(f"“{text[at:].strip()[:20]}” is not closed or not allowed")
        kind = str(match.lastgroup)
        word = match.group(kind)
        found.append((kind, word.replace('""', '"') if kind == "quoted" else word))
        at = match.end()
    return found


def _is_word(tokens: list[tuple[str, str]], at: int, word: str) -> bool:
    return at < len(tokens) and tokens[at][0] == "word" and tokens[at][1].lower() == word


def _any(tokens: list[tuple[str, str]], at: int, depth: int = 0) -> tuple[Rule, int]:
    parts: list[Condition | Rule] = []
    while True:
        part, at = _all(tokens, at, depth)
        parts.append(part)
        if not _is_word(tokens, at, "or"):
            break
        at += 1
    if len(parts) == 1:
        only = parts[0]
        return (only if isinstance(only, Rule) else Rule(parts=(only,))), at
    flat = [p.parts[0] if isinstance(p, Rule) and len(p.parts) == 1 else p for p in parts]
    return Rule(any_of=True, parts=tuple(flat)), at


def _all(tokens: list[tuple[str, str]], at: int, depth: int) -> tuple[Rule, int]:
    parts: list[Condition | Rule] = []
    while True:
        part, at = _one(tokens, at, depth)
        parts.append(part)
        if not _is_word(tokens, at, "and"):
            break
        at += 1
    return Rule(parts=tuple(parts)), at


def _one(tokens: list[tuple[str, str]], at: int, depth: int) -> tuple[Condition | Rule, int]:
    if at >= len(tokens):
        raise _bad("it ends where a condition should follow")
    kind, word = tokens[at]
    if (kind, word) == ("par", "("):
        if depth >= _DEEPEST:
            raise _bad("too many brackets within brackets")
        rule, at = _any(tokens, at + 1, depth + 1)
        if at >= len(tokens) or tokens[at] != ("par", ")"):
            raise _bad("a bracket is not closed")
        return rule, at + 1
    if kind != "word" or not _KEYWORD.match(word):
        raise _bad(f"“{word}” is not the name of a tag, such as Modality or StudyDate")
    _known(word)
    if at + 1 >= len(tokens):
        raise _bad(f"after “{word}” an operator is missing (=, !=, <, <=, >, >=, ~, in)")
    op_kind, op_word = tokens[at + 1]
    if op_kind == "op":
        operator = Operator(op_word)
    elif op_kind == "word" and op_word.lower() == "in":
        operator = Operator.IN
    else:
        raise _bad(f"“{op_word}” is not an operator (=, !=, <, <=, >, >=, ~, in)")
    if at + 2 >= len(tokens) or tokens[at + 2][0] not in ("word", "quoted"):
        raise _bad(f"after “{word} {op_word}” a value is missing")
    value, end = tokens[at + 2][1], at + 3
    if operator is Operator.IN and tokens[at + 2][0] == "word":
        # "CT, MR" with a space is two words, and still one list.
        while end < len(tokens) and tokens[end][0] == "word" and (value.endswith(",") or tokens[end][1][0] == ","):
            value, end = value + tokens[end][1], end + 1
    _comparable(word, operator, value)
    return Condition(word, operator, value), end


def _comparable(keyword: str, operator: Operator, value: str) -> None:
    """Refuse what can never be compared, such as a date of seven digits: a typing error would match at random."""
    if operator in (Operator.MATCHES, Operator.IN) or not value or _vr(keyword) != "DA":
        return
    if not _DATE.match(value):
        raise _bad(f"“{value}” is not a date; write 20240315, 2024-03-15, 202403 or 2024")


def _known(keyword: str) -> None:
    from pydicom.datadict import tag_for_keyword

    if tag_for_keyword(keyword) is None and keyword != "ModalitiesInStudy":
        raise _bad(f"DICOM has no tag named “{keyword}”")
