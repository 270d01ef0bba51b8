"""What people read: names, sizes, times, states."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from PySide6.QtCore import QLocale

from core.model.errors import LedgerError
from core.model.outcome import StudyState
from core.model.study import StudyInfo
from gui import words
from tests.gui.hospital import some_rows


@pytest.fixture(autouse=True)
def _british() -> None:
    QLocale.setDefault(QLocale("en_GB"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("MÜLLER^Anna", "MÜLLER, Anna"),
        ("SMITH^John^Quincy^Dr", "SMITH, John Quincy"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou"),
        ("=山田^太郎", "山田, 太郎"),
        ("ONLY", "ONLY"),
        ("", "No name"),
        ("^^", "No name"),
    ],
)
def test_person(name: str, shown: str) -> None:
    assert words.person(name) == shown


@pytest.mark.parametrize(
    ("octets", "shown"),
    [(0, "0 B"), (999, "999 B"), (1_400, "1 kB"), (939_000_000, "939 MB"), (1_740_000_000, "1.7 GB"), (3e13, "30 TB")],
)
def test_size(octets: float, shown: str) -> None:
    assert words.size(octets) == shown


def test_durations_and_counts() -> None:
    assert [words.duration(s) for s in (0, 12, 245, 7800)] == ["0:00", "0:12", "4:05", "2:10:00"]
    assert words.plural(1, "image") == "1 image"
    assert words.studies(1204) == "1,204 studies"
    assert words.speed(0) == ""


def test_times_are_local_and_say_how_long_ago() -> None:
    now = datetime.now(UTC)
    assert words.ago(now) == "just now"
    assert words.ago(now - timedelta(minutes=5)) == "5 min ago"
    assert words.exact(None) == ""
    old = datetime(2020, 3, 9, 12, 0, 5, tzinfo=UTC)
    assert "2020" in words.exact(old)
    assert words.dicom_date("19580401") == "1 Apr 1958"
    assert words.dicom_date("unknown") == "unknown"


def test_study_lines() -> None:
    study = StudyInfo(
        "1",
        patient_id="4711",
        sex="F",
        birth_date="19580101",
        study_date="20200309",
        study_time="0841",
        modalities=("CT",),
    )
    assert words.patient_line(study) == "4711 · F 1958"
    assert words.study_when(study) == "9 Mar 2020 08:41"
    assert words.study_what(study) == "CT"
    assert words.study_when(StudyInfo("1")) == "No date"


def test_waiting_says_why() -> None:
    row = some_rows(1)[0]
    assert words.state(row) == "Waiting"
    assert words.state(replace(row, reason="Window 19:00.")) == "Waiting (window 19:00)"
    later = replace(row, next_attempt=datetime.now(UTC))
    assert words.state(later).startswith("Waiting (retry at ")
    assert words.state(replace(row, state=StudyState.SENT)) == "Sent, not confirmed"


def test_errors_are_sentences() -> None:
    assert words.sentence_of(LedgerError("Broken.", "Mend it.", detail="d")) == ("Broken.", "Mend it.", "d")
    sentence, next_step, detail = words.sentence_of(KeyError("x"))
    assert "KeyError" not in sentence + next_step
    assert "KeyError" in detail
