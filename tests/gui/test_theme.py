"""One palette, readable in light and dark, and no colour anywhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication

from core.app import App
from gui import icons
from gui.theme import DARK, LIGHT, Appearance, Role, Tone, theme
from gui.widgets.rail import PLACES

GUI = Path(icons.__file__).parent
ICONS = GUI.parent / "resources" / "icons"
PAIRS = (
    (Role.INK, Role.BACKGROUND), (Role.INK, Role.PANEL), (Role.INK, Role.SELECTION), (Role.SOFT, Role.BACKGROUND),
    (Role.SOFT, Role.PANEL), (Role.SOFT, Role.SELECTION), (Role.SOFT, Role.GREY_TINT), (Role.SOFT, Role.HOVER),
    (Role.ACCENT, Role.ACCENT_TINT), (Role.ACCENT, Role.PANEL), (Role.ON_ACCENT, Role.ACCENT),
    (Role.ON_ACCENT, Role.ACCENT_HOVER), (Role.GREEN, Role.GREEN_TINT), (Role.AMBER, Role.AMBER_TINT),
    (Role.RED, Role.RED_TINT), (Role.RED, Role.PANEL), (Role.ON_RED, Role.RED), (Role.INK, Role.AMBER_TINT),
    (Role.INK, Role.RED_TINT), (Role.INK, Role.GREEN_TINT), (Role.INK, Role.ACCENT_TINT),
)  # fmt: skip


def _luminance(colour: str) -> float:
    c = QColor(colour)
    parts = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in (c.redF(), c.greenF(), c.blueF())]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), PAIRS, ids=lambda r: r.value)
def test_contrast_is_aa(palette: dict[Role, str], ink: Role, ground: Role) -> None:
    assert _contrast(palette[ink], palette[ground]) >= 4.5


def test_no_colour_outside_the_theme() -> None:
    for file in GUI.rglob("*.py"):
        if file.name == "theme.py":
            continue
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"#[0-9a-fA-F]{6}\b|QColor\(|GlobalColor\.(?!transparent)|rgba?\(", text), file


def test_icons_are_one_family() -> None:
    for file in ICONS.glob("*.svg"):
        text = file.read_text(encoding="utf-8")
        assert 'stroke-width="1.75"' in text, file
        assert "currentColor" in text, file
        assert text.count("stroke-width") == 1, file


def test_every_kind_and_place_has_its_icon(tmp_path: Path) -> None:
    app = App.open(tmp_path / "home")
    try:
        names = [k.icon for k in (*app.node_kinds().values(), *app.job_kinds().values())]
    finally:
        app.close()
    for name in (*names, *(icon for _, _, icon in PLACES), "settings", "ferry"):
        assert (ICONS / f"{name}.svg").is_file(), name


def test_icons_used_exist() -> None:
    used = set()
    for file in GUI.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        used |= set(re.findall(r'(?:icon|IconLabel|IconToolButton|set_icon_name)\(\s*"([a-z-]+)"', text))
        used |= set(re.findall(r'IconButton\("[^"]*", "([a-z-]+)"', text))
    assert used
    for name in used:
        assert (ICONS / f"{name}.svg").is_file(), name


def test_dark_can_be_chosen_and_the_system_followed_again(qapp: QApplication) -> None:
    try:
        theme().choose(Appearance.DARK)
        assert theme().dark
        assert qapp.palette().window().color().name() == DARK[Role.BACKGROUND]
        assert DARK[Role.PANEL] in qapp.styleSheet()
        theme().choose(Appearance.LIGHT)
        assert not theme().dark
        assert theme().tone(Tone.RED).text.name() == LIGHT[Role.RED]
    finally:
        theme().choose(Appearance.SYSTEM)
