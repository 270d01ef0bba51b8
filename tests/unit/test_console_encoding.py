"""Patients have names that no code page of a console holds: commands go on, and programs lose nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.cli import main
from tests.support.ferry import ROOT
from tests.support.studies import small_study

NAMES = ("Größe^Ñandú", "Ωμέγα^Άλφα", "山田^太郎", "Łukasz^Żółć", "𝒜da^💡")


class Console:
    """The program in this process, with its output in a pipe that takes one code page and nothing else."""

    def __init__(self, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoding = encoding
        self._monkeypatch = monkeypatch

    def run(self, *words: str | Path, status: int = 0) -> bytes:
        out, err = io.BytesIO(), io.BytesIO()
        with self._monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=self.encoding))
            patched.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=self.encoding))
            found = main([str(word) for word in words])
            sys.stdout.flush()
            sys.stderr.flush()
            said, complained = out.getvalue(), err.getvalue()
        assert found == status, (said + complained).decode("ascii", "replace")
        assert b"did not foresee" not in complained
        return said


@pytest.fixture(params=["ascii", "cp437", "cp1252"])
def console(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "home"))
    made = Console(request.param, monkeypatch)
    for name in ("Röntgen", "Ziel"):
        (tmp_path / name).mkdir()
        made.run("node", "add", "folder", name, "--path", tmp_path / name)
    _write(tmp_path / "Röntgen")
    return made


def _write(folder: Path) -> None:
    for number, patient in enumerate(NAMES):
        for instance in small_study(1, patient=patient, patient_id=f"ID-{number}", seed=number):
            (folder / f"{number}.dcm").write_bytes(instance)


def _fits(name: str, encoding: str) -> bool:
    return name.encode(encoding, "replace").decode(encoding) == name


def test_no_name_ends_a_command_and_none_is_lost_to_programs(console: Console) -> None:
    plain = console.run("find", "Röntgen").decode(console.encoding).casefold()
    programs = json.dumps([json.loads(line) for line in console.run("find", "Röntgen", "--json").splitlines()])
    for name in NAMES:
        shown = any(form.casefold() in plain for form in (name, name.replace("^", ", ")))
        assert shown is _fits(name, console.encoding), name
        assert json.dumps(name)[1:-1] in programs
    console.run("node", "list")
    console.run("run", "clone", "--source", "Röntgen", "--destination", "Ziel")
    console.run("job", "list")
    console.run("run", "clone", "--source", "Röntgen", "--destination", "nirgends ☢", status=2)
    job = json.loads(console.run("job", "list", "--json").splitlines()[0])["job"]
    report = console.run("report", str(job)).decode("utf-8-sig")
    assert {value for row in csv.DictReader(io.StringIO(report)) for value in row.values()} >= set(NAMES)


def test_a_process_with_a_code_page_says_what_it_can(tmp_path: Path) -> None:
    _write(tmp_path)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]),
        "PYTHONIOENCODING": "cp1252",
        "DICOM_FERRY_HOME": str(tmp_path / "home"),
    }
    words = f"import core.cli as c; c.main(['node', 'add', 'folder', 'A', '--path', {str(tmp_path)!r}]); "
    done = subprocess.run(
        [sys.executable, "-c", words + "raise SystemExit(c.main(['find', 'A']))"],
        env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ñandú" in done.stdout.decode("cp1252").casefold()
    assert b"UnicodeEncodeError" not in done.stderr
