"""A second look at failed tests (`tests.again`), on runs of pytest made up for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import MOST, Run, refusal

pytestmark = pytest.mark.posix  # CI's, which is Linux

_ROOT = Path(__file__).parents[2]
_TESTS = """
import os, pathlib, pytest
mark = pathlib.Path("mark")

@pytest.mark.parametrize("n", range({many}))
def test_stumbles_once(n):
    here = mark.with_name(f"mark{{n}}")
    there = here.exists()
    here.touch()
    assert there

def test_fails():
    assert not {fails}

def test_dies():
    if {dies}:
        os._exit(1)

def test_passes():
    pass
"""


def _run(folder: Path, *, many: int = 1, fails: bool = False, dies: bool = False) -> str:
    """Run the made-up tests, then look at them again; what that said, the last line being its exit status."""
    (folder / "test_it.py").write_text(_TESTS.format(many=many, fails=fails, dies=dies), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    first = [sys.executable, "-m", "pytest", "--junit-xml", "report.xml"]
    workers = ["-n", "1", "--max-worker-restart", "0"] if dies else []
    subprocess.run([*first, *workers], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    again = [sys.executable, "-m", "tests.again", "report.xml"]
    done = subprocess.run(again, cwd=folder, env=environment, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}\n{done.returncode}"


def test_what_passes_alone_is_named(tmp_path: Path) -> None:
    said = _run(tmp_path, many=2)
    assert said.endswith("\n0")
    unsteady = said.partition("UNSTEADY")[2]
    assert "test_stumbles_once[0]" in unsteady
    assert "test_stumbles_once[1]" in unsteady


def test_what_fails_again_has_failed(tmp_path: Path) -> None:
    said = _run(tmp_path, fails=True)
    assert said.endswith("\n1")
    assert "UNSTEADY" not in said


def test_a_process_that_died_is_not_forgiven(tmp_path: Path) -> None:
    said = _run(tmp_path, many=0, dies=True)
    assert said.endswith("\n1")
    assert "died" in said or "have a result" in said


def test_a_run_without_a_report(tmp_path: Path) -> None:
    again = [sys.executable, "-m", "tests.again", str(tmp_path / "none.xml")]
    done = subprocess.run(again, cwd=_ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "There is no whole report" in done.stdout


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (Run(10, (), died=False), "No test failed: what went wrong is not a test."),
        (Run(9, ("t::a",), died=False), "Only 9 of 10 tests have a result."),
        (Run(10, tuple("abcd"), died=False), f"4 tests failed; up to {MOST} are looked at again."),
        (Run(10, ("t::a",), died=True), "A process that ran tests died."),
        (Run(10, ("t::a",), died=False), ""),
    ],
)
def test_what_is_not_forgiven(run: Run, says: str) -> None:
    assert refusal(run, 10) == says


def test_the_few_by_the_names_that_pytest_takes() -> None:
    failed = ("tests.unit.test_x::test_a[1-b.c]", "tests.gui.test_y.TestZ::test_b")
    assert Run(10, failed, died=False).few == (
        "tests/unit/test_x.py::test_a[1-b.c]",
        "tests/gui/test_y.py::TestZ::test_b",
    )
    assert Run(10, failed, died=True).few == ()
    assert Run(10, failed * 2, died=False).few == ()
