"""Words that tell whose an image is, as the image itself tells them, and cutting them out of texts."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

REMOVED = "REMOVED"
"""What stands where nothing of a text was left."""

_PARTS = re.compile(r"[\s^=,;/\\.()\[\]\"'’`-]+")
_SPACES = re.compile(r"\s{2,}")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"})
# What looks like an identity, whoever's it is: first dates and numbers, then what stands behind titles and headings.
# Possessive (++), so that no text, however made, takes more than the time for reading it.
_LOOKS = tuple(
    re.compile(pattern, re.IGNORECASE | re.VERBOSE)
    for pattern in (
        r"""
          (?<![\d.])\d++(?:\.\d++){3,}                       # UIDs, IP addresses
        | (?<![\d.])\d{1,4}([./-])\d{1,2}\1\d{1,4}(?!\d)    # 21.11.2026, 2026-11-21, 11/21/26
        | (?<![A-Z0-9._%+-])[A-Z0-9._%+-]++@[A-Z0-9.-]+      # mail
        | (?:https?|ftp)://\S+
        | [A-Z]{0,6}\d[\d-]{5,}[A-Z]{0,6}                    # six digits and more: IDs, telephone numbers, dates
        """,
        r"""
          (?<![^\W_])(?:name|pat(?:ient)?|id|pid|mrn|dob|geb|acc(?:ession)?)[\s_]*+(?:no|nr|id|name)?[\s_]*+
          [:=\#.][\s_]*+\S+
        | (?<![^\W_])
          (?:(?:dr|prof|mr|mrs|ms|miss|herr|frau|mme|mlle|monsieur|madame|sig|sra?|dott)(?![^\W_])\.?[\s_]*+)+
          [^\W\d_]++(?:[\s_]++[^\W\d_]+)?
        """,
    )
)


@dataclass(slots=True)
class Identity:
    """Words of one image that must not be left in a text.

    Attributes
    ----------
    words : set[str]
        Single words in lower case: parts of names.
    phrases : set[str]
        Whole values in lower case: IDs, dates as they are written, addresses.
    """

    words: set[str] = field(default_factory=set)
    phrases: set[str] = field(default_factory=set)
    _exact: re.Pattern[str] | None = field(default=None, repr=False)
    _strict: re.Pattern[str] | None = field(default=None, repr=False)

    def add_name(self, name: str) -> None:
        """Family, given and middle name of each way it is written (PS3.5 section 6.2.1); no titles."""
        for group in name.split("="):
            for component in group.split("^")[:3]:
                for part in _PARTS.split(component):
                    if len(part) >= 2 or (part and not part.isascii() and not _LATIN.match(part)):
                        self.words.update(_spellings(part))

    def add_value(self, value: str) -> None:
        value = _folded(" ".join(value.split()))
        if len(value) >= 4 or (len(value) >= 3 and any(c.isdigit() for c in value)):
            self.phrases.add(value)

    def add_date(self, value: str) -> None:
        """A date in the ways that people write it."""
        digits = value.strip()[:8]
        if not re.fullmatch(r"\d{8}", digits):
            return
        try:
            day = dt.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
        except ValueError:
            return
        y, m, d = digits[:4], digits[4:6], digits[6:]
        self.phrases.add(digits)
        for sign in ".-/":
            for parts in ((d, m, y), (m, d, y), (y, m, d), (d, m, y[2:]), (m, d, y[2:])):
                self.phrases.add(sign.join(parts))
        self.phrases |= {d + m + y, m + d + y}
        for sign in ".-/":
            self.phrases.add(sign.join((str(day.day), str(day.month), y)))
            self.phrases.add(sign.join((str(day.month), str(day.day), y)))

    def found_in(self, text: str) -> bool:
        return bool(self._pattern(strict=False).search(_folded(text)))

    def told_by(self, text: str) -> bool:
        """Whether a text that is to be kept tells the patient all the same: a whole number, or two words of names."""
        return self.has_number(text) or len(set(self._pattern(strict=False).findall(_folded(text)))) > 1

    def has_number(self, text: str) -> bool:
        """Whether one of the whole values with a digit, of at least five characters, is in it."""
        folded = _folded(text)
        return any(len(p) >= 5 and p in folded and any(c.isdigit() for c in p) for p in self.phrases)

    def in_bytes(self, data: bytes) -> bool:
        """Whether a value whose kind nobody knows has one of these words in it, as UTF-8 or Latin-1 have them."""
        low = data.lower()
        for text in {*self.phrases, *(w for w in self.words if len(w) > 3 or not w.isascii())}:
            if any(encoded and encoded in low for encoded in (text.encode(), text.encode("latin-1", "ignore"))):
                return True
        return False

    def cut_from(self, text: str, *, thorough: bool) -> str:
        """The text without these words; `thorough` also without short names and all that looks like an identity."""
        text = _without(text, self._pattern(strict=thorough))
        if thorough:
            for looks in _LOOKS:
                text = looks.sub(" ", text)
        text = _SPACES.sub(" ", text).strip()
        return text if any(c.isalnum() for c in text) else ""

    def _pattern(self, *, strict: bool) -> re.Pattern[str]:
        kept = self._strict if strict else self._exact
        if kept is None:
            kept = _pattern_of((w for w in self.words if strict or len(w) > 2 or not w.isascii()), self.phrases)
            if strict:
                self._strict = kept
            else:
                self._exact = kept
        return kept


def _spellings(word: str) -> set[str]:
    """As it is written, in capitals, and without its accents: Müller, MULLER, Mueller."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    german = word.translate(_GERMAN)
    return {_folded(spelling) for spelling in (word, word.casefold(), plain, german)}


def _folded(text: str) -> str:
    """Lower case of the same length, so that places in it are places in the text."""
    return "".join(c if len(f := c.casefold()) != 1 else f for c in text)


def _without(text: str, pattern: re.Pattern[str]) -> str:
    parts, at = [], 0
    for found in pattern.finditer(_folded(text)):
        parts.append(text[at : found.start()])
        at = found.end()
    return " ".join((*parts, text[at:])) if parts else text


def _pattern_of(words: Iterable[str], phrases: Iterable[str]) -> re.Pattern[str]:
    """Longest first; Latin words as whole words, others (without spaces between them) wherever they stand."""
    choices = []
    for phrase in sorted({*words, *phrases}, key=lambda p: (-len(p), p)):
        escaped = r"\s+".join(re.escape(part) for part in _folded(phrase).split())
        number = len(phrase) >= 5 and any(c.isdigit() for c in phrase)  # wherever it stands, also within a word
        if not number and (phrase.isascii() or _LATIN.match(phrase)):
            escaped = rf"(?<![^\W_]){escaped}(?![^\W_])"
        choices.append(escaped)
    return re.compile("|".join(choices) or r"(?!)")
