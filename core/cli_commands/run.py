"""`dicom-ferry run`: make a job and carry it to its end, or say what it would do."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import typer
from pydantic import JsonValue

from core.app import App
from core.cli_commands.fields import Given, build, gather, option, parameters
from core.cli_commands.figures import counted, duration, megabytes
from core.cli_commands.following import follow, tell
from core.cli_commands.interruption import Interruption
from core.cli_commands.opening import opened
from core.cli_commands.speaking import INTERRUPTED, Speaker, exit_with, speaking
from core.jobs.base import JobKind
from core.jobs.registry import job_kinds
from core.model.errors import ConfigurationError
from core.model.everyone import registered
from core.model.fields import FieldType, form_fields
from core.model.views import Preview
from core.wire.abort import Abort

app = typer.Typer(
    help="Run a job to its end. Each kind has its own options: dicom-ferry run KIND --help.", no_args_is_help=True
)
_ASK_SECONDS = 5.0  # for all nodes together; who is silent for longer only can't be reached now
EPILOG = (
    "Each option may also come from the environment, as DICOM_FERRY_ and its name in capitals with underscores "
    "(several nodes separated by commas), or from a job file. What is typed goes before the environment, and the "
    "environment before the file. The same command continues an unfinished job; after a finished one it looks "
    "again and carries what is missing."
)


def add_kinds() -> None:
    """Make `run KIND` for every registered kind of job."""
    for kind in job_kinds.all().values():
        app.command(kind.name, help=f"{kind.title}. {kind.summary}", epilog=EPILOG)(_run_command(kind))


def job_options(kind: JobKind) -> list[Any]:
    """Options of a job's fields, and those that every job has."""
    found = [
        *parameters(kind.Fields),
        option(
            "job_file",
            Optional[Path],  # noqa: UP045
            typer.Option(None, "--job-file", metavar="FILE", help="TOML or JSON file with fields of the job."),
        ),
        option("name", str, typer.Option("", "--name", help="A name for the job; made from its nodes when left out.")),
        option("json", bool, typer.Option(False, "--json", help="Write JSON objects, one a line.")),
    ]
    if kind.can_follow and not kind.always_follows:
        found.append(
            option(
                "follow",
                bool,
                typer.Option(False, "--follow", help="Go on watching for what arrives, until interrupted."),
            )
        )
    return found


def _run_command(kind: JobKind) -> Any:
    def body(
        json: bool, name: str, job_file: Path | None, dry_run: bool, follow: bool = False, **arguments: Any
    ) -> None:
        status = 0
        with speaking(json=json) as speaker:
            given = gather(kind.Fields, arguments, file=job_file, kind=kind.name)
            with opened() as app:
                if dry_run:
                    check_before_start(app, kind, given, follow=follow or bool(given.follow))
                    status = _preview(app, speaker, kind, given)
                else:
                    status = _run(app, speaker, kind, given, name=name, follow=follow)
        exit_with(status)

    dry_run = typer.Option(False, "--dry-run", help="Only say what would be carried and what is there already.")
    return build(f"run_{kind.name}", kind.summary, [*job_options(kind), option("dry_run", bool, dry_run)], body)


def _run(app: App, speaker: Speaker, kind: JobKind, given: Given, *, name: str, follow: bool) -> int:
    began = time.monotonic()
    follow = follow or bool(given.follow)
    check_before_start(app, kind, given, follow=follow)
    job = app.jobs.create(kind.name, given.values, name=name or given.name, follow=follow)
    speaker.data("started", job=job.id, name=job.name, kind=job.kind, pass_number=job.pass_number)
    return carry(app, speaker, job.id, began=began)


def carry(app: App, speaker: Speaker, job_id: int, *, began: float | None = None) -> int:
    """Follow a job that was started to its end and tell how it went; the exit status."""
    ending = follow(app, speaker, job_id, began=began)
    tell(app, speaker, ending)
    return ending.exit_status


