"""Gateways in tests: this computer as their receiver, dcmsend as the modality, and a clock that can be moved."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.model import clock
from tests.support.dimse_scu import Caller, Image
from tests.support.running_app import RunningApp
from tests.support.servers import free_port, required_program

AET = "FERRY"


def this_computer(running: RunningApp, name: str = "Here", **fields: object) -> int:
    """Register this computer, and wait until it listens; its port."""
    port = free_port()
    values = {"aet": AET, "port": port, "bind": "127.0.0.1", "callers": ["*@127.0.0.1"], "quiet": 1, "reserve": 0.1}
    running.app.nodes.add("this-computer", name, {**values, **fields}, {})  # type: ignore[dict-item]
    running.app.jobs.nodes_changed()
    wait_listening(running, port)
    return port


def wait_listening(running: RunningApp, port: int) -> None:
    running.wait(lambda: listens(port), "this computer to listen")


def listens(port: int) -> bool:
    try:
        with Caller("127.0.0.1", port, called=AET) as caller:
            caller.open().release()
    except OSError:
        return False
    return True


def dcmsend(port: int, instances: Iterable[bytes], folder: Path, *, called: str = AET) -> None:
    """Send with DCMTK's program, as a modality does; fails unless all was taken."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, data in enumerate(instances):
        file = folder / f"{number:05d}.dcm"
        file.write_bytes(data)
        files.append(str(file))
    done = subprocess.run(
        [required_program("dcmsend"), "-aec", called, "127.0.0.1", str(port), *files],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "TCP_NODELAY": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def send_quickly(port: int, studies: Iterable[Iterable[bytes]], *, called: str = AET) -> list[int]:
    """Send each study on an association of its own; the statuses that were answered."""
    statuses = []
    with Caller("127.0.0.1", port, called=called) as caller:
        for study in studies:
            images = list(study)
            offers = {Image.of(image).sop_class: Image.of(image).offer for image in images}
            line = caller.open(*offers.values())
            statuses += [caller.store(line, image, number) for number, image in enumerate(images, 1)]
            line.release()
    return statuses


class MovedClock(clock.Clock):
    """This computer's clocks, moved on by as much as a test wants.

    Attributes
    ----------
    ahead : float
        Seconds by which both are ahead.
    set_by : float
        Seconds by which somebody has set the clock on the wall, and only that.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.set_by = 0.0

    def time(self) -> float:
        return time.time() + self.ahead + self.set_by

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@contextmanager
def moved_clock() -> Iterator[MovedClock]:
    """Meanwhile, all waits of the program go by a clock that the test can move."""
    moved = MovedClock()
    with clock.using(moved):
        yield moved


class Hurrying:
    """Lets a clock run faster: every twentieth of a second it goes on by `step` seconds more, while entered."""

    def __init__(self, moved: MovedClock, step: float) -> None:
        self._moved = moved
        self._step = step
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Hurrying:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            self._moved.ahead += self._step
