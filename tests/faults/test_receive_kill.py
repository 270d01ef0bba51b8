"""The receiver dies, or its disk is full: nothing that was acknowledged is lost, nothing half is shown."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.spool.spool import Spool
from tests.faults.disks import own_disk
from tests.faults.receiving import MOMENTS
from tests.faults.system_calls import recorded, recorder
from tests.support.dimse_scu import Caller, Image
from tests.support.dimse_wire import Ended
from tests.support.processes import Child
from tests.support.servers import free_port, required_program
from tests.support.studies import Study, ct_study, make_study
from tests.support.waiting import wait_for

AET = "FERRY"
Start = Callable[..., tuple[Child, int]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the receiver over the home "home"; it ends with the test."""
    children: list[Child] = []

    def run(*options: str, before: tuple[str, ...] = ()) -> tuple[Child, int]:
        port = free_port()
        command = [*before, sys.executable, "-m", "tests.faults.receiving", str(port), str(tmp_path / "home"), *options]
        child = Child(command, tmp_path / "log", cwd=Path(__file__).parents[2])
        children.append(child)
        wait_for(lambda: "listening" in child.stdout() or not child.running, what="the receiver")
        assert child.running, child.describe()
        return child, port

    yield run
    for child in children:
        child.close()


def send(port: int, study: Study) -> list[str]:
    """Send until all is acknowledged or the receiver is gone; SOP Instance UIDs of what was acknowledged."""
    acknowledged: list[str] = []
    with Caller("127.0.0.1", port, called=AET) as caller:
        try:
            line = caller.open(Image.of(study[0]).offer, max_pdu=131072)
            for number, (sop_uid, instance) in enumerate(zip(study.sop_uids, study, strict=True), 1):
                assert caller.store(line, instance, number) == 0
                acknowledged.append(sop_uid)
            line.release()
        except (Ended, OSError):
            pass
    return acknowledged


def holdings(folder: Path) -> dict[str, bytes]:
    """What the spool says that it holds, each file looked at: whole, and of the digest that is recorded."""
    spool = Spool.open(folder / "home" / "spool")
    try:
        found = {}
        for study in spool.catalogue.studies():
            for page in spool.catalogue.instances(study.study_uid):
                for record in page:
                    content = spool.path(record).read_bytes()
                    assert len(content) == record.size
                    assert hashlib.md5(content).hexdigest() == record.digest
                    found[record.sop_uid] = content[record.data_offset :]
        files = {p.relative_to(spool.folder).as_posix() for p in (spool.folder / "files").rglob("*") if p.is_file()}
        assert len(files) == len(found), "each file has its record"
    finally:
        spool.close()
    assert not list((folder / "home" / "spool" / "incoming").iterdir())
    assert not (folder / "home" / "spool" / "aside").exists()
    return found


def names_of(folder: Path) -> dict[str, str]:
    """SOP Instance UIDs by the paths of their files."""
    opened = Spool.open(folder / "home" / "spool")
    try:
        pages = (p for study in opened.catalogue.studies() for p in opened.catalogue.instances(study.study_uid))
        return {str(opened.path(record)): record.sop_uid for page in pages for record in page}
    finally:
        opened.close()


def expected(*studies: Study) -> dict[str, bytes]:
    return {u: Image.of(i).data for study in studies for u, i in zip(study.sop_uids, study, strict=True)}


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_was_acknowledged_survives_a_kill(start: Start, tmp_path: Path, moment: str) -> None:
    studies = [make_study(instances=25, accession=f"K{n}", size_bytes=20_000) for n in range(3)]
    number = 40 if moment != "writing" else 80  # several at once on their way, and some done
    child, port = start("--die", moment, str(number))
    acknowledged: list[str] = []
    threads = [threading.Thread(target=lambda s=s: acknowledged.extend(send(port, s))) for s in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: not child.running, what="the receiver to be dead")
    assert child.returncode == -9
    everything = expected(*studies)
    held = holdings(tmp_path)
    assert set(acknowledged) <= set(held), "acknowledged and lost"
    assert 20 < len(acknowledged) < 75
    assert all(everything[uid] == content for uid, content in held.items())
    # The senders send all again.
    child, port = start()
    for study in studies:
        assert send(port, study) == study.sop_uids
    again = Child(
        [required_program("dcmsend"), "-aec", AET, "127.0.0.1", str(port), *studies[0].write(tmp_path / "images")],
        tmp_path / "log",
    )
    assert again.wait() == 0, again.describe()
    child.kill()
    assert holdings(tmp_path) == everything


