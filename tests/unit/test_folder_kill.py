"""kill -9 while images are stored: whatever was acknowledged is there afterwards, whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.model.study import Presence, StudyQuery
from core.nodes.folder.fields import FolderFields, Layout
from core.nodes.folder.node import FolderNode
from core.nodes.folder.upkeep import STALE_MARK
from tests.support.studies import make_study
from tests.unit.test_folder_dicomdir import in_dicomdir
from tests.unit.test_folder_node import info, refs

ROOT = Path(__file__).resolve().parents[2]

STORER = """
import sys
from core.nodes.folder.fields import FolderFields
from core.nodes.folder.node import FolderNode
from tests.support.studies import make_study
from tests.unit.test_folder_node import info, refs

study = make_study(instances=2000)
node = FolderNode(FolderFields(path=sys.argv[1], layout=sys.argv[2]), "killed")
for ref, body in zip(refs(study), study):
    if node.store(info(study), ref, body).stored:
        print(ref.sop_uid, flush=True)
        if len(sys.argv) > 3 and hash(ref.sop_uid) % 7 == 0:
            node.confirm(info(study), [ref])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize(
    ("name", "layout"), [("store", Layout.UID), ("store", Layout.DICOMDIR), ("store.zip", Layout.UID)]
)
def test_killed_again_and_again(tmp_path, name, layout):
    path = tmp_path / name
    study = make_study(instances=2000)
    digests = study.digests()
    acknowledged: set[str] = set()
    for wanted in (1, 30, 90):
        command = [sys.executable, "-c", STORER, str(path), layout.value, *(["confirm"] if wanted == 90 else [])]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as storer:
            assert storer.stdout is not None
            for number, line in enumerate(storer.stdout, 1):
                acknowledged.add(line.strip())
                if number == wanted:
                    storer.kill()  # the lines that are still in the pipe were acknowledged, too
        assert len(acknowledged) >= wanted
        node = FolderNode(FolderFields(path=str(path), layout=layout), "after")
        held = {h.sop_uid: h.digest for h in node.confirm(info(study), refs(study)) if h.presence is Presence.PRESENT}
        assert acknowledged <= set(held)
        assert all(digests[uid] == digest for uid, digest in held.items()), "what is there is whole"
        listing = node.studies(StudyQuery())
        assert [s.instance_count for s in listing] == [len(held)]
        acknowledged |= set(held)  # stored, and killed before it could be said
        node.close()
        if layout is Layout.DICOMDIR:
            assert set(in_dicomdir(path)) == set(held), "what a crash left undone is made up for"
            assert not (path / STALE_MARK).exists()