def check_before_start(app: App, kind: JobKind, given: Given, *, follow: bool, probe: bool = True) -> None:
    """Refuse before the start what can't work as it is: fields, capabilities, passwords, certificates.

    A node that only can't be reached now is no reason: the job waits for it.

    Raises
    ------
    ConfigurationError
    """
    nodes = node_names(kind, given)
    for node in nodes:
        app.nodes.get(node)
    try:
        app.jobs.check(kind.name, given.values, follow=follow)
    except ConfigurationError as error:
        raise given.explain(error, form_fields(kind.Fields)) from error
    if probe:
        _be_let_in(app, nodes)


def _be_let_in(app: App, names: list[str]) -> None:
    """Ask all nodes at once; one that hangs must not hold up the others' start for long."""
    asked: list[Future[None]] = []

    def ask(name: str, answer: Future[None]) -> None:
        try:
            app.nodes.let_in(name)
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is asked for
            answer.set_exception(error)
        else:
            answer.set_result(None)

    for name in names:
        answer: Future[None] = Future()
        asked.append(answer)
        threading.Thread(target=ask, args=(name, answer), name=f"let-in-{name}", daemon=True).start()
    wait(asked, timeout=_ASK_SECONDS)
    for answer in asked:
        if answer.done():
            answer.result()


def node_names(kind: JobKind, given: Given) -> list[str]:
    """Names of all nodes that the given fields mention, in the order of the fields."""
    found: list[str] = []
    for f in form_fields(kind.Fields):
        value: JsonValue = given.values.get(f.name)
        if f.type is FieldType.NODES and isinstance(value, list):
            found += registered(str(v) for v in value)
        elif f.type is FieldType.NODE and isinstance(value, str) and value:
            found.append(value)
    return list(dict.fromkeys(found))


def _preview(app: App, speaker: Speaker, kind: JobKind, given: Given) -> int:
    """Look in a thread of its own, so that an interruption can abort its requests from here."""
    abort = Abort()
    looking: Future[Preview] = Future()
    so_far: deque[Preview] = deque(maxlen=1)

    def look() -> None:
        try:
            looking.set_result(app.jobs.preview(kind.name, given.values, abort=abort, progress=so_far.append))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            looking.set_exception(error)

    with Interruption() as interruption, _status(speaker) as say:
        threading.Thread(target=look, name="preview", daemon=True).start()
        while not looking.done():
            wait([looking], timeout=0.2)
            if interruption.asked.is_set():
                abort.abort()
                return INTERRUPTED
            if so_far:
                say(f"Looking what there is: {so_far[0].studies:,} studies, {so_far[0].instances:,} images so far")
    found = looking.result()
    _tell_preview(speaker, found)
    return 0 if found.complete else 1


@contextmanager
def _status(speaker: Speaker) -> Iterator[Callable[[str], None]]:
    if not speaker.live:
        yield lambda _text: None
        return
    with speaker.err.status("Looking what there is") as status:
        yield lambda text: status.update(text)


def _tell_preview(speaker: Speaker, p: Preview) -> None:
    speaker.data(
        "preview", studies=p.studies, series=p.series, instances=p.instances, bytes=p.bytes,
        already_there=p.already_there, different=p.different, left_out=p.left_out, complete=p.complete,
        reason=p.reason, seconds=p.seconds,
    )  # fmt: skip
    speaker.say("Nothing was sent: this is what the job would do.", "bold")
    size = f", {megabytes(p.bytes)}" if p.bytes else ""  # not every source tells sizes
    studies = counted(p.studies, "study", "studies")
    speaker.say(f"  {studies}, {p.series:,} series, {counted(p.instances, 'image')}{size}")
    if p.already_there is not None:
        speaker.say(f"  {p.already_there:,} images are there already and would be skipped")
    if p.different:
        speaker.say(f"  {p.different:,} images are there with other content and would be left as they are", "yellow")
    if p.left_out:
        speaker.say(f"  {p.left_out:,} images are left out by the filter")
    if p.seconds:
        speaker.say(f"  about {duration(p.seconds)}")
    for remark in p.remarks:
        speaker.remark(remark)
    if not p.complete:
        speaker.remark(f"This may not be all: {p.reason}", "yellow")
