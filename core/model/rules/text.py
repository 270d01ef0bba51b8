"""Rules as text: "Modality in CT, MR and (StudyDate in last 7 days or PatientID = 4711)"."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from core.model.errors import ConfigurationError
from core.model.rules.rule import LISTS, NEGATIVE, RELATIVE, WITHOUT_VALUE, Condition, Operator, Rule
from core.model.rules.tags import (
    NUMBER_VRS,
    TEMPORAL_VRS,
    UnknownTagError,
    has_one_value,
    tag_key,
    title_of,
    vr_of,
)
from core.model.rules.values import UNITS, as_number, equal_to, order_to, span, unusable

EXAMPLE = "Write for example: Modality = CT and StudyDate >= 20200101."
_DEEPEST = 32
_LONGEST = 200_000
_MOST = 1_000
_SHOWN = 40
_OPERATORS = "=, !=, <, <=, >, >=, ~, !~, in, not in, between, in last, older than, is empty, is present"

_NUMBER_TAG = r"\(\s*[0-9A-Fa-f]{4}\s*,\s*[0-9A-Fa-f]{4}\s*\)"
_TOKEN = re.compile(
    rf"(?P<tag>(?:[A-Za-z][A-Za-z0-9]*\.)*{_NUMBER_TAG}(?:\.(?:[A-Za-z][A-Za-z0-9]*|{_NUMBER_TAG}))*)"
    r'|(?P<par>[()])|(?P<op>!=|<=|>=|!~|=|<|>|~)|"(?P<quoted>(?:[^"]|"")*)"|(?P<word>[^\s()=<>!~"]+)'
)
_BLANK = re.compile(r"\s*")


class RuleError(ConfigurationError):
    """A rule that can't be read, or that nothing can ever match.

    Attributes
    ----------
    at, length : int
        Where in the text it goes wrong (from 0), and how many characters that is about; `at` may be the text's end.
    """

    def __init__(
        self, what: str, at: int, length: int = 1, *, lead: str = "can't be read", step: str = EXAMPLE
    ) -> None:
        super().__init__(f"The rule {lead}: at character {at + 1}, {what}.", step, code="rule")
        self.what = what
        self.at = at
        self.length = max(1, length)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int
    end: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.lower() in words


def parse_rule(text: str) -> Rule:
    """Read a rule from text; an empty text matches everything.

    Raises
    ------
    RuleError
        With what could not be understood, where, and an example.
    """
    if not text.strip():
        return Rule()
    if len(text) > _LONGEST:
        raise RuleError(f"it is longer than {_LONGEST:,} characters", _LONGEST)
    reader = _Reader(text, _tokens(text))
    rule = reader.group(0)
    rest = reader.now
    if rest is not None:
        raise _wrong(f"“{_shown(rest.text)}” was not expected there", rest)
    return rule


def _wrong(what: str, token: _Token, *, step: str = EXAMPLE) -> RuleError:
    return RuleError(what, token.at, token.end - token.at, step=step)


def _shown(text: str) -> str:
    """A piece of what was written, short, and with a sign for what can't be seen."""
    cut = text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in cut)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    for at, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\t\r\n":
            raise RuleError("a character stands that can't be typed", at)
    at = _after_blanks(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            what = "quotes are opened and not closed" if text[at] == '"' else f"“{_shown(text[at:])}” is not allowed"
            raise RuleError(what, at)
        kind = str(match.lastgroup)
        word = match.group(kind)
        if kind == "quoted" and set(word) & set("\t\r\n"):
            raise RuleError("a line ends, or a tabulator stands, within quotes", at, match.end() - at)
        found.append(_Token(kind, word.replace('""', '"') if kind == "quoted" else word, at, match.end()))
        at = _after_blanks(text, match.end())
    return found


def _after_blanks(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


class _Reader:
    """Reads tokens from left to right; "and" binds closer than "or"."""

    def __init__(self, text: str, tokens: Sequence[_Token]) -> None:
        self._end = _Token("end", "", len(text.rstrip()), len(text.rstrip()))
        self._tokens = tokens
        self._at = 0
        self._conditions = 0

    @property
    def now(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self, missing: str) -> _Token:
        token = self.now
        if token is None:
            raise _wrong(missing, self._end)
        self._at += 1
        return token

    def _takes(self, *words: str) -> bool:
        token = self.now
        if token is None or not token.is_word(*words):
            return False
        self._at += 1
        return True

    # groups ---------------------------------------------------------------------------------------------

    def group(self, depth: int) -> Rule:
        parts = [self._all(depth)]
        while self._takes("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Rule(True, tuple(parts))

    def _all(self, depth: int) -> Rule:
        parts: list[Condition | Rule] = []
        places: list[tuple[Condition, _Token]] = []
        while True:
            token = self.now or self._end
            part = self._one(depth)
            parts.append(part)
            if isinstance(part, Condition):
                places.append((part, token))
                _agree(places)
            if not self._takes("and"):
                return Rule(False, tuple(parts))

    def _one(self, depth: int) -> Condition | Rule:
        token = self._next("it ends where a condition should follow")
        if token.kind == "par" and token.text == "(":
            if depth >= _DEEPEST:
                raise _wrong("there are too many brackets within brackets", token)
            rule = self.group(depth + 1)
            closing = self.now
            if closing is None or (closing.kind, closing.text) != ("par", ")"):
                raise _wrong("a bracket is not closed", token)
            self._at += 1
            return rule
        self._conditions += 1
        if self._conditions > _MOST:
            raise _wrong(f"there are more than {_MOST:,} conditions", token)
        return self._condition(token)

    # conditions -----------------------------------------------------------------------------------------

    def _condition(self, token: _Token) -> Condition:
        if token.kind not in ("word", "quoted", "tag"):
            raise _wrong(f"“{token.text}” is not the name of a tag, such as Modality or StudyDate", token)
        try:
            tag = tag_key(token.text)
        except UnknownTagError as error:
            raise _wrong(f"“{_shown(token.text)}” {error}", token) from None
        operator = self._operator(tag, token)
        vr = vr_of(tag)
        if vr == "SQ" and operator not in WITHOUT_VALUE:
            what = f"{tag} is a sequence; name a tag within it, such as {tag}.CodeMeaning"
            raise _wrong(what, token, step=f"Write for example: {tag}.CodeMeaning ~ *thorax*.")
        if operator in WITHOUT_VALUE:
            return Condition(tag, operator)
        if operator in RELATIVE:
            return Condition(tag, operator, self._span(tag, operator, token))
        if operator in LISTS:
            return Condition(tag, operator, self._list(tag, operator, vr))
        first = self._value(tag, operator, vr)
        if operator is not Operator.BETWEEN:
            if first.text.strip():
                return Condition(tag, operator, (first.text,))
            return Condition(tag, Operator.EMPTY if operator is Operator.EQUAL else Operator.PRESENT)
        if not self._takes("and"):
            raise _wrong("between what and what? The word “and” and a second value are missing", self.now or self._end)
        second = self._value(tag, operator, vr)
        _in_order(vr, first, second)
        return Condition(tag, operator, (first.text, second.text))

    def _operator(self, tag: str, before: _Token) -> Operator:
        token = self._next(f"after “{_shown(before.text)}” an operator is missing ({_OPERATORS})")
        if token.kind == "op":
            return Operator(token.text)
        if token.is_word("between"):
            return Operator.BETWEEN
        if token.is_word("older") and self._takes("than"):
            return Operator.OLDER
        if token.is_word("not") and self._takes("in"):
            return Operator.NOT_IN
        if token.is_word("in"):
            return Operator.WITHIN if self._last_follows(tag) else Operator.IN
        if token.is_word("is"):
            if self._takes("empty"):
                return Operator.EMPTY
            if self._takes("present"):
                return Operator.PRESENT
            if self._takes("not") and self._takes("empty"):
                return Operator.PRESENT
            raise _wrong("after “is” only “empty” or “present” can follow; for a value write =", self.now or token)
        raise _wrong(f"“{_shown(token.text)}” is not an operator ({_OPERATORS})", token)

    def _last_follows(self, tag: str) -> bool:
        """ "in last 7 days"; a list may begin with the word, too."""
        following = self._tokens[self._at : self._at + 3]
        if not following or not following[0].is_word("last"):
            return False
        if vr_of(tag) in TEMPORAL_VRS or (len(following) == 3 and span(following[1].text, following[2].text)):
            self._at += 1
            return True
        return False

    def _span(self, tag: str, operator: Operator, before: _Token) -> tuple[str, str]:
        if vr_of(tag) not in ("DA", "DT"):
            raise _wrong(f"“{operator.value}” is for dates, and {title_of(tag)} is none", before)
        units = "days, weeks, months or years"
        number = self._next(f"after “{operator.value}” a number of {units} is missing")
        unit = self._next(f"after “{_shown(number.text)}” {units} is missing")
        found = span(number.text, unit.text) if number.kind == unit.kind == "word" else None
        if found is None:
            raise _wrong(f"“{_shown(f'{number.text} {unit.text}')}” is not a number of {units}", number,
                         step=f"Write for example: StudyDate {operator.value} 7 {UNITS[0]}.")  # fmt: skip
        return str(found[0]), found[1]

    def _value(self, tag: str, operator: Operator, vr: str) -> _Token:
        token = self._next(f"after “{tag} {operator.value}” a value is missing")
        if token.kind not in ("word", "quoted"):
            raise _wrong(f"after “{tag} {operator.value}” a value is missing", token)
        if operator not in (Operator.EQUAL, Operator.NOT_EQUAL) and not token.text.strip():
            raise _wrong("an empty value stands where there should be one; of empty tags write “is empty”", token)
        if operator not in (Operator.MATCHES, Operator.NOT_MATCHES):
            _usable(vr, token)
        return token

    def _list(self, tag: str, operator: Operator, vr: str) -> tuple[str, ...]:
        """Values separated by commas, with blanks or without; in quotes what holds a comma itself."""
        found: list[str] = []
        wanted = True
        while (token := self.now) is not None and token.kind in ("word", "quoted"):
            if token.kind == "quoted":
                if not wanted:
                    break
                if not token.text.strip():
                    raise _wrong("a list holds no empty value; write “or” and “is empty”", token)
                found.append(token.text)
                _usable(vr, token)
                wanted = False
            else:
                pieces = token.text.split(",")
                if not wanted and pieces[0]:
                    break
                for n, piece in enumerate(pieces):
                    if n:
                        if wanted:
                            raise _wrong("a comma stands where a value should", token)
                        wanted = True
                    if piece:
                        found.append(piece)
                        _usable(vr, _Token("word", piece, token.at, token.end))
                        wanted = False
            self._at += 1
        if wanted:
            raise _wrong(f"after “{tag} {operator.value}” a value is missing", self.now or self._end)
        return tuple(dict.fromkeys(found))


# what could be read and makes no sense ----------------------------------------------------------------------


def _usable(vr: str, token: _Token) -> None:
    """Refuse what can never be compared, such as a date of seven digits: a typing error would match at random."""
    why = unusable(vr, token.text)
    if why:
        raise _wrong(f"“{_shown(token.text)}” {why}", token)


def _in_order(vr: str, first: _Token, second: _Token) -> None:
    if vr in TEMPORAL_VRS or vr in NUMBER_VRS or vr == "AS":
        order = order_to(vr, second.text)(first.text)
        if order is not None and order > 0:
            raise _never(f"nothing lies between {_shown(first.text)} and {_shown(second.text)}: turn them round", first)


def _never(what: str, token: _Token, *, step: str = EXAMPLE) -> RuleError:
    return RuleError(what, token.at, token.end - token.at, lead="can never match", step=step)


_UPPER = frozenset({Operator.LESS, Operator.LESS_EQUAL})
_LOWER = frozenset({Operator.GREATER, Operator.GREATER_EQUAL})
_ANY_DAY = date(2000, 1, 1)


def _agree(places: list[tuple[Condition, _Token]]) -> None:
    """Refuse a condition that can't be true together with one before it: nothing would ever be taken."""
    new, token = places[-1]
    if not has_one_value(new.tag):
        return
    vr = vr_of(new.tag)
    for old, _ in places[:-1]:
        if old.tag != new.tag:
            continue
        if {old.operator, new.operator} == {Operator.EQUAL} and not _same(vr, old.values[0], new.values[0]):
            a, b = _shown(old.values[0]), _shown(new.values[0])
            what = f"{title_of(new.tag)} can't be {a} and {b} at once"
            raise _never(what, token, step=f"Write: {Condition(new.tag, Operator.IN, (old.values[0], new.values[0]))}.")
        if Operator.EMPTY in (old.operator, new.operator) and not _empty_fits(old, new):
            raise _never(f"{title_of(new.tag)} can't be empty and have a value at once", token, step="Write “or”.")
        low = old if old.operator in _LOWER else new if new.operator in _LOWER else None
        high = old if old.operator in _UPPER else new if new.operator in _UPPER else None
        if (
            low is not None
            and high is not None
            and vr in (TEMPORAL_VRS | NUMBER_VRS | {"AS"})
            and _apart(vr, low, high)
        ):
            what = f"{title_of(new.tag)} can't be {_phrase(low)} and {_phrase(high)} at once"
            raise _never(what, token, step="Turn the two round, or write “or”.")


def _same(vr: str, one: str, other: str) -> bool:
    """Whether one value may be equal to both; a date is equal to its year as well."""
    return equal_to(vr, one)(other) or equal_to(vr, other)(one) or vr == "PN"


def _empty_fits(old: Condition, new: Condition) -> bool:
    other = old if new.operator is Operator.EMPTY else new
    if other.operator in NEGATIVE or other.operator is Operator.EMPTY:
        return True
    return other.operator in (Operator.EQUAL, Operator.IN, Operator.MATCHES) and other.holds("", _ANY_DAY)


def _apart(vr: str, low: Condition, high: Condition) -> bool:
    order = order_to(vr, high.values[0])(low.values[0])
    if order is None or vr == "DT":
        return False
    if order == 0:  # "> 5 and < 5"; of dates of different lengths nothing is said
        both = Operator.GREATER_EQUAL is low.operator and Operator.LESS_EQUAL is high.operator
        return (
            not both and low.values[0] == high.values[0] and (vr in NUMBER_VRS and as_number(low.values[0]) is not None)
        )
    return order > 0


def _phrase(condition: Condition) -> str:
    return f"{condition.operator.value} {_shown(condition.values[0])}"
