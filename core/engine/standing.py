"""Where a gateway stands, put together from the ledger, its sources and its destinations, and what is wrong in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.engine.retry import HOURLY
from core.jobs.base import TransferOptions
from core.model import clock
from core.model.errors import FerryError
from core.model.gateway import (
    SWITCHED_OFF,
    DestinationLevel,
    GatewayStanding,
    GatewayState,
    IntakeLevel,
    RouteLevel,
)
from core.model.job import JobRecord, JobState
from core.nodes.base import Intake, Node

_STATES = {
    GatewayState.OFF: SWITCHED_OFF,
    GatewayState.PAUSED: "The gateway is paused: images are received and nothing is sent.",
    GatewayState.STOPPED: "The gateway does not run.",
}


def state_of(job: JobRecord, *, routing: bool, window_open: bool = True) -> GatewayState:
    """What a gateway is doing, by what was ordered."""
    if job.state is JobState.PAUSED:
        return GatewayState.PAUSED
    if job.state is not JobState.RUNNING:
        return GatewayState.STOPPED
    if not routing:
        return GatewayState.OFF
    return GatewayState.ROUTING if window_open else GatewayState.WAITING


def standing_of(
    job: JobRecord,
    options: TransferOptions,
    state: GatewayState,
    route: RouteLevel,
    sources: Mapping[str, Node],
    destinations: Sequence[DestinationLevel],
    *,
    told: Sequence[str] = (),
    here: bool = True,
) -> GatewayStanding:
    """Ask the sources now, and say what is wrong.

    Parameters
    ----------
    route : RouteLevel
        What the ledger holds of the job.
    told : Sequence[str]
        What else is known to be wrong.
    here : bool
        The engine runs in this process, so that its nodes must be listening.
    """
    reasons = [_STATES[state]] if state in _STATES else []
    intakes: list[tuple[str, IntakeLevel]] = []
    for name, node in sources.items():
        if not isinstance(node, Intake):
            continue
        try:
            level = node.intake()
        except FerryError as error:
            reasons.append(str(error))
            continue
        intakes.append((name, level))
        if level.refuses:
            reasons.append(refusing(name, level, route))
        elif here and not level.listening:
            reasons.append(f"{name} does not listen: nobody can send to it.")
    for one in destinations:
        if one.reachable is False:
            since = f" since {one.since:%H:%M}" if one.since else ""
            reasons.append(f"{one.name} can't be reached{since}. {one.reason}".strip())
    reasons += _trouble_of(route)
    standing = GatewayStanding(
        job.id, job.name, clock.now(), state, route, tuple(destinations), tuple(intakes),
        options.keep_confirmed / HOURLY, (),
    )  # fmt: skip
    waited = standing.oldest_seconds
    if options.heartbeat and waited is not None and waited > options.heartbeat.late and not options.schedule.windows:
        reasons.append(f"The oldest image that is not confirmed has been waiting for {_long(waited)}.")
    reasons += [words for words in told if words and words not in reasons]
    return GatewayStanding(
        job.id, job.name, standing.at, state, route, standing.destinations, standing.intakes, standing.keeps_hours,
        tuple(dict.fromkeys(reasons)),
    )  # fmt: skip


def refusing(name: str, level: IntakeLevel, route: RouteLevel) -> str:
    """That images are refused for want of room, and who must act."""
    less = f"its disk has less than {level.reserved / 1e9:,.1f} GB left"
    if route.waiting_studies:
        one = route.waiting_studies == 1
        stay = "1 study is" if one else f"{route.waiting_studies:,} studies are"
        stay += f" not confirmed yet and {'stays' if one else 'stay'}"
        act = f"{stay}: get the destination working again, or make room on the disk."
    else:
        act = "Make room on that disk, or give the node another folder."
    return f"{name} refuses images (A700, out of resources): {less}. {act}"


def _trouble_of(route: RouteLevel) -> list[str]:
    found = []
    if route.failed_images:
        one = route.failed_images == 1
        found.append(f"{'1 image' if one else f'{route.failed_images:,} images'} failed: a person must act.")
    if route.different_images:
        images = "1 image is" if route.different_images == 1 else f"{route.different_images:,} images are"
        found.append(f"{images} different at the destination.")
    return found


def _long(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{max(1, minutes)} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
