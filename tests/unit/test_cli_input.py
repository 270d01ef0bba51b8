"""Secrets on standard input, in whatever encoding the program before the pipe writes."""

from __future__ import annotations

import io
import locale
import sys

import pytest

from core.cli_commands.fields import read_secrets
from core.nodes.registry import node_kinds

SECRET = "pa§ß wörd"


@pytest.mark.parametrize(
    ("written", "preferred"),
    [
        (SECRET.encode(), "utf-8"),
        (b"\xef\xbb\xbf" + SECRET.encode(), "cp1252"),
        (SECRET.encode(), "cp1252"),
        (SECRET.encode("cp1252"), "cp1252"),
    ],
)
def test_a_secret_is_read_as_it_was_written(written: bytes, preferred: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(written + b"\r\nmore\n"), encoding="cp1252"))
    monkeypatch.setattr(locale, "getpreferredencoding", lambda _set=True: preferred)
    found = read_secrets(node_kinds.get("orthanc").Fields, "The kind", "x", ["password", "header_value"])
    assert found == {"password": SECRET, "header_value": "more"}
