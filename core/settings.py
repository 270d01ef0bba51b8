"""Settings of the program as a whole, kept in the home; what belongs to a node or a job is kept with that."""

from __future__ import annotations

import json
import tomllib
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from core.home import Home, write_private_text
from core.model.errors import ConfigurationError
from core.model.fields import Declared, declared, explain


class Appearance(StrEnum):
    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


class Settings(Declared):
    """What a person may set for the whole program."""

    appearance: Appearance = declared(
        Appearance.SYSTEM,
        title="Appearance",
        help="Light, dark, or as the system is set.",
        labels={"system": "As the system"},
        group="Window",
    )
    compact_rows: bool = declared(
        False, title="Compact rows", help="More rows at once, on one line each.", group="Window"
    )
    notifications: bool = declared(
        True,
        title="Notifications",
        help="Tell when a job ends or needs a person. They never name a patient.",
        group="Window",
    )
    keep_awake: bool = declared(
        True,
        title="Keep the computer awake",
        help="While images are on their way, it doesn't go to sleep by itself. The screen may still turn off.",
        group="Transfers",
    )
    debug_log: bool = declared(
        False,
        title="Detailed log",
        help="For support. It may hold patient data, so turn it off again afterwards.",
        advanced=True,
        group="Log",
    )
    log_megabytes: int = declared(
        5,
        title="Size of a log file",
        unit="MB",
        help="Then a new one is begun.",
        ge=1,
        le=1000,
        advanced=True,
        group="Log",
    )
    log_files: int = declared(
        5, title="Old log files kept", help="The oldest is deleted.", ge=0, le=100, advanced=True, group="Log"
    )


def load_settings(home: Home) -> Settings:
    """The settings of this home; defaults where nothing was saved.

    Raises
    ------
    ConfigurationError
        The file can't be read or says something that isn't allowed.
    """
    if not home.settings_file.exists():
        return Settings()
    values = read_fields_file(home.settings_file)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        found = explain(error, Settings)
        raise ConfigurationError(
            f"The settings file {home.settings_file} can't be used: {found.sentence}",
            "Correct it, or delete it to go back to the defaults.",
            detail=found.sentence,
            code="settings",
        ) from error


def save_settings(home: Home, settings: Settings) -> None:
    """Keep the settings.

    Raises
    ------
    ConfigurationError
        The file can't be written.
    """
    text = json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    try:
        write_private_text(home.settings_file, text)
    except OSError as error:
        raise ConfigurationError(
            f"The settings can't be saved in {home.settings_file} ({error.strerror or error}).",
            "Check that the disk is not full and that your account may write there.",
            detail=repr(error),
            code="settings",
        ) from error


def read_fields_file(path: Path) -> dict[str, object]:
    """Names and values from a TOML file (``.toml``) or a JSON file (anything else).

    Raises
    ------
    ConfigurationError
        Not there, not readable, or not in that format: with the line where it goes wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not text in UTF-8"
        raise ConfigurationError(
            f"The file {path} can't be read ({why}).",
            "Check the name and your rights to it.",
            detail=repr(error),
            code="file",
        ) from error
    try:
        values = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        form = "TOML" if path.suffix.lower() == ".toml" else "JSON"
        raise ConfigurationError(
            f"The file {path} is not valid {form}: {error}.",
            "Correct it and try again.",
            detail=repr(error),
            code="file",
        ) from error
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"The file {path} holds no names with values.",
            'Write names and values, such as {"source": ["mri"]}.',
            code="file",
        )
    return values
