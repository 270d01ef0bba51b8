"""The composition root: opens the home folder and everything in it, for window and command line alike."""

from __future__ import annotations

import functools
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from core.awake import Awake
from core.engine.engine import Engine
from core.engine.follower import Follower
from core.everyone_book import EveryoneBook
from core.home import Home, make_private_file
from core.job_book import JobBook
from core.jobs.base import JobKind
from core.jobs.lists import Identifier, ListPreview, list_columns, read_list, typed_list
from core.jobs.registry import job_kinds
from core.ledger.ledger import Ledger
from core.logs import start_logging
from core.model.errors import ConfigurationError, FerryError, LocalError
from core.model.events import Event
from core.model.gateway import GatewayStanding
from core.node_book import NodeBook
from core.nodes.base import Landing, NodeKind
from core.nodes.registry import node_kinds
from core.remote_book import RemoteBook
from core.reports import ReportFormat, write_failed_list, write_report
from core.secrets import Secrets, SecretsStatus
from core.settings import Settings, load_settings, save_settings
from core.spool.disk import extended
from core.step_book import StepBook
from core.unattended.place import start_words
from core.wire.abort import Abort

LISTENING_SECONDS = 10.0
_COLLECT_AFTER = 1_000  # new objects: with 20,000, what lay about took 5 MB more, and nothing went faster


@functools.cache
def _calm_collector() -> None:
    """What the start of the program has made stays: to look through it again and again costs 5 % of a transfer."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


class EngineHandle:
    """The engine of this home: run by this process, or by another one and watched.

    Attributes
    ----------
    attached : bool
        Another process runs it. When that process ends, this one takes over by itself, unless `may_run` is false.
    may_run : bool
        False where the home belongs to an unattended engine: this process only watches and commands that.
    """

    def __init__(
        self,
        app: App,
        on_event: Callable[[Event], None],
        only: frozenset[int] | None,
        *,
        listen: bool,
        may_run: bool = True,
    ) -> None:
        self._app = app
        self._on_event = on_event
        self._only = only
        self._listen = listen
        self._lock = FileLock(app.home.lock_file, mode=app.home.file_mode)
        self._engine: Engine | None = None
        self._follower: Follower | None = None
        self._thread: threading.Thread | None = None
        self._guard: threading.Thread | None = None
        self._ended = threading.Event()
        self._awake = Awake(app.wants_awake)
        self.error: BaseException | None = None
        self.may_run = may_run
        if not may_run or not self._take():
            self._attach()

    @property
    def attached(self) -> bool:
        return self._engine is None

    @property
    def running(self) -> bool:
        """An engine runs, here or elsewhere."""
        if self._engine is not None:
            return self._thread is not None and self._thread.is_alive()
        return self._other_runs()

    def nudge(self) -> None:
        if self._engine is not None:
            self._engine.nudge()

    def is_moving(self, job_id: int) -> bool:
        """Whether a job is being started or stopped in this process right now."""
        return self._engine is not None and self._engine.is_moving(job_id)

    def landing(self) -> Landing | None:
        """This computer as the destination of a C-MOVE; None where no node listens in this process."""
        return self._engine.landing() if self._engine is not None else None

    def standing(self, job_id: int) -> GatewayStanding | None:
        """Where a gateway stands that this process runs; None for any other."""
        return self._engine.standing(job_id) if self._engine is not None else None

    @property
    def ready(self) -> bool:
        """The nodes of this computer listen (or have failed to) in this process."""
        return self._engine is not None and self._engine.ready.is_set()

    def wait_listening(self) -> None:
        """Wait until the nodes of this computer listen or have failed to, some seconds at most."""
        if self._engine is not None:
            self._engine.ready.wait(LISTENING_SECONDS)

    def unconfirmed_studies(self) -> int:
        """Studies that are not yet proved at their destination: what "safe to shut down?" asks."""
        return self._app.ledger.unconfirmed_studies()

    def stop(self, timeout: float | None = None) -> None:
        """Settle what is in flight, then stop; an engine of another process is left alone."""
        self._ended.set()
        if self._guard is not None and self._guard is not threading.current_thread():
            self._guard.join(5.0)
        if self._follower is not None:
            self._follower.stop()
            self._follower = None
        if self._engine is not None:
            self._engine.stop()
            assert self._thread is not None
            self._thread.join(timeout if timeout is not None else 60.0)
        if self._lock.is_locked:
            self._lock.release()

    def _take(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        nodes = self._app.nodes
        listening = nodes.listening if self._listen else lambda: []
        engine = Engine(
            self._app.ledger, nodes.open, self._heard, only=self._only, listening=listening,
            surroundings=self._app.steps.surroundings(), expanded=self._app.everyone.expanded,
        )  # fmt: skip
        self._engine = engine
        self._thread = threading.Thread(target=self._run, args=(engine,), name="engine", daemon=True)
        self._thread.start()
        return True

    def _heard(self, event: Event) -> None:
        self._awake.heard(event)
        self._on_event(event)

    def settings_changed(self) -> None:
        """What the settings say now counts from now on."""
        self._awake.look()

    def _run(self, engine: Engine) -> None:
        try:
            engine.run()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._awake.close()

    def _attach(self) -> None:
        self._follower = Follower(self._app.ledger, self._on_event, self._other_runs)
        self._follower.start()
        if not self.may_run:
            return
        self._guard = threading.Thread(target=self._take_over, name="engine-guard", daemon=True)
        self._guard.start()

    def _take_over(self) -> None:
        while not self._ended.wait(0.5):
            if self._take():
                if self._follower is not None:
                    self._follower.stop()
                    self._follower = None
                return

    def _other_runs(self) -> bool:
        return not self._lock.is_locked and _engine_runs(self._app.home)


def _engine_runs(home: Home) -> bool:
    """Whether somebody holds this home's lock."""
    probe = FileLock(home.lock_file, mode=home.file_mode, is_singleton=False)
    try:
        probe.acquire(timeout=0)
    except Timeout:
        return True
    probe.release()
    return False


