"""What is to be done to tags, as text: "set PatientID=X; prefix AccessionNumber=A-; remove (0019,xx10)"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from core.model.loading import load_pydicom
from core.steps import values


class Verb(StrEnum):
    SET = "set"
    REPLACE = "replace"  # only where the tag is there
    PREFIX = "prefix"
    SUFFIX = "suffix"
    EMPTY = "empty"
    REMOVE = "remove"
    KEEP = "keep"  # and remove what isn't named


WITH_VALUE = frozenset({Verb.SET, Verb.REPLACE, Verb.PREFIX, Verb.SUFFIX})
LENGTHENS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
EXAMPLE = 'Write for example: set InstitutionName="General Hospital"; prefix AccessionNumber=A-; remove (0019,xx10).'
_UNTOUCHABLE = {
    0x00080016: "the SOP Class UID says what the image is",
    0x00080018: "every image has a SOP Instance UID of its own; de-identification gives new ones",
    0x0020000D: "UIDs belong together; de-identification gives new ones that do",
    0x0020000E: "UIDs belong together; de-identification gives new ones that do",
    0x00080005: "",
}
_NUMBER = re.compile(r"\(?\s*([0-9A-Fa-fxX]{4})\s*,?\s*([0-9A-Fa-fxX]{4})\s*\)?\Z")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]{1,63}\Z")
_PART = re.compile(r'((?:[^;\n"]|"(?:[^"]|"")*")*)[;\n]?')
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class TagPart:
    """One step of the way to a tag: `mask` has ones where `tag` counts; all `items` of a sequence, or only one."""

    tag: int
    mask: int = 0xFFFFFFFF
    item: int | None = None

    @property
    def is_exact(self) -> bool:
        return self.mask == 0xFFFFFFFF

    def matches(self, tag: int) -> bool:
        return tag & self.mask == self.tag & self.mask


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do.

    Attributes
    ----------
    verb : Verb
    path : tuple[TagPart, ...]
        The tag, with the sequences that it lies in before it.
    name : str
        The tag as it was written, for messages and sentences.
    value : str
        For those that take one.
    """

    verb: Verb
    path: tuple[TagPart, ...]
    name: str
    value: str = ""

    def __str__(self) -> str:
        if self.verb not in WITH_VALUE:
            return f"{self.verb} {self.name}"
        quoted = not self.value or self.value != self.value.strip() or any(c in self.value for c in ';\n"')
        value = '"' + self.value.replace('"', '""') + '"' if quoted else self.value
        return f"{self.verb} {self.name}={value}"


def parse_actions(text: str) -> tuple[Action, ...]:
    """Read actions, parted by semicolons or lines.

    Raises
    ------
    ValueError
        With what can't be understood or can't be done, and an example.
    """
    found: list[Action] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None or match.end() == at:
            raise ValueError(f"“{text[at : at + 30]}” has a quotation mark that is not closed. {EXAMPLE}")
        part, at = match.group(1).strip(), match.end()
        if part:
            found += _action(part)
    if not found:
        raise ValueError(f"nothing to do is given. {EXAMPLE}")
    return tuple(found)


def _action(text: str) -> list[Action]:
    word, _, rest = text.partition(" ")
    try:
        verb = Verb(word.lower())
    except ValueError:
        raise ValueError(f"“{word}” is none of {', '.join(Verb)}. {EXAMPLE}") from None
    rest = rest.strip()
    if verb is Verb.KEEP:
        names = [n.strip() for n in re.split(r",(?![^(]*\))", rest) if n.strip()]
        return [Action(verb, tag_path(n, verb), n) for n in names] or _nothing(verb)
    name, equals, value = rest.partition("=")
    name = name.strip()
    if verb not in WITH_VALUE:
        if equals or not name:
            raise ValueError(f"“{verb}” takes the name of a tag and no value: {verb} InstitutionAddress.")
        return [Action(verb, tag_path(name, verb), name)]
    if not equals or not name:
        raise ValueError(f"“{verb}” takes a tag and a value: {verb} InstitutionName=Radiology.")
    value = value.strip()
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        value = value[1:-1].replace('""', '"')
    path = tag_path(name, verb)
    _check_value(verb, path[-1].tag, name, value)
    return [Action(verb, path, name, value)]


def _nothing(verb: Verb) -> list[Action]:
    raise ValueError(f"“{verb}” takes tags, parted by commas: {verb} Modality, StudyDate.")


