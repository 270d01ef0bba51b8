"""Reading a JSON array of objects as it streams in, one object at a time (PS3.18 Annex F): bounded, whatever comes."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, Protocol

PIECE = 256 * 1024
LARGEST = 8 << 20
"""Characters of one object: the metadata of an image with large private elements may have some hundred thousand."""
_BLANK = " \t\r\n\ufeff"


class NotJsonError(ValueError):
    """The body is no JSON array of objects; the text says what it is instead, without any of its values."""


class Source(Protocol):
    def readinto(self, view: memoryview, /) -> int: ...


def json_objects(source: Source) -> Iterator[dict[str, Any]]:
    """The objects of the array that is the whole body. A single object counts as an array of one.

    Raises
    ------
    NotJsonError
        Something else came, or the array does not end; what was given until then is not a whole list.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parse = json.JSONDecoder().raw_decode
    buffer = memoryview(bytearray(PIECE))
    text, at = "", 0
    state = "start"  # then "first" or "value" (an object has to follow), "comma", "end"
    ended = False
    wait_for = 0  # characters that have to be there before it is worth trying again
    while True:
        at = _skip(text, at)
        if at < len(text) and len(text) - at >= wait_for:
            sign = text[at]
            if state == "start":
                if sign not in "[{":
                    raise NotJsonError("it does not begin as JSON")
                state, at = ("first", at + 1) if sign == "[" else ("single", at)
                continue
            if state == "comma":
                if sign not in ",]":
                    raise NotJsonError("a comma is missing")
                state, at = ("value" if sign == "," else "end"), at + 1
                continue
            if state == "first" and sign == "]":
                state, at = "end", at + 1
                continue
            if state == "end":
                raise NotJsonError("something follows its end")
            if sign != "{":
                raise NotJsonError("it holds something else than objects")
            try:
                found, at = parse(text, at)
            except RecursionError:
                raise NotJsonError("it is nested out of all bounds") from None
            except ValueError:
                if ended:
                    raise NotJsonError("it is cut off or damaged") from None
                if len(text) - at > LARGEST:
                    raise NotJsonError("one of its objects is out of all bounds, or damaged") from None
                wait_for = 2 * (len(text) - at)  # so that an object of many pieces is not parsed for each of them
            else:
                state = "end" if state == "single" else "comma"
                wait_for = 0
                yield found
                continue
        if ended:
            if state != "end":
                raise NotJsonError("it is empty" if state == "start" else "it is cut off or damaged")
            return
        count = source.readinto(buffer)
        text, at = text[at:] + decoder.decode(bytes(buffer[:count]), final=not count), 0
        if not count:
            ended, wait_for = True, 0


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at
