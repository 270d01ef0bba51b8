"""Logs: no credentials whatever way they come, owner-only, and no patient data above debug."""

from __future__ import annotations

import logging
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.home import Home
from core.logs import PrivateRotatingFile, conceal, start_logging, stop_logging, without_credentials


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    root = logging.getLogger()
    level, raising = root.level, logging.raiseExceptions
    yield Home.open(tmp_path / "home")
    stop_logging()
    root.setLevel(level)
    logging.raiseExceptions = raising


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Basic dXNlcjpzM2NyM3Q=",
        "'Authorization': 'Bearer s3cr3t-token-value'",
        '{"password": "s3cr3t"}',
        "password=s3cr3t&user=me",
        "X-Api-Key: s3cr3t",
        "client_secret = 's3cr3t'",
        "GET http://me:s3cr3t@pacs.example:8042/system",
        "proxy-authorization: s3cr3t",
        "login with Basic dXNlcjpzM2NyM3Q= failed",
    ],
)
def test_what_looks_like_a_credential_is_removed(line: str) -> None:
    cleaned = without_credentials(line)
    assert "s3cr3t" not in cleaned
    assert "dXNlcjpzM2NyM3Q" not in cleaned
    assert "•••" in cleaned


def test_a_known_secret_is_removed_wherever_it_is() -> None:
    conceal("Herbstlaub 77")
    assert without_credentials("the answer was <Herbstlaub 77>") == "the answer was <•••>"


@pytest.mark.parametrize(
    "line", ["sent 3 of 10 to PACS West", "http://pacs.example:8042/system", "basic checks passed"]
)
def test_other_lines_stay(line: str) -> None:
    assert without_credentials(line) == line


def test_the_file_holds_no_secret_even_in_a_traceback(home: Home) -> None:
    conceal("Geheimnis 123")
    path = start_logging(home)
    log = logging.getLogger("core.something")
    try:
        raise ValueError("refused: Geheimnis 123")
    except ValueError:
        log.exception("password=%s", "another secret")
    stop_logging()
    text = path.read_text(encoding="utf-8")
    assert "ValueError: refused: •••" in text
    assert "Geheimnis" not in text
    assert "another" not in text


@pytest.mark.skipif(os.name != "posix", reason="Windows inherits the profile's access list")
def test_only_the_owner_reads_it_also_after_rotation(home: Home) -> None:
    start_logging(home)
    handler = next(h for h in logging.getLogger().handlers if isinstance(h, PrivateRotatingFile))
    handler.maxBytes = 2000
    for number in range(100):
        logging.getLogger("core.x").info("line %d", number)
    files = list(home.log_folder.iterdir())
    assert len(files) > 1
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


def test_debug_lines_only_when_asked_for(home: Home) -> None:
    path = start_logging(home)
    logging.getLogger("core.x").debug("Patient^Name")
    assert "Patient" not in path.read_text(encoding="utf-8")
    start_logging(home, debug=True)
    logging.getLogger("core.x").debug("Patient^Name")
    assert "Patient" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "noisy", ["pynetdicom", "pynetdicom.acse", "httpx", "urllib3.connectionpool", "sqlalchemy.engine"]
)
def test_libraries_that_would_log_patient_data_are_kept_quiet(home: Home, noisy: str) -> None:
    path = start_logging(home, debug=True)
    logging.getLogger(noisy).info("(0010,0010) PN [Patient^Name]")
    logging.getLogger(noisy).debug("(0010,0010) PN [Patient^Name]")
    assert "Patient" not in path.read_text(encoding="utf-8")


def test_writing_goes_on_where_rotation_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    path = start_logging(home)
    handler = next(h for h in logging.getLogger().handlers if isinstance(h, PrivateRotatingFile))
    handler.maxBytes = 500

    def refused(*_args: object) -> None:
        raise PermissionError(13, "in use by another process")

    monkeypatch.setattr(handler, "rotate", refused)
    for number in range(30):
        logging.getLogger("core.x").info("line %d", number)
    assert "line 29" in path.read_text(encoding="utf-8")


def test_warnings_of_libraries_are_logged_without_the_values_that_they_quote(home: Home) -> None:
    """pydicom warns of an invalid value by quoting it, and a name or a Patient ID is such a value."""
    from pydicom.valuerep import IS, validate_value

    path = start_logging(home)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # catch_warnings has put its own receiver in place
        validate_value("LO", "ZEBRA^QUAGGA" * 9, 1)
        with pytest.raises(ValueError):
            IS("ZEBRA^QUAGGA")
    text = path.read_text(encoding="utf-8")
    assert "UserWarning" in text
    assert "ZEBRA" not in text
