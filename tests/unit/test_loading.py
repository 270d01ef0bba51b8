"""Parts of pydicom that several threads ask for first at the same moment: all of them get them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import importlib, sys, threading
from core.model.loading import load_pydicom
from core.model.rules import parse_rule
parts = ["pydicom.dataset", "pydicom.datadict", "pydicom.filereader", "pydicom.uid", "pydicom.charset", "rule", "rule"]
wrong, start = [], threading.Barrier(len(parts))
def work(part):
    start.wait()
    try:
        if part == "rule":
            parse_rule("Modality = CT").matches({"Modality": "CT"})
        else:
            load_pydicom()
            importlib.import_module(part)
    except Exception as error:
        wrong.append(f"{part}: {error!r}")
threads = [threading.Thread(target=work, args=(part,)) for part in parts]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(wrong)
"""


def test_several_threads_at_once() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
