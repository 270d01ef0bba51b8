"""Removing all that is kept for an account: what is ours goes, anything else stays, and nothing while it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import cli
from core.app import App
from core.home import default_folder
from core.model.errors import ConfigurationError
from core.removal import remove_everything, what_is_kept
from tests.support.keyrings import no_keyring


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one node."""
    for name, value in no_keyring(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "home"))
    images = tmp_path / "images"
    images.mkdir()
    (images / "one").write_bytes(b"an image")
    app = App.open()
    app.nodes.add("folder", "Images", {"path": str(images)}, {})
    app.close()
    return tmp_path / "home"


def test_all_of_ours_goes_and_images_stay(home: Path, tmp_path: Path) -> None:
    kept = what_is_kept()
    assert kept is not None
    assert (kept.folder, kept.nodes, kept.unconfirmed_studies) == (home, 1, 0)
    assert remove_everything() == home
    assert not home.exists()
    assert (tmp_path / "images" / "one").read_bytes() == b"an image"


def test_what_is_not_ours_stays(home: Path) -> None:
    (home / "thesis.docx").write_text("mine", encoding="utf-8")
    remove_everything()
    assert [p.name for p in home.iterdir()] == ["thesis.docx"]


def test_nothing_is_made_where_nothing_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "none"))
    assert what_is_kept() is None
    assert remove_everything() is None
    assert not default_folder().exists()


def test_not_while_an_engine_runs(home: Path) -> None:
    app = App.open()
    handle = app.engine(lambda _event: None)
    try:
        with pytest.raises(ConfigurationError, match="running"):
            remove_everything()
    finally:
        handle.stop()
        app.close()
    assert (home / "ledger.sqlite").exists()


def test_the_command_asks_first(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["remove-data"]) == 1  # nobody answers
    assert (home / "ledger.sqlite").exists()
    assert cli.main(["remove-data", "--yes"]) == 0
    assert str(home) in capsys.readouterr().out
    assert not home.exists()
