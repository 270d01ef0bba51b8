"""Ways from one real server to another for the tests of bad days."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import OrthancPair
from tests.faults.crossing import Crossing


@pytest.fixture
def crossing(orthanc_pair: OrthancPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crossing]:
    """A study at one real server and a way to another: of each version in turn, unless parametrized otherwise."""
    made = Crossing(tmp_path / "home", *orthanc_pair, monkeypatch)
    yield made
    made.close()
