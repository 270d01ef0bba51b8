"""Ways from one real server to another for the tests of bad days."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import OrthancPair
from tests.faults.crossing import Crossing
from tests.support.running_app import RunningApp


@pytest.fixture
def crossing(orthanc_pair: OrthancPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crossing]:
    """A study at one real server and a way to another: of each version in turn, unless parametrized otherwise."""
    made = Crossing(tmp_path / "home", *orthanc_pair, monkeypatch)
    yield made
    made.close()


@pytest.fixture(scope="module")
def running_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """A home with its engine for all tests of a file; each registers nodes of its own."""
    made = RunningApp(tmp_path_factory.mktemp("running") / "home")
    yield made
    made.close()
