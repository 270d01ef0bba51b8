"""A second look at a few tests that failed in a run of all: ``python -m tests.again REPORT``.

A run of some thousand tests against real servers, on a machine that others use too, may stumble over that
machine. Instead of running all again, the few that failed are run once more, one after the other with nothing
beside them. One that fails again has found a fault. One that passes is named, for whoever looks after it: it
is unsteady, and that is a fault of the test or of the program.

Nothing is forgiven where more than `MOST` failed, where a process of the run died, or where a test has no result.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

MOST = 3
#: What pytest-xdist says of a test during which its process died.
_DIED = "crashed while running"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of tests came to: how many have a result, the names of those that failed, whether a process died."""

    results: int
    failed: tuple[str, ...]
    died: bool

    @property
    def few(self) -> tuple[str, ...]:
        """The failed tests as pytest takes their names; none where nothing is forgiven."""
        if refusal(self, self.results):
            return ()
        return tuple(_as_asked_for(name) for name in self.failed)


def _as_asked_for(name: str) -> str:
    """``tests.unit.test_x.TestA::test_b[1]`` as ``tests/unit/test_x.py::TestA::test_b[1]``."""
    where, _, test = name.partition("::")
    parts = where.split(".")
    classes = [part for part in parts if part[:1].isupper()]
    return "::".join((f"{'/'.join(parts[: len(parts) - len(classes)])}.py", *classes, test))


def read(report: Path) -> Run:
    """The results in a report of pytest's (JUnit XML, ``--junit-xml``, with tests named as pytest names them).

    Raises
    ------
    OSError, xml.etree.ElementTree.ParseError
        There is none, or it is not whole.
    """
    names: set[str] = set()
    failed: dict[str, None] = {}
    died = False
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        names.add(name)
        for trouble in (*case.findall("failure"), *case.findall("error")):
            failed[name] = None
            died = died or _DIED in f"{trouble.get('message')}{trouble.text}"
    return Run(len(names), tuple(failed), died)


def refusal(run: Run, wanted: int) -> str:
    """Why a run is not looked at again, in a sentence; empty where it is.

    Parameters
    ----------
    wanted : int
        Tests that should have a result.
    """
    if not run.failed:
        return "No test failed: what went wrong is not a test."
    if run.died:
        return "A process that ran tests died."
    if run.results < wanted:
        return f"Only {run.results:,} of {wanted:,} tests have a result."
    if len(run.failed) > MOST:
        return f"{len(run.failed)} tests failed; up to {MOST} are looked at again."
    return ""


def collected() -> int:
    """How many tests a run of all has."""
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    return sum("::" in line for line in said.splitlines())


def main(report: Path) -> int:
    """Look again at the tests that failed according to `report`; 0 when all of them pass."""
    try:
        run = read(report)
    except (OSError, ET.ParseError) as error:
        print(f"There is no whole report of the run: {error}")
        return 1
    if why := refusal(run, collected()):
        print(why)
        return 1
    print("Failed once; each is run again, alone:", *run.failed, sep="\n  ", flush=True)
    only = ["--last-failed", "--last-failed-no-failures", "none"]
    status = subprocess.run([sys.executable, "-m", "pytest", *only]).returncode
    if status == 0:
        print("UNSTEADY, passed when run again:", *run.failed, sep="\n  ")
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
