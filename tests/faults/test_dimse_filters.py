"""Filters on what a DICOM node doesn't tell in its lists: asked for, else the job says so; never guessed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.model.job import JobRecord
from tests.faults.dimse_way import add_peer
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Find
from tests.support.running_app import RunningApp
from tests.support.studies import make_study

_numbers = itertools.count(1)
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        peer.holds(make_study(instances=3, size_bytes=3_000, accession="A77", modality="CT"))
        peer.holds(make_study(instances=2, size_bytes=3_000, accession="B88", modality="MR"))
        yield peer


def at_level(level: bytes) -> Any:
    return lambda request: level in bytes(request.data)


def forward(running: RunningApp, pacs: FaultyPeer, folder: Path, rule: str) -> JobRecord:
    number = next(_numbers)
    running.folder(f"archive {number}", folder)
    add_peer(running, f"pacs {number}", pacs, retrieve="c-get")
    return running.run("forward", [f"pacs {number}"], [f"archive {number}"], filter=rule, max_attempts=1)


@pytest.mark.parametrize(
    ("rule", "keyword", "level"),
    [
        ("AccessionNumber = A77", "AccessionNumber", b"STUDY"),
        ("Modality = CT", "Modality", b"SERIES"),
        (f"SOPClassUID = {CT}", "", b""),
    ],
)
def test_what_one_list_leaves_out_is_asked_for(
    running_app: RunningApp, pacs: FaultyPeer, tmp_path: Path, rule: str, keyword: str, level: bytes
) -> None:
    if keyword:
        pacs.on("find", Find(without=(keyword,)), where=at_level(level))
    job = forward(running_app, pacs, tmp_path / "archive", rule)
    assert not job.problem
    assert (job.counts.verified, job.left_out) == (3, 2)


@pytest.mark.parametrize(
    ("rule", "keyword"),
    [
        (f"SOPClassUID = {CT}", "SOPClassUID"),
        (f"SOPClassUID != {CT}", "SOPClassUID"),
        ("AccessionNumber = A77", "AccessionNumber"),
        ("SeriesDescription != Scout", "SeriesDescription"),
    ],
)
def test_what_no_list_tells_is_no_reason_to_leave_anything_out(
    running_app: RunningApp, pacs: FaultyPeer, tmp_path: Path, rule: str, keyword: str
) -> None:
    pacs.on("find", Find(without=(keyword,)))
    job = forward(running_app, pacs, tmp_path / "archive", rule)
    assert (job.counts.total, job.left_out) == (0, 0)
    assert "does not tell what the filter looks at" in job.problem