def test_the_last_before_its_answer_and_the_first_after_it(start: Start, tmp_path: Path) -> None:
    """To the image: killed before its 0000 the sender knows nothing of it; killed after it, it is held for certain."""
    study = make_study(instances=10)
    child, port = start("--die", "after 0000", "7")
    assert len(send(port, study)) in (6, 7)  # the seventh 0000 may die with the process's socket
    child.wait()
    held = holdings(tmp_path)
    assert set(held) == set(study.sop_uids[:7])
    child, port = start("--die", "before 0000", "9")
    assert send(port, study) == study.sop_uids[:8]
    child.wait()
    assert set(holdings(tmp_path)) == set(study.sop_uids[:9])


def test_file_and_record_are_synced_before_each_answer(start: Start, tmp_path: Path) -> None:
    """Seen in the receiver's own system calls, three senders at once."""
    calls = tmp_path / "calls"
    studies = [make_study(instances=8, accession=f"S{n}") for n in range(3)]
    child, port = start(before=recorder(calls))
    threads = [threading.Thread(target=send, args=(port, study)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The recorder would let go of the receiver, which would go on for ever.
    for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text(encoding="ascii").split():
        os.kill(int(pid), signal.SIGKILL)
    child.wait()
    child.close()
    uids = {uid.encode(): uid for study in studies for uid in study.sop_uids}
    names = names_of(tmp_path)  # file → image
    folders = {str(Path(name).parent) for name in names}
    files: set[str] = set()  # images whose file is synced
    shelved: set[str] = set()  # … and then a folder of files
    written: set[str] = set()  # images whose record is written
    recorded_: set[str] = set()  # … and synced
    answered = []
    for call in recorded(calls):
        found = [uid for encoded, uid in uids.items() if encoded in call.data]
        if call.target in names and call.is_sync:
            files.add(names[call.target])
        elif call.target in folders and call.is_sync:
            shelved |= files
        elif call.target.endswith("catalogue.sqlite-wal"):
            if call.is_sync:
                recorded_ |= written
            written |= set(found)
        elif call.target.startswith("socket:") or call.name in ("sendto", "sendmsg"):
            for uid in found:
                assert uid in files, "answered before its file was on the disk"
                assert uid in shelved, "answered before its name was on the disk"
                assert uid in recorded_, "answered before its record was on the disk"
                answered.append(uid)
    assert sorted(answered) == sorted(uids.values())


@pytest.mark.parametrize("size", ["6m", "12m"])
def test_a_disk_that_is_really_full_answers_a700_and_keeps_what_it_has(start: Start, tmp_path: Path, size: str) -> None:
    """No reserve at all: the disk's own error in the middle of a file, or of the catalogue."""
    home = tmp_path / "home"
    home.mkdir()
    study = ct_study(30)
    _, port = start("--no-watermark", before=own_disk(home, f"size={size}"))
    statuses = []
    with Caller("127.0.0.1", port, called=AET) as caller:
        line = caller.open(Image.of(study[0]).offer, max_pdu=131072)
        for number, instance in enumerate(study, 1):
            statuses.append(caller.store(line, instance, number))
        kept = statuses.index(0xA700)
        assert 5 < kept < 25
        assert set(statuses[:kept]) == {0}
        assert set(statuses[kept:]) == {0xA700}, [hex(s) for s in statuses]
        # What was acknowledged is known by its content still: it is "there already".
        again = caller.open(Image.of(study[0]).offer, max_pdu=131072)
        for instance in study[:3]:
            assert caller.store(again, instance) in (0, 0xA700)


def test_the_reserve_is_kept(start: Start, tmp_path: Path) -> None:
    """With the smallest reserve, 100 MB, on a disk of 110 MB: some come in, then A700, before the disk is full."""
    home = tmp_path / "home"
    home.mkdir()
    study = ct_study(30)
    _, port = start(before=own_disk(home, "size=105m"))
    with Caller("127.0.0.1", port, called=AET) as caller:
        line = caller.open(Image.of(study[0]).offer, max_pdu=131072)
        statuses = [caller.store(line, instance, number) for number, instance in enumerate(study, 1)]
    assert statuses[0] == 0
    assert set(statuses) == {0, 0xA700}
    assert statuses == sorted(statuses), "no more after the first refusal"
