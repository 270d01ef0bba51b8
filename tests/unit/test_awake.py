"""The computer stays awake while images are on their way, for as long and no longer."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.app import App
from core.awake import REASON, Awake
from core.model.events import EngineChanged, NodeChanged, NodeHealth
from core.settings import Settings
from core.sleep_holds import take_hold
from tests.support.running_app import RunningApp
from tests.support.studies import small_study
from tests.support.waiting import wait_for

WORKS = EngineChanged(running=True, speed=1e6, unconfirmed_studies=1, followers=0)
RESTS = EngineChanged(True, 0.0, 0, 1, idle_since=datetime(2026, 11, 21, tzinfo=UTC))
ENDED = EngineChanged(running=False, speed=0.0, unconfirmed_studies=0, followers=0)


class Holds:
    """A system that counts what it was asked for, and on which threads."""

    how = "counted"

    def __init__(self, *, refuses: bool = False) -> None:
        self.taken = self.released = 0
        self.threads: set[str] = set()
        self.refuses = refuses

    def take(self, reason: str) -> Holds | None:
        assert reason == REASON
        self.taken += 1
        self.threads.add(threading.current_thread().name)
        return None if self.refuses else self

    def release(self) -> None:
        self.released += 1
        self.threads.add(threading.current_thread().name)

    @property
    def held(self) -> int:
        return self.taken - self.released


class Wanted:
    def __init__(self) -> None:
        self.on = True


@pytest.fixture
def holds() -> Holds:
    return Holds()


@pytest.fixture
def wanted() -> Wanted:
    return Wanted()


@pytest.fixture
def awake(holds: Holds, wanted: Wanted) -> Iterator[Awake]:
    made = Awake(lambda: wanted.on, holds.take, linger=0.2)
    yield made
    made.close()


def test_nothing_is_held_before_there_is_work(awake: Awake, holds: Holds) -> None:
    awake.heard(RESTS)
    awake.heard(NodeChanged("PACS", NodeHealth.WORKS))
    awake.close()
    assert holds.taken == 0
    assert not any(thread.name == "awake" for thread in threading.enumerate())


def test_it_is_held_while_there_is_work_and_let_go_soon_after(awake: Awake, holds: Holds) -> None:
    awake.heard(WORKS)
    wait_for(lambda: holds.held == 1, what="the hold")
    awake.heard(WORKS)
    awake.heard(RESTS)
    wait_for(lambda: holds.held == 0, what="its end", timeout=10.0)
    assert holds.taken == 1
    assert holds.threads == {"awake"}  # Windows counts by threads


def test_a_short_rest_lets_nothing_go(holds: Holds) -> None:
    awake = Awake(lambda: True, holds.take, linger=30.0)
    try:
        for _ in range(3):
            awake.heard(WORKS)
            wait_for(lambda: holds.taken == 1, what="the hold")
            awake.heard(RESTS)
        assert holds.released == 0
    finally:
        awake.close()
    assert (holds.taken, holds.released) == (1, 1)


def test_an_engine_that_ends_lets_go(awake: Awake, holds: Holds) -> None:
    awake.heard(WORKS)
    wait_for(lambda: holds.held == 1, what="the hold")
    awake.heard(ENDED)
    wait_for(lambda: holds.held == 0, what="its end", timeout=10.0)


def test_the_setting_counts_at_once_in_the_middle_of_work(awake: Awake, holds: Holds, wanted: Wanted) -> None:
    wanted.on = False
    awake.heard(WORKS)
    awake.look()
    assert holds.taken == 0
    wanted.on = True
    awake.look()
    wait_for(lambda: holds.held == 1, what="the hold")
    wanted.on = False
    awake.look()
    wait_for(lambda: holds.held == 0, what="its end")
    wanted.on = True
    awake.look()
    wait_for(lambda: holds.held == 1, what="the hold again")


def test_a_system_that_refuses_is_asked_once_for_each_work(wanted: Wanted) -> None:
    holds = Holds(refuses=True)
    awake = Awake(lambda: wanted.on, holds.take, linger=0.0)
    try:
        for count in (1, 2):
            awake.heard(WORKS)
            wait_for(lambda count=count: holds.taken == count, what="the question")  # type: ignore[misc]
            awake.heard(RESTS)
    finally:
        awake.close()
    assert (holds.taken, holds.released) == (2, 0)


def test_a_job_holds_it_while_images_move(tmp_path: Path, holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.awake.take_hold", holds.take)
    (tmp_path / "from").mkdir()
    for number, instance in enumerate(small_study(60)):
        (tmp_path / "from" / f"{number}.dcm").write_bytes(instance)
    running = RunningApp(tmp_path / "home")
    try:
        ends = [running.folder(name, tmp_path / name) for name in ("from", "to")]
        job = running.start("clone", [ends[0]], [ends[1]], bandwidth=0.05)
        wait_for(lambda: holds.held == 1, what="the hold")
        running.app.save_settings(Settings(keep_awake=False))
        wait_for(lambda: holds.held == 0, what="its end by the setting")
        running.app.save_settings(Settings())
        wait_for(lambda: holds.held == 1, what="the hold again")
        running.app.jobs.pause(job)
        wait_for(lambda: holds.held == 0, what="its end by the pause")
    finally:
        running.close()
    assert holds.held == 0


def test_another_process_changes_the_setting(tmp_path: Path) -> None:
    ours, theirs = App.open(tmp_path), App.open(tmp_path)
    try:
        assert ours.wants_awake()
        theirs.save_settings(Settings(keep_awake=False))
        assert not ours.wants_awake()
    finally:
        ours.close()
        theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="D-Bus is Linux's")
class TestLinux:
    def test_logind_and_the_session_are_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from tests.support.power_bus import GNOME, LOGIND, OTHERS, PowerBus

        with PowerBus(tmp_path, (LOGIND, GNOME, OTHERS)) as bus:
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
            hold = take_hold("testing")
            assert hold is not None
            assert bus.asked == [
                (LOGIND, ("idle", "DICOM Ferry", "testing", "block")),
                (GNOME, ("dicom-ferry", 0, "testing", 4)),
            ]
            assert bus.held == 2
            hold.release()
            wait_for(lambda: bus.held == 0, what="the end of both")

    def test_another_desktop_is_asked_in_its_own_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from tests.support.power_bus import OTHERS, PowerBus

        with PowerBus(tmp_path, (OTHERS,)) as bus:
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
            hold = take_hold("testing")
            assert hold is not None
            assert bus.asked == [(OTHERS, ("DICOM Ferry", "testing"))]
            assert (bus.held, hold.how) == (1, "the desktop's session")
            hold.release()
            wait_for(lambda: bus.held == 0, what="its end")

    def test_a_process_that_is_killed_holds_nothing_any_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tests.support.power_bus import GNOME, LOGIND, PowerBus

        with PowerBus(tmp_path, (LOGIND, GNOME)) as bus:
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
            words = "from core.sleep_holds import take_hold; take_hold('x'); print('held', flush=True); input()"
            child = subprocess.Popen([sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                assert child.stdout is not None
                assert child.stdout.readline() == b"held\n"
                assert bus.held == 2
            finally:
                child.kill()
                child.communicate()
            wait_for(lambda: bus.held == 0, what="the end of both")

    def test_without_a_bus_there_is_nothing_to_hold(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
        began = time.monotonic()
        assert take_hold("testing") is None
        assert time.monotonic() - began < 10.0


@pytest.mark.skipif(sys.platform != "win32", reason="of Windows alone")
def test_windows_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """Whether it obeys, only a computer can tell that would sleep; Wine has no power requests."""
    import ctypes

    caplog.set_level(logging.INFO)
    hold = take_hold("testing")
    assert hold is not None
    assert hold.how in ("power request", "state of a thread")
    if hold.how == "state of a thread":
        assert "no power request" in caplog.text
        state = ctypes.WinDLL("kernel32").SetThreadExecutionState
        state.restype = ctypes.c_uint32
        assert state(ctypes.c_uint32(0x80000001)) == 0x80000001
    hold.release()
