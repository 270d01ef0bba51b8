"""What only Windows has: the Credential Manager, the event that asks a copy to end, paths of any length."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from core.app import App
from core.asked_to_end import event_name
from core.home import Home
from core.ledger.ledger import Ledger
from core.model.errors import LocalError, SecretError
from core.model.node import NodeRecord
from core.secrets import LONGEST, Kept, Secrets
from core.spool.disk import extended
from tests.support.running_app import RunningApp
from tests.support.studies import small_study
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="of Windows alone")


@pytest.fixture
def credential_manager() -> Iterator[None]:
    """Another test of this process may have chosen another keyring, which is remembered."""
    keyring, windows = import_module("keyring"), import_module("keyring.backends.Windows")
    before = keyring.get_keyring()
    keyring.set_keyring(windows.WinVaultKeyring())
    yield
    keyring.set_keyring(before)


@pytest.mark.usefixtures("credential_manager")
def test_the_credential_manager_keeps_secrets_of_two_nodes_apart() -> None:
    secrets = Secrets(f"test-{time.time_ns():x}")
    status = secrets.status()
    assert status.backend == "the Windows Credential Manager", status
    try:
        for node, value in (("PACS Süd", "pa§ß wörd"), ("Ωmega", "x" * 1200)):
            assert secrets.put(node, "password", value) is Kept.KEYRING
        assert secrets.get("PACS Süd") == "pa§ß wörd"
        assert secrets.get("Ωmega") == "x" * 1200
    finally:
        for node in ("PACS Süd", "Ωmega"):
            secrets.remove(node)
    assert secrets.get("PACS Süd") is None


@pytest.mark.usefixtures("credential_manager")
def test_the_credential_manager_takes_what_fits_and_more_is_told_in_a_sentence() -> None:
    secrets = Secrets(f"test-{time.time_ns():x}")
    try:
        assert secrets.put("PACS", "password", "ß" * LONGEST) is Kept.KEYRING
        assert secrets.get("PACS") == "ß" * LONGEST
        with pytest.raises(SecretError, match="and the Windows Credential Manager takes at most 1,280") as caught:
            secrets.put("PACS", "password", "ß" * (LONGEST + 1))
        assert caught.value.code == "secret-too-long"
        assert secrets.get("PACS") == "ß" * LONGEST
    finally:
        secrets.remove("PACS")


def test_a_mutex_says_that_a_copy_runs() -> None:
    from core.running_mark import exists

    name = f"Global\\DICOM-Ferry-test-{time.time_ns():x}"
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import core.running_mark as m; m.NAME = {name!r}; m.mark_running(); print('marked', flush=True); input()",
        ],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "marked"
        assert exists(name)
        child.communicate("\n", timeout=60)
        wait_for(lambda: not exists(name), what="the end of the mutex")
    finally:
        child.kill()
        child.communicate()


def test_of_two_mutexes_one_is_the_first() -> None:
    from core.running_mark import NamedMutex

    name = f"Global\\DICOM-Ferry-test-{time.time_ns():x}"
    first, second = NamedMutex(name), NamedMutex(name)
    assert (first.first, second.first) == (True, False)
    first.close()
    second.close()
    third = NamedMutex(name)
    assert third.first
    third.close()


def ask_to_end(process: int) -> bool:
    """What the installers' library does."""
    import ctypes

    kernel = ctypes.WinDLL("kernel32")
    kernel.OpenEventW.restype = ctypes.c_void_p
    event = kernel.OpenEventW(2, False, event_name(process))  # EVENT_MODIFY_STATE
    if not event:
        return False
    kernel.SetEvent(ctypes.c_void_p(event))
    kernel.CloseHandle(ctypes.c_void_p(event))
    return True


def test_a_copy_that_is_asked_to_end_is_interrupted() -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import threading
                from core.asked_to_end import listen_for_the_end
                from core.cli_commands.interruption import Interruption

                with Interruption() as interruption:
                    listen_for_the_end()
                    print("listening", flush=True)
                    while not interruption.asked.wait(0.1):
                        pass
                print("settled", flush=True)
                """
            ),
        ],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "listening"
        assert ask_to_end(child.pid)
        rest, _ = child.communicate(timeout=30)
        assert (rest.strip(), child.returncode) == ("settled", 0)
    finally:
        child.kill()


def test_another_process_has_no_such_event() -> None:
    assert not ask_to_end(4)


def test_images_travel_between_folders_deeper_than_windows_counts(tmp_path: Path) -> None:
    """260 characters are the limit of programs that don't ask for more; nothing here depends on the policy."""
    deep = tmp_path.joinpath(*[f"{'Bildübertragung Ωmega 画像 ' * 3}{number}" for number in range(5)])
    assert len(str(deep)) > 350
    Path(extended(deep / "from")).mkdir(parents=True)
    Path(extended(deep / "to")).mkdir()
    for number, instance in enumerate(small_study(3)):
        Path(extended(deep / "from" / f"{number}.dcm")).write_bytes(instance)
    running = RunningApp(tmp_path / "home")
    try:
        for name in ("from", "to"):
            running.app.nodes.add("folder", name, {"path": str(deep / name)}, {})
        job = running.run("clone", ["from"], ["to"])
        assert (job.counts.verified, job.problem) == (3, "")
        written = running.app.report(job.id, "csv", deep / "report.csv")
    finally:
        running.close()
    assert written == 3
    assert Path(extended(deep / "report.csv")).stat().st_size
    assert sum(len(files) for _, _, files in os.walk(extended(deep / "to"))) == 3


def test_a_drive_that_is_gone_is_told_in_a_sentence(tmp_path: Path) -> None:
    import ctypes

    define = ctypes.WinDLL("kernel32", use_last_error=True).DefineDosDeviceW
    define.argtypes = [ctypes.c_uint32, ctypes.c_wchar_p, ctypes.c_wchar_p]
    drive = next(f"{letter}:" for letter in "QRSTUVW" if not Path(f"{letter}:\\").exists())
    (tmp_path / "images").mkdir()
    if not define(0, drive, str(tmp_path)) or not Path(f"{drive}\\images").exists():
        pytest.skip("no drive can be made here")
    app = App.open(tmp_path / "home")
    try:
        app.nodes.add("folder", "Share", {"path": f"{drive}\\images"}, {})
        node = app.nodes.open("Share")
        node.probe()
        define(2, drive, None)
        with pytest.raises(LocalError) as caught:
            node.probe()
        assert caught.value.code in ("folder-missing", "share-lost")
        assert "goes on by itself when it is back" in caught.value.next_step
        node.close()
    finally:
        define(2, drive, None)
        app.close()


def test_a_home_in_a_folder_of_any_name(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "Bildübertragung Ωmega 画像")
    ledger = Ledger.open(home.ledger_file)
    try:
        ledger.save_node(NodeRecord(name="a", kind="folder"))
        assert [record.name for record in ledger.nodes()] == ["a"]
    finally:
        ledger.close()
