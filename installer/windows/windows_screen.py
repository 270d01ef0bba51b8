"""A screen on which Windows programs show themselves, and what a person does there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from installer.windows.wine import Wine, WineBrokenError, WineError
from tests.support.screen import Screen
from tests.support.waiting import wait_for

T = TypeVar("T")

#: Seconds after which a window is not waited for any longer, and after which a key is pressed once more.
_APPEARS, _AGAIN = 180.0, 30.0


class WindowsScreen:
    """A screen of its own while the block lasts; made by `on_screen`."""

    def __init__(self, screen: Screen, wine: Wine) -> None:
        self._screen = screen
        self._wine = wine

    def windows(self, name: str) -> list[str]:
        """The numbers of the windows that can be seen and have this name (a regular expression)."""
        return self._screen.windows("--onlyvisible", "--name", name)

    def appears(self, name: str) -> str:
        """Wait for a window; its number."""
        return wait_for(lambda: self.windows(name), timeout=_APPEARS, what=f"the window {name}")[-1]

    def gone(self, name: str) -> None:
        """Wait until no window has this name."""
        wait_for(lambda: not self.windows(name), timeout=_APPEARS, what=f"the end of the window {name}")

    def click(self, name: str, x: int, y: int) -> None:
        """Click into a window, at a place seen from its upper left corner, pixels."""
        window = self.windows(name)[-1]
        self._screen.xdotool("windowactivate", window, "mousemove", "--window", window, str(x), str(y), "click", "1")

    def press(self, name: str, keys: Sequence[str], until: Callable[[], T], what: str) -> T:
        """Press a key in a window until something follows, and return that: at first the first key, and all in turn
        where nothing follows. A window that is being painted may miss one.
        """
        for key in (keys[0], *keys, *keys):
            self.try_to_press(name, key)
            try:
                return wait_for(until, timeout=_AGAIN, interval=0.2, what=what)
            except AssertionError:
                print(f"nothing followed {key} in {_AGAIN:.0f} s", flush=True)
        return wait_for(until, timeout=_APPEARS, interval=0.5, what=what)

    def try_to_press(self, name: str, key: str) -> None:
        """Press a key in a window, if it is there; it may go meanwhile."""
        for window in self.windows(name)[-1:]:
            with suppress(AssertionError):
                self._screen.xdotool("windowactivate", window, "key", key)

    def settled(self, picture: Path, other_than: bytes = b"") -> bytes:
        """A picture of the screen once two in a row are the same, and it is another than the last one."""
        look = self.painted(picture, other_than)
        return wait_for(look, timeout=_APPEARS, interval=0.3, what="a page that is painted")

    def painted(self, picture: Path, other_than: bytes = b"") -> Callable[[], bytes]:
        """What takes that picture when it is called; it returns nothing as long as there is none."""
        picture.parent.mkdir(parents=True, exist_ok=True)
        last = b""

        def look() -> bytes:
            nonlocal last
            before, last = last, self._screen.screenshot(picture).read_bytes()
            return last if last == before and last != other_than else b""

        return look

    def works(self) -> bool:
        """Whether Wine shows a window of its own."""
        notepad = self._wine.start(["notepad"])
        try:
            wait_for(lambda: self.windows("Notepad"), timeout=_APPEARS, what="Wine's own notepad")
        except AssertionError:
            return False
        finally:
            notepad.kill()
            notepad.wait()
        return True


@contextmanager
def on_screen(wine: Wine, folder: Path) -> Iterator[WindowsScreen]:
    """Have the prefix's programs show themselves on a screen of their own while the block lasts.

    Raises
    ------
    WineBrokenError
        Something failed in the block, and Wine's own notepad does not show itself either.
    """
    with closing(Screen(folder).start()) as screen:
        wine.settle()  # the desktop of a prefix without a screen shows nothing
        more, wine.more = wine.more, {**wine.more, "DISPLAY": screen.env["DISPLAY"], "WINEQT_QPA_PLATFORM": "windows"}
        shown = WindowsScreen(screen, wine)
        try:
            yield shown
        except (AssertionError, WineError) as error:
            if not shown.works():
                raise WineBrokenError(f"Wine shows no windows ({error})") from error
            raise
        finally:
            wine.end()
            wine.more = more
