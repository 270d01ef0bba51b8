"""Callers that were turned away: the last ones are kept, whatever they call themselves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from core.nodes.this_computer import refusals
from core.nodes.this_computer.refusals import MOST, Refusals, read_refusals


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_PAUSE", 0.0)


def test_the_last_ones_are_kept_and_read_by_whoever_looks(tmp_path: Path) -> None:
    file = tmp_path / "node" / "refused.json"
    noted = Refusals(file)
    for number in range(MOST + 3):
        noted.note(f"CT{number}", "10.4.2.17", "it is not among those who may call")
    noted.note("CT5", "::ffff:10.4.2.17", "again")
    found = read_refusals(file)
    assert len(found) == MOST
    assert (found[-1].aet, found[-1].address, found[-1].why) == ("CT5", "10.4.2.17", "again")
    assert [r.aet for r in found].count("CT5") == 1
    Refusals(file).note("LATER", "fd00::2", "x")
    assert [r.aet for r in read_refusals(file)][-2:] == ["CT5", "LATER"], "those of an earlier run stay"
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_hostile_name_is_cut_to_what_can_be_shown(tmp_path: Path) -> None:
    file = tmp_path / "refused.json"
    Refusals(file).note("\x1b[31mEVIL\n" + "x" * 500, "10.0.0.1", "x")
    assert read_refusals(file)[0].aet == "[31mEVILxxxxxx"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"aet": "A"}', '[{"aet": "A"}]'])
def test_a_file_that_is_none_tells_of_nobody(tmp_path: Path, content: str) -> None:
    file = tmp_path / "refused.json"
    file.write_text(content)
    assert read_refusals(file) == []
    Refusals(file).note("A", "10.0.0.1", "x")
    assert len(read_refusals(file)) == 1


def test_a_burst_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_PAUSE", 3600.0)
    file = tmp_path / "refused.json"
    noted = Refusals(file)
    for number in range(5):
        noted.note(f"A{number}", "10.0.0.1", "x")
    assert len(read_refusals(file)) == 1, "a flood of callers is no flood of writes"
