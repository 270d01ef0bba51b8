"""What pages read in the background: what comes late doesn't put back how things were before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject

from core.app import App
from tests.gui.hands import Hands
from tests.support.waiting import PATIENCE


class _Page(QObject):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.others: list[str] = []

    def take(self, found: str) -> None:
        self.seen.append(found)

    def take_other(self, found: str) -> None:
        self.others.append(found)


def test_an_earlier_read_that_comes_late_is_dropped(tmp_path: Path, open_window: Callable[..., Hands]) -> None:
    app = App.open(tmp_path / "home")
    hands = open_window(app)
    session, page, late = hands.session, _Page(), threading.Event()

    def slow() -> str:
        assert late.wait(PATIENCE)
        return "before"

    session.read(page, slow, page.take)
    session.read(page, slow, page.take_other)
    session.read(page, slow, lambda found: page.others.append(f"alone: {found}"))
    session.read(page, lambda: "now", page.take)
    hands.wait(lambda: page.seen == ["now"])
    late.set()
    hands.wait(lambda: sorted(page.others) == ["alone: before", "before"])
    session.read(page, lambda: "later", page.take)
    hands.wait(lambda: page.seen[-1] == "later")
    assert page.seen == ["now", "later"]
    hands.close()
    app.close()
