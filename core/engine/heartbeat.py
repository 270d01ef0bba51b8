"""The heart-beat of a job: a small web server and a file that say how it stands, for as long as it runs."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from time import monotonic

from core.engine.beat_server import BeatServer
from core.model import clock, held_file
from core.model.errors import FerryError
from core.model.gateway import GatewayStanding, HeartBeat

log = logging.getLogger(__name__)

FRESH = 1.0  # seconds for which an answer is given again: asking often costs nothing
TRY_AGAIN = 10.0  # seconds until a port or a file that could not be had is tried again


class HeartBeats:
    """Says how a job stands while it runs; nothing where nobody wants to know.

    Parameters
    ----------
    wish : HeartBeat
    standing : Callable[[], GatewayStanding]
        Asked on threads of its own; raises a `FerryError` where it can't be told.

    Attributes
    ----------
    problem : str
        Why nobody can be told, in a sentence; empty when all is well.
    """

    def __init__(self, wish: HeartBeat, standing: Callable[[], GatewayStanding]) -> None:
        self.problem = ""
        self._wish = wish
        self._standing = standing
        self._server: BeatServer | None = None
        self._lock = threading.Lock()
        self._known: tuple[float, bool, bytes] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart-beat", daemon=True)

    def start(self) -> None:
        if self._wish.port or self._wish.file:
            self._thread.start()

    def stop(self) -> None:
        """Nobody is answered any more, and the file says that it has ended."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(15.0)

    @property
    def port(self) -> int | None:
        """Where it answers now; None while it doesn't."""
        return self._server.port if self._server is not None else None

    def _run(self) -> None:
        wait = 0.0
        try:
            while not self._ended.wait(wait):
                problems = [self._serve(), self._write()]
                self.problem = " ".join(p for p in problems if p)
                wait = self._wish.every if self._wish.file and not self.problem else TRY_AGAIN
        finally:
            if self._server is not None:
                self._server.stop()
                self._server = None
            if self._wish.file:
                self._replace(encoded_end())

    def _serve(self) -> str:
        if not self._wish.port or self._server is not None:
            return ""
        try:
            self._server = BeatServer(self._wish.address, self._wish.port, self._answer)
        except FerryError as error:
            return str(error)
        return ""

    def _write(self) -> str:
        return self._replace(self._answer()[1]) if self._wish.file else ""

    def _replace(self, document: bytes) -> str:
        """Put the file in the place of the one before it, whole; why not, in a sentence."""
        path = Path(self._wish.file)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            # Others shall read it: that is what it is for, and it holds no patient data.
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
                file.write(document)
            self._put(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                held_file.unlink(part)
            log.info("the heart-beat file: %s", error)
            return f"The heart-beat file can't be written to {path} ({error.strerror or error})."
        return ""

    def _put(self, part: Path, path: Path) -> None:
        """In one step. Windows refuses it while somebody reads the old one: that takes a moment only."""
        held_file.replace(part, path, stop=self._ended)

    def _answer(self) -> tuple[bool, bytes]:
        with self._lock:
            if self._known is None or monotonic() - self._known[0] > FRESH:
                self._known = (monotonic(), *self._asked())
            return self._known[1:]

    def _asked(self) -> tuple[bool, bytes]:
        try:
            standing = self._standing()
        except FerryError as error:
            return False, _encoded({"healthy": False, "at": _iso(clock.now()), "reasons": [str(error)]})
        except Exception:
            log.exception("heart-beat")
            words = "Something went wrong inside DICOM Ferry."
            return False, _encoded({"healthy": False, "at": _iso(clock.now()), "reasons": [words]})
        return standing.healthy, encoded(standing)


def encoded(standing: GatewayStanding) -> bytes:
    """A gateway's standing as JSON (UTF-8): counts, times and node names, no patient data."""
    route = standing.route
    oldest = standing.oldest_seconds
    return _encoded(
        {
            "name": standing.name,
            "state": standing.state.value,
            "healthy": standing.healthy,
            "reasons": list(standing.reasons),
            "at": _iso(standing.at),
            "last_received": _iso(standing.last_received),
            "last_confirmed": _iso(route.last_confirmed),
            "waiting": {"studies": route.waiting_studies, "images": route.waiting_images},
            "oldest_unconfirmed_seconds": None if oldest is None else round(oldest),
            "confirmed_images": route.confirmed_images,
            "failed_images": route.failed_images,
            "different_images": route.different_images,
            "kept_studies": route.kept_studies,
            "destinations": [
                {"name": d.name, "reachable": d.reachable, "since": _iso(d.since), "reason": d.reason}
                for d in standing.destinations
            ],
            "intakes": [
                {
                    "name": name,
                    "listening": level.listening,
                    "studies": level.studies,
                    "images": level.instances,
                    "bytes": level.bytes,
                    "room_bytes": max(0, level.room),
                    "refuses": level.refuses,
                }
                for name, level in standing.intakes
            ],
        }
    )


def encoded_end() -> bytes:
    """What the file says once the gateway has stopped."""
    return _encoded(
        {
            "state": "stopped",
            "healthy": False,
            "at": _iso(clock.now()),
            "reasons": ["The gateway was stopped or paused, or DICOM Ferry was closed."],
        }
    )


def _encoded(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