def _check_value(verb: Verb, tag: int, name: str, value: str) -> None:
    vr = vr_of(tag)
    if vr is None:
        return  # a private tag: its own value representation counts, in the image
    if verb in (Verb.PREFIX, Verb.SUFFIX):
        if vr not in LENGTHENS:
            raise ValueError(f"{name} can't get a {verb}: it is no text of any length ({vr}).")
        if not value:
            raise ValueError(f"the {verb} for {name} is empty.")
    found = values.fault(vr, value)
    if found:
        raise ValueError(f"{name} can't be “{value}”: {found}.")


def vr_of(tag: int) -> str | None:
    """The value representation of a tag, the first where there is a choice; None for a private one."""
    load_pydicom()
    from pydicom.datadict import dictionary_VR

    if tag >> 16 & 1:
        return None
    try:
        return str(dictionary_VR(tag)).split(" or ")[0]
    except KeyError:
        return None


def tag_path(name: str, verb: Verb) -> tuple[TagPart, ...]:
    """The way to a tag: keywords or numbers, with dots between; "Sequence[0].Keyword" means the first item only.

    Raises
    ------
    ValueError
    """
    parts = re.split(r"\.(?![^(]*\))", name)
    if len(parts) > _DEEPEST:
        raise ValueError(f"“{name}” leads too deep into sequences.")
    path = tuple(_part(p.strip(), name) for p in parts)
    for part, words in zip(path[:-1], parts[:-1], strict=True):
        if not part.is_exact or vr_of(part.tag) not in ("SQ", None):
            raise ValueError(f"“{name}” leads nowhere: {words.strip()} is no sequence.")
    last = path[-1]
    if last.item is not None:
        raise ValueError(f"“{name}” names an item of a sequence, and no tag in it.")
    if not last.is_exact and verb in WITH_VALUE:
        raise ValueError(f"“{name}” stands for several tags: they can be removed, emptied or kept, not given a value.")
    if last.is_exact:
        _check_touchable(last.tag, name, verb, nested=len(path) > 1)
    return path


def _check_touchable(tag: int, name: str, verb: Verb, *, nested: bool) -> None:
    if verb is Verb.KEEP:
        return
    if tag >> 16 in (0x0002, 0x0000) or tag & 0xFFFF == 0:
        raise ValueError(f"{name} belongs to the file and not to the image.")
    if tag >> 16 == 0x7FE0:
        raise ValueError(f"{name} is left alone: images are sent with their pixels as they are.")
    if not nested and tag in _UNTOUCHABLE:
        if tag == 0x00080005 and verb in (Verb.SET, Verb.REPLACE):
            return
        why = _UNTOUCHABLE[tag] or "the texts of the image could not be read without it"
        raise ValueError(f"{name} can't be changed by tag rules: {why}.")
    if verb in (Verb.SET, Verb.PREFIX, Verb.SUFFIX) and tag >> 16 & 1:
        raise ValueError(f"{name} is a private tag: it can be replaced where it is there, emptied or removed, not set.")


def _part(text: str, name: str) -> TagPart:
    load_pydicom()
    from pydicom.datadict import tag_for_keyword

    item: int | None = None
    match = re.match(r"(.*)\[([0-9]{1,4})\]\Z", text)
    if match:
        text, item = match[1].strip(), int(match[2])
    number = _NUMBER.match(text)
    if number:
        digits = (number[1] + number[2]).lower()
        mask = int("".join("0" if c == "x" else "f" for c in digits), 16)
        return TagPart(int(digits.replace("x", "0"), 16), mask, item)
    if not _KEYWORD.match(text):
        raise ValueError(f"“{name}” is not the name of a tag, such as PatientID or (0010,0020).")
    tag = tag_for_keyword(text)
    if tag is None:
        raise ValueError(f"“{text}” is not the name of a tag in DICOM{_perhaps(text)}.")
    return TagPart(int(tag), item=item)


def _perhaps(text: str) -> str:
    import difflib

    load_pydicom()
    from pydicom._dicom_dict import DicomDictionary

    words = {entry[4].casefold(): entry[4] for entry in DicomDictionary.values() if entry[4]}
    near = difflib.get_close_matches(text.casefold(), words, n=1, cutoff=0.75)
    return f"; perhaps {words[near[0]]} is meant" if near else ""
