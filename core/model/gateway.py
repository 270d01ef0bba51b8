"""How a standing forward stands: what waits, what is kept, what is wrong; and the heart-beat that tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SHORT_BYTES = 1_000_000_000  # with less room than this, what is confirmed makes place for what comes
SWITCHED_OFF = "Auto-routing is switched off: images are received and nothing is sent."


@dataclass(frozen=True, slots=True)
class HeartBeat:
    """How a job shows that it is alive, to programs that watch over it.

    Attributes
    ----------
    port : int
        Of the local HTTP server that answers; 0 for none.
    address : str
        IP address at which that listens.
    file : str
        Path of a file that is written again and again; empty for none.
    every : float
        Seconds between two writings of the file.
    late : float
        Seconds after which an image that is not confirmed counts as trouble.
    """

    port: int = 0
    address: str = "127.0.0.1"
    file: str = ""
    every: float = 30.0
    late: float = 3600.0

    @property
    def url(self) -> str:
        """Where the server answers; empty without one."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}/" if self.port else ""


@dataclass(frozen=True, slots=True)
class IntakeLevel:
    """What a node that takes images in holds of them, and how much room is left.

    Attributes
    ----------
    studies, instances, bytes : int
        Held now.
    room : int
        Bytes that may still come before images are refused; 0 or less when they are refused already.
    reserved : int
        Bytes that stay free besides.
    last_received : datetime | None
        When the newest image came, as far as that is still known.
    listening : bool
        It can be called right now, in this process.
    """

    studies: int
    instances: int
    bytes: int
    room: int
    reserved: int
    last_received: datetime | None
    listening: bool

    @property
    def short(self) -> bool:
        """There is so little room that what is confirmed makes place for what comes, however long it was to stay."""
        return self.room < SHORT_BYTES

    @property
    def refuses(self) -> bool:
        """Images are answered with A700 (out of resources) until there is room again."""
        return self.room <= 0


@dataclass(frozen=True, slots=True)
class RouteLevel:
    """What the ledger holds of a job that follows its sources.

    Attributes
    ----------
    waiting_studies, waiting_images : int
        Deliveries without the proof that the job asks for, and rows of the transfers page that have any.
    failed_images, different_images : int
        Given up until a person acts; other content found under the same UID at the destination.
    confirmed_images : int
        Deliveries with their proof, what was there already included.
    oldest : datetime | None
        Since when the oldest of what waits is planned.
    last_planned, last_confirmed : datetime | None
    kept_studies : int
        Wholly confirmed, and still at a source that the job empties.
    """

    waiting_studies: int = 0
    waiting_images: int = 0
    failed_images: int = 0
    different_images: int = 0
    confirmed_images: int = 0
    oldest: datetime | None = None
    last_planned: datetime | None = None
    last_confirmed: datetime | None = None
    kept_studies: int = 0


class GatewayState(StrEnum):
    """What a gateway is doing."""

    ROUTING = "routing"
    OFF = "off"  # the switch: images are received and nothing is sent
    WAITING = "waiting"  # for its hours
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class DestinationLevel:
    """Whether a destination answers; `reachable` is None where nothing was asked of it yet."""

    name: str
    reachable: bool | None
    since: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GatewayStanding:
    """Where a gateway stands at a moment.

    Attributes
    ----------
    reasons : tuple[str, ...]
        What is wrong, in sentences without patient data; empty when all is well.
    intakes : tuple[tuple[str, IntakeLevel], ...]
        By name, the sources that take images in themselves.
    keeps_hours : float
        For so long confirmed studies stay at those sources.
    """

    job_id: int
    name: str
    at: datetime
    state: GatewayState
    route: RouteLevel
    destinations: tuple[DestinationLevel, ...]
    intakes: tuple[tuple[str, IntakeLevel], ...]
    keeps_hours: float
    reasons: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        return not self.reasons

    @property
    def last_received(self) -> datetime | None:
        """When the newest image came, or was found at a source."""
        times = [level.last_received for _name, level in self.intakes]
        return max((at for at in (*times, self.route.last_planned) if at is not None), default=None)

    @property
    def oldest_seconds(self) -> float | None:
        """For how long the oldest unconfirmed image has been waiting."""
        oldest = self.route.oldest
        return None if oldest is None else max(0.0, (self.at - oldest).total_seconds())
