"""Evidence and intent are on the disk before a DELETE leaves: seen in the program's own system calls."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import OrthancPair
from tests.faults.system_calls import recorded, recorder
from tests.support.ferry import Ferry
from tests.support.studies import make_studies, merged_digests

_IDENTIFIER = rb"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}"
_DELETE = re.compile(rb"DELETE /instances/(" + _IDENTIFIER + rb") HTTP/1.1\r\n")
# Rows as SQLite keeps them in a page (https://sqlite.org/fileformat.html, "Record Format"): texts of the columns
# in their order. Of an instance: its identifier at the source … the state "deleting". Of a delivery: the state
# "verified" … its identifier at the destination, which is the same.
_INTENT = re.compile(rb"(" + _IDENTIFIER + rb")(?:(?!" + _IDENTIFIER + rb").){0,120}?deleting", re.DOTALL)
_PROOF = re.compile(rb"verified(?:(?!verified).){0,60}?(" + _IDENTIFIER + rb")", re.DOTALL)


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10", "1.10>1.12"], indirect=True)
def test_the_ledger_is_synced_before_each_delete(orthanc_pair: OrthancPair, ferry: Ferry, tmp_path: Path) -> None:
    source, destination = orthanc_pair
    studies = make_studies(2, instances=35)
    source.upload([instance for study in studies for instance in study])
    for name, server in (("from", source), ("to", destination)):
        ferry.run("node", "add", "orthanc", name, "--url", server.url).expect()
    calls = tmp_path / "calls"
    move = ("run", "forward", "--source", "from", "--destination", "to", "--after", "move")
    ferry.start(*move, wrapper=recorder(calls)).result().expect()
    assert source.count() == 0
    assert destination.digests() == merged_digests(studies)

    wal = str(ferry.home / "ledger.sqlite-wal")
    written: set[tuple[str, bytes]] = set()
    synced: set[tuple[str, bytes]] = set()
    deleted = []
    for call in recorded(calls):
        if call.target == wal:
            if call.is_sync:
                synced |= written
                written.clear()
            written |= {("intent", found) for found in _INTENT.findall(call.data)}
            written |= {("proof", found) for found in _PROOF.findall(call.data)}
        elif found := _DELETE.match(call.data):
            assert ("proof", found[1]) in synced, "deleted before its proof was on the disk"
            assert ("intent", found[1]) in synced, "deleted before the intent was on the disk"
            deleted.append(found[1])
        else:
            assert b"DELETE /instances" not in call.data, call
    assert len(deleted) == len(set(deleted)) == 70
