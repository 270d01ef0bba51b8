"""This computer's own node on a free port, filled with studies, and DCMTK's programs as its callers."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import DicomAddress, KnownNode, Node, OpenContext
from core.nodes.this_computer.fields import ThisComputerFields
from core.nodes.this_computer.node import ThisComputerNode
from core.spool.record import InstanceRecord
from tests.support.servers import free_port, required_program
from tests.support.studies import Study
from tests.support.waiting import PATIENCE

AET = "FERRY"


@dataclass(frozen=True)
class Others:
    """The registered nodes that this computer knows: by name, with how each is opened."""

    opened: dict[str, Callable[[], Node]]
    addresses: dict[str, DicomAddress]

    def peers(self) -> list[KnownNode]:
        return [KnownNode(name, address) for name, address in self.addresses.items()]

    def open(self, name: str) -> Node:
        return self.opened[name]()


@contextmanager
def own_node(
    folder: Path, *, name: str = "here", others: Others | None = None, listen: bool = True, **fields: Any
) -> Iterator[ThisComputerNode]:
    """The node, listening on a port of its own."""
    known = others or Others({}, {})
    given = {"aet": AET, "port": free_port(), "reserve": 0.1, "callers": ("*@127.0.0.1",), **fields}
    context = OpenContext(name, lambda _field: None, folder=folder / "own-node", node=known.open, peers=known.peers)
    node = ThisComputerNode(ThisComputerFields(**given), context)
    try:
        if listen:
            node.listen()
        yield node
    finally:
        node.close()


def fill(node: ThisComputerNode, *studies: Study) -> None:
    """Give it studies as a job does."""
    for study in studies:
        info = StudyInfo(study.study_uid)
        for sop_uid, data in zip(study.sop_uids, study, strict=True):
            node.store(info, InstanceRef(sop_uid, "", study.study_uid), data)


def records(node: ThisComputerNode) -> dict[str, InstanceRecord]:
    """All that it holds, by SOP Instance UID."""
    catalogue = node.spool.catalogue
    pages = (page for study in catalogue.studies() for page in catalogue.instances(study.study_uid))
    return {record.sop_uid: record for page in pages for record in page}


def held(node: ThisComputerNode) -> set[str]:
    """SOP Instance UIDs of all that it holds."""
    return set(records(node))


@dataclass(frozen=True)
class Said:
    """What one of DCMTK's programs ended with."""

    status: int
    text: str
    answers: list[Dataset]

    def final(self) -> str:
        """The status of the last response, as DCMTK words it."""
        found = re.findall(r"DIMSE Status\s*:\s*(0x[0-9a-f]{4})", self.text)
        assert found, self.text[-3000:]
        return str(found[-1])

    def counter(self, name: str) -> int:
        """The last "Completed", "Failed", "Warning" or "Remaining" of its log."""
        found = re.findall(rf"{name} Suboperations\s*:\s*(\d+|none)", self.text)
        assert found, self.text[-3000:]
        return 0 if found[-1] == "none" else int(found[-1])


def ask(
    program: str,
    node: ThisComputerNode,
    folder: Path,
    *options: str,
    keys: Sequence[str] = (),
    calling: str = "ASKER",
    called: str = AET,
    timeout: float = PATIENCE,
) -> Said:
    """Run findscu, movescu or getscu against the node; `answers` are what findscu extracts."""
    folder.mkdir(parents=True, exist_ok=True)
    output = [] if program == "movescu" else ["-od", str(folder)]
    extract = ["-X"] if program == "findscu" else []
    command = [
        required_program(program), "-d", "-aet", calling, "-aec", called, *output, *extract, *options,
        *(word for key in keys for word in ("-k", key)), "127.0.0.1", str(node.fields.port),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        cwd=folder,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    answers = [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]
    return Said(done.returncode, done.stdout + done.stderr, answers)
