"""Gateways in words: their state, what waits, what is kept, and how much room there is."""

from __future__ import annotations

from core.model.gateway import SWITCHED_OFF, GatewayStanding, GatewayState
from core.model.job import JobRecord
from gui import words
from gui.theme import Tone

_STATES: dict[GatewayState, tuple[str, Tone]] = {
    GatewayState.OFF: ("Routing off", Tone.AMBER),
    GatewayState.WAITING: ("Waiting", Tone.GREY),
    GatewayState.PAUSED: ("Paused", Tone.GREY),
    GatewayState.STOPPED: ("Not running", Tone.GREY),
}


def is_gateway(job: JobRecord) -> bool:
    """Whether a job has the switch of a gateway."""
    return "routing" in job.fields and job.follow


def is_routing(job: JobRecord) -> bool:
    return job.fields.get("routing") is not False


def state_words(standing: GatewayStanding) -> tuple[str, Tone]:
    """The pill of a gateway: green only while nothing is wrong."""
    if standing.state in _STATES:
        return _STATES[standing.state]
    return ("Routing", Tone.GREEN) if standing.healthy else ("Needs attention", Tone.RED)


def waiting_words(standing: GatewayStanding) -> str:
    """What is not confirmed yet, and since when."""
    route = standing.route
    if not route.waiting_studies:
        return "nothing"
    text = f"{words.studies(route.waiting_studies)}, {words.plural(route.waiting_images, 'image')}"
    oldest = standing.oldest_seconds
    return text if oldest is None or oldest < 1 else f"{text}; the oldest for {words.duration(oldest)}"


def reasons(standing: GatewayStanding) -> str:
    """What is wrong; that the switch is off can be seen."""
    return "\n".join(r for r in standing.reasons if r != SWITCHED_OFF)


def short_words(standing: GatewayStanding) -> str:
    """All of it in one line."""
    route = standing.route
    parts = [
        f"{words.studies(route.waiting_studies)} waiting" if route.waiting_studies else "Nothing waits",
        f"{words.plural(route.confirmed_images, 'image')} confirmed",
    ]
    if route.kept_studies:
        parts.append(f"{words.studies(route.kept_studies)} kept here")
    if standing.last_received is not None:
        parts.append(f"last received {words.ago(standing.last_received)}")
    return " · ".join(parts)


def lines(standing: GatewayStanding, job: JobRecord) -> list[tuple[str, str]]:
    """Titles and words for the panel of a job."""
    route = standing.route
    found = [("Waiting", waiting_words(standing))]
    confirmed = words.plural(route.confirmed_images, "image")
    if route.last_confirmed is not None:
        confirmed += f", the last one {words.ago(route.last_confirmed)}"
    found.append(("Confirmed", confirmed))
    if standing.last_received is not None:
        found.append(("Last received", words.ago(standing.last_received)))
    for name, level in standing.intakes:
        room = "refuses images: no room left" if level.refuses else f"room for {words.size(level.room)}"
        if level.short and not level.refuses and standing.keeps_hours:
            room += ", so confirmed studies go at once"
        text = f"{words.studies(level.studies)}, {words.plural(level.instances, 'image')}"
        held = f"{text} ({words.size(level.bytes)}); {room}" if level.instances else f"empty; {room}"
        found.append((f"At {name}", held))
    if job.fields.get("after") == "move" and standing.intakes:
        kept = f"{words.studies(route.kept_studies)}, " if route.kept_studies else ""
        found.append(("Kept once confirmed", f"{kept}each for {hours(standing.keeps_hours)}"))
    found.append(("Heart-beat", beat_words(job)))
    return found


def hours(value: float) -> str:
    """A time given in hours, in days where it comes out even."""
    if value >= 48 and value % 24 == 0:
        return words.plural(int(value // 24), "day")
    return "no time" if value == 0 else "1 hour" if value == 1 else f"{value:g} hours"


def beat_words(job: JobRecord) -> str:
    """Where programs that watch over the gateway look."""
    port, file = job.fields.get("heartbeat_port"), str(job.fields.get("heartbeat_file") or "")
    address = str(job.fields.get("heartbeat_address") or "127.0.0.1")
    host = f"[{address}]" if ":" in address else address
    parts = [*([f"http://{host}:{port}/"] if port else []), *([file] if file else [])]
    return " and ".join(parts) or "none"
