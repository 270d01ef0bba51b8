"""Rules over tags: "Modality = CT and StudyDate >= 20200101", as text and as data."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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
    """One tag–operator–value. A multi-valued tag matches when any of its values does (`!=`: none equal)."""

    tag: str
    operator: Operator
    value: str

    def matches(self, tags: Mapping[str, str]) -> bool:
        values = [v.strip() for v in tags.get(self.tag, "").split("\\")]
        op, want = self.operator, self.value
        if op is Operator.EQUAL:
            return any(v.casefold() == want.casefold() for v in values)
        if op is Operator.NOT_EQUAL:
            return all(v.casefold() != want.casefold() for v in values)
        if op is Operator.IN:
            wanted = {w.strip().casefold() for w in want.split(",")}
            return any(v.casefold() in wanted for v in values)
        if op is Operator.MATCHES:
            return any(fnmatch.fnmatchcase(v.casefold(), want.casefold().replace("[", "[[]")) for v in values)
        return any(_compare(v, want, op) for v in values if v)

    def __str__(self) -> str:
        value = f'"{self.value}"' if re.search(r"\s|[()]", self.value) or not self.value else self.value
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


def _compare(value: str, want: str, op: Operator) -> bool:
    left: float | str = value
    right: float | str = want
    try:
        left, right = float(value), float(want)
    except ValueError:
        left, right = value.casefold(), want.casefold()
    if op is Operator.LESS:
        return left < right  # type: ignore[operator]
    if op is Operator.LESS_EQUAL:
        return left <= right  # type: ignore[operator]
    if op is Operator.GREATER:
        return left > right  # type: ignore[operator]
    return left >= right  # type: ignore[operator]


_TOKEN = re.compile(r'\s*(?:(?P<par>[()])|(?P<op>!=|<=|>=|=|<|>|~)|"(?P<quoted>[^"]*)"|(?P<word>[^\s()=<>!~"]+))')
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
        found.append((kind, match.group(kind)))
        at = match.end()
    return found


def _is_word(tokens: list[tuple[str, str]], at: int, word: str) -> bool:
    return at < len(tokens) and tokens[at][0] == "word" and tokens[at][1].lower() == word


def _any(tokens: list[tuple[str, str]], at: int) -> tuple[Rule, int]:
    parts: list[Condition | Rule] = []
    while True:
        part, at = _all(tokens, at)
        parts.append(part)
        if not _is_word(tokens, at, "or"):
            break
        at += 1
    if len(parts) == 1:
        only = parts[0]
        return (only if isinstance(only, Rule) else Rule(parts=(only,))), at
    flat = [p.parts[0] if isinstance(p, Rule) and len(p.parts) == 1 else p for p in parts]
    return Rule(any_of=True, parts=tuple(flat)), at


def _all(tokens: list[tuple[str, str]], at: int) -> tuple[Rule, int]:
    parts: list[Condition | Rule] = []
    while True:
        part, at = _one(tokens, at)
        parts.append(part)
        if not _is_word(tokens, at, "and"):
            break
        at += 1
    return Rule(parts=tuple(parts)), at


def _one(tokens: list[tuple[str, str]], at: int) -> tuple[Condition | Rule, int]:
    if at >= len(tokens):
        raise _bad("it ends where a condition should follow")
    kind, word = tokens[at]
    if (kind, word) == ("par", "("):
        rule, at = _any(tokens, at + 1)
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
    return Condition(word, operator, tokens[at + 2][1]), at + 3


def _known(keyword: str) -> None:
    from pydicom.datadict import tag_for_keyword

    if tag_for_keyword(keyword) is None and keyword != "ModalitiesInStudy":
        raise _bad(f"DICOM has no tag named “{keyword}”")
