"""The home folder: owner-only, where it is asked for, and clear words when it can't be used."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.home import HOME_VARIABLE, Home, default_folder, write_private_text
from core.model.errors import ConfigurationError

posix = pytest.mark.skipif(os.name != "posix", reason="Windows inherits the profile's access list")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_home_is_made_with_its_folders(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "deep" / "home")
    assert home.folder.is_dir()
    assert home.log_folder.is_dir()
    assert home.spool_folder.is_dir()
    assert len(home.id) == 8
    assert Home.open(home.folder).id == home.id


def test_homes_differ_in_their_identity(tmp_path: Path) -> None:
    assert Home.open(tmp_path / "a").id != Home.open(tmp_path / "b").id


@posix
def test_only_the_owner_may_look(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = Home.open(tmp_path / "home")
        home.private_file(home.ledger_file)
        write_private_text(home.settings_file, "{}")
    finally:
        os.umask(before)
    assert mode(home.folder) == mode(home.log_folder) == mode(home.spool_folder) == 0o700
    assert mode(home.ledger_file) == mode(home.settings_file) == mode(home.folder / "home-id") == 0o600


@posix
def test_rights_of_an_older_home_are_tightened(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    home.folder.chmod(0o755)
    home.log_folder.chmod(0o777)
    home.ledger_file.touch(0o644)
    Home.open(home.folder)
    home.private_file(home.ledger_file)
    assert mode(home.folder) == mode(home.log_folder) == 0o700
    assert mode(home.ledger_file) == 0o600


@posix
def test_a_folder_that_serves_others_too_keeps_its_rights(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    shared.chmod(0o755)
    (shared / "something").touch()
    home = Home.open(shared)
    assert mode(shared) == 0o755
    assert mode(home.log_folder) == 0o700


def test_the_environment_names_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "elsewhere"))
    assert Home.open().folder == tmp_path / "elsewhere"
    monkeypatch.setenv(HOME_VARIABLE, "   ")
    assert default_folder() != Path("   ")
    monkeypatch.delenv(HOME_VARIABLE)
    assert default_folder().is_absolute()


def test_a_file_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(ConfigurationError) as caught:
        Home.open(tmp_path / "home")
    assert "a file is in the way" in caught.value.sentence
    assert HOME_VARIABLE in caught.value.next_step
    assert caught.value.exit_status == 2


def test_below_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="a file is in the way"):
        Home.open(tmp_path / "file" / "home")


@pytest.mark.posix
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that not even root may write")
def test_a_folder_that_nobody_may_write_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="can't be used: /proc/1/ferry"):
        Home.open(Path("/proc/1/ferry"))


def test_a_damaged_identity_is_a_sentence(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    (home.folder / "home-id").write_text("not an identity at all")
    with pytest.raises(ConfigurationError, match="home-id is damaged"):
        Home.open(home.folder)


def test_an_identity_that_was_never_written_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "home-id").touch()
    assert len(Home.open(tmp_path / "home").id) == 8


def test_many_beginners_agree_on_one_identity(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: Home.open(tmp_path / "home").id, range(16)))
    assert len(found) == 1


def test_writing_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.json"
    write_private_text(file, "old")

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_private_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
