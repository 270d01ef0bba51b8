"""Heads of HTTP/1.1 messages: building requests, and reading answers strictly (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from core.model.errors import ConfigurationError
from core.wire.failures import no_http

HEAD_LIMIT = 65536  # bytes of an answer's head, and of all trailers
LINE_LIMIT = 200  # header lines of an answer, and of its trailers

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (.*))?")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_OURS = frozenset({"content-length", "transfer-encoding", "host", "connection", "expect", "te", "upgrade", "trailer"})
_names: dict[str, str] = {}  # header names seen, as they came → small letters


class Headers(Mapping[str, str]):
    """Header fields of an answer; names in any case, repeated ones joined by a comma."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({sorted(self._values)})"  # values may hold cookies


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer.

    Attributes
    ----------
    length : int | None
        Bytes of the body as it travels; None when chunked, or when only the end of the connection ends it.
    keep_alive : bool
        Whether the server lets the connection live on.
    """

    status: int
    reason: str
    headers: Headers
    length: int | None
    chunked: bool
    keep_alive: bool


def parse_head(raw: bytes, where: str) -> Head:
    """Read a head, without the empty line that ends it.

    Raises
    ------
    TransportError
        ``PROTOCOL``: anything that two readers could understand differently is refused.
    """
    text = raw.decode("latin-1")
    lines = text.split("\r\n")
    breaks = len(lines) - 1
    if breaks > LINE_LIMIT:
        raise no_http(where, f"it has more than {LINE_LIMIT} header lines")
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise no_http(where, "its head has stray line ends or null characters")
    matched = _STATUS_LINE.fullmatch(lines[0])
    if matched is None:
        raise no_http(where, "the status line is malformed", lines[0][:200])
    values: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        lower = _names.get(name) or _learn(name)
        if not colon or not lower:
            raise no_http(where, "a header line is malformed", line[:200])
        value = value.strip(" \t")
        values[lower] = f"{values[lower]}, {value}" if lower in values else value
    modern = matched[1] == "1"
    chunked = _chunked(values, modern, where)
    return Head(
        status=int(matched[2]),
        reason=matched[3] or "",
        headers=Headers(values),
        length=None if chunked else _length(values, where),
        chunked=chunked,
        keep_alive=_keep_alive(values.get("connection", ""), modern),
    )


def _learn(name: str) -> str:
    """The name in small letters, or "" when it is none (folded lines and blanks before the colon included)."""
    if _TOKEN.fullmatch(name) is None:
        return ""
    lower = name.lower()
    if len(_names) < 256:
        _names[name] = lower
    return lower


def _chunked(values: dict[str, str], modern: bool, where: str) -> bool:
    coding = values.get("transfer-encoding")
    if coding is None:
        return False
    if "content-length" in values:
        raise no_http(where, "it gives both a length and a transfer encoding")
    if coding.lower() != "chunked" or not modern:
        raise no_http(where, "its transfer encoding is not understood", coding[:200])
    return True


def _length(values: dict[str, str], where: str) -> int | None:
    text = values.get("content-length")
    if text is None:
        return None
    if _LENGTH.fullmatch(text) is None:
        parts = {part.strip() for part in text.split(",")}
        text = parts.pop()
        if parts or _LENGTH.fullmatch(text) is None:
            raise no_http(where, "its length is contradictory or no number", text[:200])
    return int(text)


def _keep_alive(connection: str, modern: bool) -> bool:
    if not connection:
        return modern
    options = {option.strip().lower() for option in connection.split(",")}
    return "close" not in options and (modern or "keep-alive" in options)


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Header fields as they travel.

    Raises
    ------
    ConfigurationError
        A name or value can't be sent (line ends, control characters, letters beyond Latin-1), or is one that
        the client sets itself. The sentence never holds the value.
    """
    lines = []
    for name, value in headers:
        if _TOKEN.fullmatch(name) is None:
            raise ConfigurationError(
                "A header has a name that HTTP does not allow.", "Use letters, digits and hyphens only."
            )
        if name.lower() in _OURS:
            raise ConfigurationError(f"The header {name} is set by the program itself.", "Remove it from the node.")
        try:
            line = value.strip(" \t").encode("latin-1")
        except UnicodeEncodeError:
            line = b"\n"
        if _VALUE.fullmatch(line.decode("latin-1")) is None:
            raise ConfigurationError(
                f"The value of the header {name} has characters that HTTP does not allow.",
                "Check it for line breaks and special characters that were pasted with it.",
            )
        lines.append(b"%b: %b\r\n" % (name.encode("ascii"), line))
    return b"".join(lines)


def request_path(path: str) -> bytes:
    """A path with its query as it travels; raises `ConfigurationError` when it would break the request line."""
    if not (path.startswith("/") and path.isascii() and path.isprintable()) or " " in path or "#" in path:
        raise ConfigurationError(
            "A path on the server has characters that must be percent-encoded, or does not begin with a slash.",
            "Check the address of the node and the identifiers that the server gave.",
        )
    return path.encode("ascii")
