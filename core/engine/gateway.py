"""What a standing forward has besides other jobs: its switch, its heart-beat, and an eye on the room at its sources."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from core.engine.gate import Gate
from core.engine.heartbeat import HeartBeats
from core.engine.standing import refusing, standing_of, state_of
from core.jobs.base import TransferOptions
from core.ledger.ledger import Ledger
from core.model import clock
from core.model.errors import FerryError
from core.model.events import LogLevel, NodeHealth
from core.model.gateway import SWITCHED_OFF, DestinationLevel, GatewayStanding, RouteLevel
from core.model.job import JobRecord, JobState
from core.nodes.base import Intake

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0  # seconds between two looks at how much room there is
IDLE_SECONDS = 60.0  # after which a destination that nothing was sent to is asked whether it is there
SPARING = 20  # adding up what the ledger holds takes at most this part of the time
STILL_SECONDS = 60.0  # after which an engine that has not looked after the job counts as hung


class GatewaySide:
    """One for each job that runs; of jobs that aren't gateways it is switched on and looks at nothing.

    Parameters
    ----------
    job : Callable[[], JobRecord]
        The job as it is now.
    options : TransferOptions
    sources, destinations : Mapping[str, Gate]
        By name; destinations with the fallback.
    room_changed : Callable[[], None]
        Told when a source has become short of room, or is no more.

    Attributes
    ----------
    routing : bool
        The switch. Off, nothing is sent; what arrives is still found and planned.
    """

    def __init__(
        self,
        ledger: Ledger,
        job: Callable[[], JobRecord],
        options: TransferOptions,
        sources: Mapping[str, Gate],
        destinations: Mapping[str, Gate],
        room_changed: Callable[[], None],
        window_open: Callable[[], bool],
    ) -> None:
        self.routing = options.routing
        self._ledger = ledger
        self._job = job
        self._options = options
        self._sources = sources
        self._destinations = destinations
        self._room_changed = room_changed
        self._window_open = window_open
        self._asking = threading.Lock()
        self._route: RouteLevel | None = None
        self._ask_next = 0.0
        self._short: set[str] = set()
        self._refusing: dict[str, str] = {}
        self._looked_after = time.monotonic()
        self._stop = threading.Event()
        self._intakes = {n: g.node for n, g in sources.items() if options.heartbeat and isinstance(g.node, Intake)}
        self._watch = threading.Thread(target=self._look, name="room", daemon=True)
        self._beats = HeartBeats(options.heartbeat, self.standing) if options.heartbeat else None

    @property
    def is_gateway(self) -> bool:
        return self._beats is not None

    def start(self) -> None:
        if self._beats is not None:
            self._watch.start()
            self._beats.start()

    def stop(self) -> None:
        """Nothing is told or looked at any more."""
        self._stop.set()
        if self._beats is not None:
            self._beats.stop()

    def tick(self) -> None:
        """The engine lives and looks after the job."""
        self._looked_after = time.monotonic()

    @property
    def heartbeat_port(self) -> int | None:
        """Where the heart-beat answers now; None while it doesn't."""
        return self._beats.port if self._beats is not None else None

    @property
    def notes(self) -> list[str]:
        """What the job says of it: sentences."""
        found = [] if self.routing else [SWITCHED_OFF]
        found += self._refusing.values()
        if self._beats is not None and self._beats.problem:
            found.append(self._beats.problem)
        return found

    def keeps(self, source: str) -> float:
        """Seconds for which what is confirmed stays at a source now: none when it is short of room."""
        return 0.0 if source in self._short else self._options.keep_confirmed

    def standing(self) -> GatewayStanding:
        """Asked now; raises `LedgerError` where the ledger can't be read."""
        job = replace(self._job(), state=JobState.RUNNING)  # it was read before it was started
        told = [job.problem]
        if time.monotonic() - self._looked_after > STILL_SECONDS:
            told.append("DICOM Ferry's engine stands still.")
        if self._beats is not None and self._beats.problem:
            told.append(self._beats.problem)
        for gate in self._sources.values():
            if gate.failure is not None:
                told.append(f"{gate.name}: {gate.failure.sentence}")
        state = state_of(job, routing=self.routing, window_open=self._window_open())
        nodes = {name: gate.node for name, gate in self._sources.items()}
        there = [_level(g) for g in self._destinations.values()]
        return standing_of(job, self._options, state, self._route_level(job), nodes, there, told=told)

    def _route_level(self, job: JobRecord) -> RouteLevel:
        """Asked of the ledger sparingly: a gateway that has stood for years has much to add up."""
        began = time.monotonic()
        with self._asking:
            if self._route is None or began >= self._ask_next:
                emptied = [n for n, g in self._sources.items() if self._options.deletes_at(g.node)]
                self._route = self._ledger.route_level(
                    job.id, job.pass_number, wanted=self._options.evidence, emptied=emptied
                )
                self._ask_next = time.monotonic() + SPARING * (time.monotonic() - began)
            return self._route

    def _look(self) -> None:
        while not self._stop.is_set():
            for name, node in self._intakes.items():
                try:
                    self._judge(name, node)
                except FerryError as error:
                    log.info("asking %s for its room: %s", name, error.sentence)
                except Exception:
                    log.exception("asking %s for its room", name)
            for gate in self._destinations.values():
                gate.ask_if_idle(IDLE_SECONDS)
            self._stop.wait(LOOK_EVERY)

    def _judge(self, name: str, node: Intake) -> None:
        level = node.intake()
        if level.short != (name in self._short):
            (self._short.add if level.short else self._short.discard)(name)
            self._room_changed()
        if not level.refuses:
            if self._refusing.pop(name, None) is not None:
                self._tell(LogLevel.INFO, f"{name} takes images again.", name)
            return
        job = self._job()
        route = self._route_level(job)
        fresh = name not in self._refusing
        self._refusing[name] = words = refusing(name, level, route)
        if fresh:
            self._tell(LogLevel.ERROR, words, name)

    def _tell(self, level: LogLevel, words: str, node: str) -> None:
        self._ledger.add_log(level, words, job_id=self._job().id, node=node)


def _level(gate: Gate) -> DestinationLevel:
    since, failure = gate.down_since, gate.failure
    if since is None or failure is None:
        known = gate.health is not NodeHealth.UNKNOWN
        return DestinationLevel(gate.name, True if known else None)
    down = clock.monotonic() - since
    words = f"{failure.sentence} {failure.next_step}".strip()
    return DestinationLevel(gate.name, False, clock.moment(clock.time() - down), words)
