"""Settings: defaults, saved and read again, and clear words when the file is wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from core.home import Home
from core.model.errors import ConfigurationError
from core.settings import Appearance, Settings, load_settings, read_fields_file, save_settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")


def test_defaults_where_nothing_was_saved(home: Home) -> None:
    assert load_settings(home) == Settings()


def test_saved_and_read_again(home: Home) -> None:
    wanted = Settings(appearance=Appearance.DARK, log_files=2, notifications=False)
    save_settings(home, wanted)
    assert load_settings(home) == wanted
    if os.name == "posix":
        assert stat.S_IMODE(home.settings_file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not valid JSON"),
        ("[]", "no names with values"),
        ('{"colour": "red"}', "There is no field"),
        ('{"log_files": -1}', "Old log files kept"),
        ('{"appearance": "pink"}', "Appearance"),
    ],
)
def test_a_wrong_file_is_a_sentence(home: Home, text: str, word: str) -> None:
    home.settings_file.write_text(text)
    with pytest.raises(ConfigurationError, match=word) as caught:
        load_settings(home)
    assert caught.value.next_step
    assert caught.value.exit_status == 2


def test_toml_and_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('\ufeffsource = ["mri"]', encoding="utf-8")
    (tmp_path / "a.json").write_text('\ufeff{"source": ["mri"]}', encoding="utf-8")
    assert read_fields_file(tmp_path / "a.toml") == read_fields_file(tmp_path / "a.json") == {"source": ["mri"]}


def test_what_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not text in UTF-8"):
        read_fields_file(tmp_path / "a.json")
