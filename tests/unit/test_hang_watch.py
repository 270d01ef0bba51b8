"""A test that hangs where no Python runs is ended, named and shown: nobody waits for hours and then knows nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]

HANGS = """
from PySide6.QtCore import QEventLoop

def test_waits_for_ever(qapp):
    QEventLoop().exec()
"""


@pytest.mark.posix  # on Windows, pytest-timeout ends the worker from a thread, and only the name is told
def test_an_event_loop_without_timers_is_ended_with_its_name_and_stacks(tmp_path: Path) -> None:
    """pytest-timeout's signal is only heard when Python runs again, which is never here."""
    (tmp_path / "test_hanging.py").write_text(HANGS)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path,
         "-n", "1", "--dist", "loadfile", "-o", "timeout=1", "-o", "faulthandler_timeout=4", "test_hanging.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    said = result.stdout + result.stderr
    assert result.returncode == 1, said  # and not one that hangs in the place of the other
    assert "crashed while running 'test_hanging.py::test_waits_for_ever'" in said
    assert 'test_hanging.py", line 5 in test_waits_for_ever' in said, "where it hung"
