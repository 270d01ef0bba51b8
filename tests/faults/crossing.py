"""A way from one real server to another with a misbehaving proxy before each, and runs of the program on it."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.app import App
from core.cli import main
from tests.faults.eye import Eye
from tests.support.ferry import FerryRun
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.studies import Study, small_study

QUICK = ("--retry-delays", "0.1", "--max-attempts", "4")


@dataclass
class Crossing:
    """Two servers, the nodes "from" and "to" for them, and a study of ten instances at the source.

    The program runs within this process (`run`), or beside the test (`start`) until the test lets it end.
    """

    home: Path
    source: OrthancServer
    destination: OrthancServer
    monkeypatch: pytest.MonkeyPatch
    study: Study = field(default_factory=lambda: small_study(10))

    def __post_init__(self) -> None:
        self.monkeypatch.setenv("DICOM_FERRY_HOME", str(self.home))
        self.before_source = FaultProxy(self.source.url).start()
        self.before_destination = FaultProxy(self.destination.url).start()
        self.eye = Eye(self.home / "ledger.sqlite")
        self.source.upload(self.study)
        self.add("from", self.before_source.url)
        self.add("to", self.before_destination.url)

    def close(self) -> None:
        self.before_source.close()
        self.before_destination.close()

    def add(self, name: str, url: str, **fields: Any) -> None:
        """Register an Orthanc, impatient so that tests are short."""
        with self.app() as app:
            app.nodes.add("orthanc", name, {"url": url, "idle_timeout": 2, "connect_timeout": 2, **fields}, {})

    @contextmanager
    def app(self) -> Iterator[App]:
        """The home, opened."""
        app = App.open(self.home)
        try:
            yield app
        finally:
            app.close()

    def command(self, *arguments: str) -> FerryRun:
        """Any command of the program."""
        return command(*arguments)

    def run(
        self, *options: str, after: str = "move", kind: str = "forward", source: str = "from", to: str = "to"
    ) -> FerryRun:
        """Send everything, by default as a move, with quick retries."""
        return self.command(*self.words(*options, after=after, kind=kind, source=source, to=to))

    def words(
        self, *options: str, after: str = "move", kind: str = "forward", source: str = "from", to: str = "to"
    ) -> tuple[str, ...]:
        """The arguments of such a run."""
        move = ("--after", after) if kind == "forward" else ()
        return ("run", kind, "--source", source, "--destination", to, "--json", *QUICK, *move, *options)

    def start(self, *options: str, **choices: str) -> Future[FerryRun]:
        """As `run`, and return at once."""
        future: Future[FerryRun] = Future()

        def work() -> None:
            try:
                future.set_result(self.run(*options, **choices))
            except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    # --- what must be so afterwards

    def nothing_lost(self) -> None:
        """Whatever left the source is at the destination."""
        held = self.destination.digests()
        left = self.source.digests()
        for uid, digest in self.study.digests().items():
            assert left.get(uid) == digest or held.get(uid) == digest, f"{uid} is lost"

    def nothing_deleted(self) -> None:
        """The source holds all that it held."""
        assert self.source.digests() == self.study.digests()

    def moved(self) -> None:
        """All is at the destination, and nothing of it at the source."""
        assert self.destination.digests() == self.study.digests()
        assert self.source.count() == 0


def command(*arguments: str) -> FerryRun:
    """Any command of the program, on the home of this process, run within it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return FerryRun(arguments, status, out.getvalue(), err.getvalue())


def words(run: FerryRun) -> str:
    """All that a run told a person, errors and reasons included."""
    return run.stdout + run.stderr


def says(run: FerryRun, *parts: str) -> None:
    """Each of these was told to the person, and what to do about it."""
    for part in parts:
        assert part in words(run), f"{part!r} was not said:\n{run.describe()}"
