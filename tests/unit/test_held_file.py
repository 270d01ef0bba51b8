"""Files that a virus scanner or an indexer holds: waited for a little, in everything that renames or removes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.home import write_private_text
from core.model import held_file
from core.spool import disk

HELD = 0.3  # seconds


class HeldError(PermissionError):
    """What Windows says of a file that is open elsewhere; Linux has no such error, so it is made up there."""

    winerror = 32


class Refusals:
    """Has a call refused so many times."""

    def __init__(self, call: Callable[..., object], times: int) -> None:
        self.call, self.left, self.asked = call, times, 0

    def __call__(self, *words: object, **more: object) -> object:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise HeldError(13, "The process cannot access the file")
        return self.call(*words, **more)


@pytest.mark.skipif(sys.platform == "win32", reason="shown there with files that are really held")
class TestMadeUp:
    def test_a_name_is_given_once_the_scanner_has_let_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        refusals = Refusals(os.replace, 3)
        monkeypatch.setattr(os, "replace", refusals)
        (tmp_path / "old").write_bytes(b"x")
        disk.rename(tmp_path / "old", tmp_path / "new")
        assert (refusals.asked, (tmp_path / "new").read_bytes()) == (4, b"x")

    def test_settings_are_saved_once_the_scanner_has_let_go(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "replace", Refusals(os.replace, 2))
        write_private_text(tmp_path / "settings.json", "{}")
        assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]

    def test_a_tree_is_removed_to_its_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in "abc":
            (tmp_path / "tree" / name).mkdir(parents=True)
        monkeypatch.setattr(os, "rmdir", Refusals(os.rmdir, 2))
        held_file.remove_tree(tmp_path / "tree")
        assert not (tmp_path / "tree").exists()

    def test_who_never_lets_go_is_not_waited_for_without_end(self) -> None:
        def act() -> None:
            raise HeldError(13, "The process cannot access the file")

        began = time.monotonic()
        with pytest.raises(HeldError):
            held_file.once_let_go(act, seconds=0.2)
        assert 0.2 <= time.monotonic() - began < 2.0

    def test_a_stop_ends_the_waiting(self) -> None:
        def act() -> None:
            stop.set()
            raise HeldError(13, "The process cannot access the file")

        stop = threading.Event()
        began = time.monotonic()
        with pytest.raises(HeldError):
            held_file.once_let_go(act, seconds=30.0, stop=stop)
        assert time.monotonic() - began < 10.0

    def test_other_errors_are_told_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        refusals = Refusals(os.replace, 0)
        monkeypatch.setattr(os, "replace", refusals)
        with pytest.raises(FileNotFoundError):
            held_file.replace(tmp_path / "none", tmp_path / "new")
        assert refusals.asked == 1


@contextmanager
def held(path: Path, *, share: int = 0, seconds: float = HELD) -> Iterator[float]:
    """Another handle on the file as a scanner has it, let go after some time; gives when it was opened."""
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.CreateFileW.restype = wintypes.HANDLE
    kernel.CreateFileW.argtypes = [wintypes.LPCWSTR, *[wintypes.DWORD] * 2, wintypes.LPVOID, *[wintypes.DWORD] * 2,
                                   wintypes.HANDLE]  # fmt: skip
    kernel.CloseHandle.argtypes = [wintypes.HANDLE]
    handle = kernel.CreateFileW(disk.extended(path), 0x80000000, share, None, 3, 0, None)
    assert handle not in (None, ctypes.c_void_p(-1).value), path
    once = threading.Lock()

    def let_go() -> None:
        if once.acquire(blocking=False):
            kernel.CloseHandle(handle)

    timer = threading.Timer(seconds, let_go)
    timer.start()
    try:
        yield time.monotonic()
    finally:
        timer.cancel()
        timer.join()
        let_go()


@pytest.mark.skipif(sys.platform != "win32", reason="other systems rename and remove what is open")
class TestReallyHeld:
    def test_the_source_of_a_renaming(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_bytes(b"x")
        with held(tmp_path / "old", share=1) as began:
            disk.rename(tmp_path / "old", tmp_path / "new")
        assert time.monotonic() - began >= HELD * 0.9
        assert (tmp_path / "new").read_bytes() == b"x"

    def test_what_is_replaced(self, tmp_path: Path) -> None:
        write_private_text(tmp_path / "settings.json", "old")
        with held(tmp_path / "settings.json", share=1):
            write_private_text(tmp_path / "settings.json", "new")
        assert (tmp_path / "settings.json").read_text() == "new"

    def test_what_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        with held(tmp_path / "file", share=1):
            assert disk.remove(tmp_path / "file")
        assert not (tmp_path / "file").exists()

    def test_a_tree(self, tmp_path: Path) -> None:
        (tmp_path / "tree" / "inner").mkdir(parents=True)
        (tmp_path / "tree" / "inner" / "file").write_bytes(b"x")
        with held(tmp_path / "tree" / "inner" / "file", share=1):
            held_file.remove_tree(tmp_path / "tree")
        assert not (tmp_path / "tree").exists()

    def test_what_is_opened_to_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        with held(tmp_path / "file"), disk.open_to_read(tmp_path / "file") as file:
            assert file.read() == b"x"

    def test_who_never_lets_go_is_an_error_in_the_end(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_bytes(b"x")
        with held(tmp_path / "old", share=1, seconds=60.0) as began, pytest.raises(PermissionError):
            disk.rename(tmp_path / "old", tmp_path / "new")
        assert held_file.SECONDS <= time.monotonic() - began < held_file.SECONDS + 3.0
        assert (tmp_path / "old").exists()