class App:
    """One home folder, opened."""

    def __init__(self, home: Home, settings: Settings, secrets: Secrets, ledger: Ledger) -> None:
        self.home = home
        self.settings = settings
        self.secrets = secrets
        self.ledger = ledger
        self.nodes = NodeBook(ledger, secrets, home.node_folder)
        self.nodes.engine_asks = home.unattended is not None
        self.remotes = RemoteBook(self.nodes)
        self.everyone = EveryoneBook(self.nodes, self.remotes)
        self.nodes.surroundings.landing = self._landing
        self._handle: EngineHandle | None = None
        self.steps = StepBook(self.nodes, secrets, home.scratch_folder)
        self.jobs = JobBook(ledger, self.nodes, self._nudge, self.steps)
        self.jobs.expanded = self.everyone.expanded
        self.jobs.live_standing = self._standing

    @classmethod
    def open(cls, home: Path | None = None) -> App:
        """Open the home folder, by default the user's own or ``DICOM_FERRY_HOME``.

        Raises
        ------
        ConfigurationError
            The folder can't be made or written.
        LedgerError
            The ledger is damaged, foreign or from a newer version.
        """
        place = Home.open(home)
        settings = load_settings(place)
        # A running engine has looked the ledger over when it opened it; a large one takes seconds.
        ledger = Ledger.open(place.private_file(place.ledger_file), check=not _engine_runs(place))
        return cls(place, settings, Secrets(place.id), ledger)

    def engine(
        self,
        on_event: Callable[[Event], None],
        *,
        only: frozenset[int] | None = None,
        listen: bool = True,
        unattended: bool = False,
        watch: bool = False,
    ) -> EngineHandle:
        """Run this home's engine, or attach to the one that another process runs.

        Parameters
        ----------
        on_event : Callable[[Event], None]
            May be called from any thread.
        only : frozenset[int] | None
            Unfinished jobs to take up at the start; None takes up all of them.
        listen : bool
            False for an engine that is only to obey a command: it is gone before anybody could call.
        unattended : bool
            This process is the unattended engine; no other one runs an engine on a home that belongs to it.
        watch : bool
            Attach to an unattended engine although it does not run now: it may be started at any time.

        Raises
        ------
        ConfigurationError
            The home belongs to an unattended engine, which does not run.
        """
        may_run = unattended or self.home.unattended is None
        if not may_run and not watch and not _engine_runs(self.home):
            raise ConfigurationError(
                "The unattended engine, to which this home folder belongs, does not run now.",
                f"Have it started ({start_words()}): what is wanted of it is kept, and done then.",
                code="unattended-stopped",
            )
        _calm_collector()
        self._handle = EngineHandle(self, on_event, only, listen=listen, may_run=may_run)
        return self._handle

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Meanwhile, this computer listens as its nodes say, unless another process sees to that; no job is begun."""
        if self._handle is not None or self.home.unattended is not None or not self.nodes.listening():
            yield
            return
        handle = self.engine(lambda _event: None, only=frozenset())
        try:
            handle.wait_listening()
            yield
        finally:
            handle.stop()
            self._handle = None

    def node_kinds(self) -> dict[str, NodeKind]:
        """The kinds of nodes that can be registered, by name."""
        return node_kinds.all()

    def job_kinds(self) -> dict[str, JobKind]:
        """The kinds of jobs that can be created, by name."""
        return job_kinds.all()

    def wants_awake(self) -> bool:
        """Whether the computer shall not go to sleep while images are on their way; as it is saved now.

        Another process may have changed it: the window beside an unattended engine.
        """
        try:
            return load_settings(self.home).keep_awake
        except FerryError:
            return self.settings.keep_awake

    def save_settings(self, settings: Settings) -> None:
        """Keep new settings, and use them from now on.

        Raises
        ------
        ConfigurationError
            They can't be written.
        """
        save_settings(self.home, settings)
        self.settings = settings
        if self._handle is not None:
            self._handle.settings_changed()

    def report(self, job_id: int, form: str, file: Path, *, mapping: bool = False) -> int:
        """Write the proof of a job as "csv", "json" or "html" to a file of the owner's alone; the images in it.

        `mapping` as for `core.reports.write_report`.

        Raises
        ------
        LocalError
            The file can't be written.
        """
        report_form = ReportFormat(form)
        encoding = "utf-8-sig" if report_form is ReportFormat.CSV else "utf-8"  # so that Excel takes it for UTF-8
        try:
            path = Path(extended(file))
            make_private_file(path)
            with path.open("w", encoding=encoding, newline="" if report_form is ReportFormat.CSV else "\n") as out:
                return write_report(self.ledger, self.jobs.get(job_id), report_form, out, mapping=mapping)
        except OSError as error:
            raise LocalError(
                f"The report can't be written to {file} ({error.strerror or error}).",
                "Choose another place, and check that the disk is not full.",
                detail=repr(error),
                code="report",
            ) from error

    def failed_list(self, job_id: int, file: Path) -> int:
        """Write the studies of a job that are not as wanted, one Study Instance UID a line; how many.

        A migration takes such a file as its list.

        Raises
        ------
        LocalError
            The file can't be written.
        """
        try:
            path = Path(extended(file))
            make_private_file(path)
            with path.open("w", encoding="utf-8", newline="\n") as out:
                return write_failed_list(self.ledger, self.jobs.get(job_id), out)
        except OSError as error:
            raise LocalError(
                f"The list can't be written to {file} ({error.strerror or error}).",
                "Choose another place, and check that the disk is not full.",
                detail=repr(error),
                code="report",
            ) from error

    def read_list(self, file: Path, column: str = "", identifier: Identifier = Identifier.AUTO) -> ListPreview:
        """What a list of studies in a CSV or Excel file holds, and what of it is refused and why; nothing is sent.

        Raises
        ------
        ConfigurationError
            It can't be read, has no such column, or what the column holds can't be told.
        """
        return read_list(file, column, identifier)

    def list_columns(self, file: Path) -> tuple[str, ...]:
        """What stands at the top of each column of such a file, where it is not clear which one counts.

        Raises
        ------
        ConfigurationError
            It can't be read.
        """
        return list_columns(file)

    def typed_list(self, entries: Sequence[str], identifier: Identifier = Identifier.AUTO) -> ListPreview:
        """The same for entries that were typed or pasted, one each."""
        return typed_list(entries, identifier)

    def log_to_file(self, program: str) -> Path:
        """Log to ``logs/<program>.log`` of this home, as the settings say."""
        s = self.settings
        return start_logging(self.home, program, debug=s.debug_log, megabytes=s.log_megabytes, kept=s.log_files)

    def wait_for(self, job_id: int, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until `condition` holds and no transition of the job is under way; False after `timeout` seconds."""
        until = time.monotonic() + timeout
        moving = threading.Event()
        while time.monotonic() < until:
            if condition() and not (self._handle and self._handle.is_moving(job_id)):
                return True
            moving.wait(0.05)
        return False

    def close(self) -> None:
        """Stop an engine of this process and close the ledger."""
        if self._handle is not None:
            self._handle.stop()
            self._handle = None
        self.ledger.close()

    def _standing(self, job_id: int) -> GatewayStanding | None:
        return self._handle.standing(job_id) if self._handle is not None else None

    def _landing(self) -> Landing | None:
        return self._handle.landing() if self._handle is not None else None

    def _nudge(self) -> None:
        if self._handle is not None:
            self._handle.nudge()


__all__ = [
    "Abort",
    "App",
    "EngineHandle",
    "FerryError",
    "Identifier",
    "JobKind",
    "ListPreview",
    "NodeKind",
    "SecretsStatus",
]
