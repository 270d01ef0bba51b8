"""`dicom-ferry gateway`: how the standing forwards stand, and the switch of their auto-routing."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from core.app import App
from core.cli_commands.figures import counted, megabytes
from core.cli_commands.opening import opened
from core.cli_commands.speaking import Speaker, exit_with, speaking
from core.model.errors import ConfigurationError
from core.model.gateway import GatewayStanding
from core.model.job import JobRecord, JobState

app = typer.Typer(
    help="Gateways: how they stand, and auto-routing on or off. Make one with: dicom-ferry run gateway, or job save.",
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]
Gateway = Annotated[str, typer.Argument(metavar="NAME", help="Name or number of a gateway (dicom-ferry gateway list).")]


@app.command("list")
def list_gateways(json: Json = False) -> None:
    """List all gateways: whether they route, what waits, what is kept, what is wrong."""
    with speaking(json=json) as speaker, opened() as home:
        table = Table("Job", "Name", "State", "Waiting", "Oldest", "Confirmed", "Kept here", "Wrong", box=None,
                      header_style="bold", pad_edge=False)  # fmt: skip
        found = home.jobs.gateways()
        for job in found:
            s = home.jobs.gateway_standing(job.id)
            wrong = "; ".join(s.reasons)
            table.add_row(
                str(job.id), escape(job.name), s.state.value, counted(s.route.waiting_studies, "study", "studies"),
                _age(s), f"{s.route.confirmed_images:,}", f"{s.route.kept_studies:,}", escape(wrong) or "–",
            )  # fmt: skip
            _data(speaker, s)
        if found:
            speaker.show(table)
        else:
            speaker.say("No gateway yet. Make one: dicom-ferry run gateway --help")


@app.command()
def show(name: Gateway, json: Json = False) -> None:
    """Show where one gateway stands. Exit status 0 while all is well, 1 when something is wrong."""
    with speaking(json=json) as speaker, opened() as home:
        job = _gateway(home, name)
        standing = home.jobs.gateway_standing(job.id)
        _data(speaker, standing)
        for title, text in _lines(standing, job):
            speaker.say(f"{title:<16}{text}")
        for reason in standing.reasons:
            speaker.remark(reason, "yellow")
    exit_with(0 if standing.healthy else 1)


@app.command()
def on(name: Gateway, json: Json = False) -> None:
    """Switch auto-routing on: what was received meanwhile is sent now, and whatever arrives."""
    _switch(name, on=True, json=json)


@app.command()
def off(name: Gateway, json: Json = False) -> None:
    """Switch auto-routing off, for good: images go on being received, and nothing is sent until it is on again."""
    _switch(name, on=False, json=json)


def _switch(name: str, *, on: bool, json: bool) -> None:
    with speaking(json=json) as speaker, opened() as home:
        job = _gateway(home, name)
        home.jobs.route(job.id, on=on)
        speaker.data("routing", job=job.id, name=job.name, on=on)
        speaker.say(f"Auto-routing of “{job.name}” is {'on' if on else 'off'}.")
        if job.state is not JobState.RUNNING:
            speaker.remark(f"The gateway is {job.state.value}: it routes once it is started (dicom-ferry job start).")


def _gateway(home: App, name: str) -> JobRecord:
    job = home.jobs.get(name)
    known = home.jobs.gateways()
    if job.id not in {one.id for one in known}:
        names = ", ".join(f"“{one.name}”" for one in known[:10])
        raise ConfigurationError(
            f"“{job.name}” is no gateway.", f"There are: {names}." if names else "There is none yet.", code="no-gateway"
        )
    return job


def _lines(s: GatewayStanding, job: JobRecord) -> list[tuple[str, str]]:
    r = s.route
    waiting = f"{counted(r.waiting_studies, 'study', 'studies')}, {counted(r.waiting_images, 'image')}"
    lines = [
        ("Gateway", f"{s.name} ({', '.join(job.sources)} to {', '.join(job.destinations)})"),
        ("State", s.state.value),
        ("Last received", _when(s.last_received)),
        ("Last confirmed", _when(r.last_confirmed)),
        ("Waiting", waiting + (f", the oldest for {_age(s)}" if r.oldest else "")),
        ("Confirmed", counted(r.confirmed_images, "image")),
    ]
    if job.fields.get("after") == "move":
        lines.append(("Kept", f"{counted(r.kept_studies, 'confirmed study', 'confirmed studies')}, each for "
                              f"{s.keeps_hours:g} h"))  # fmt: skip
    for name, level in s.intakes:
        held = f"{counted(level.studies, 'study', 'studies')}, {counted(level.instances, 'image')}"
        room = "refuses images: no room" if level.refuses else f"room for {megabytes(level.room)}"
        lines.append((f"At {name}", f"{held}, {megabytes(level.bytes)}; {room}"))
    return lines


def _when(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "–"


def _age(s: GatewayStanding) -> str:
    seconds = s.oldest_seconds
    if seconds is None:
        return "–"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.0f} h"


def _data(speaker: Speaker, s: GatewayStanding) -> None:
    r = s.route
    speaker.data(
        "standing", job=s.job_id, name=s.name, state=s.state.value, healthy=s.healthy, reasons=list(s.reasons),
        last_received=s.last_received, last_confirmed=r.last_confirmed, waiting_studies=r.waiting_studies,
        waiting_images=r.waiting_images, oldest_seconds=s.oldest_seconds, confirmed=r.confirmed_images,
        failed=r.failed_images, different=r.different_images, kept_studies=r.kept_studies,
        intakes=[{"name": n, **asdict(level)} for n, level in s.intakes],
    )  # fmt: skip
