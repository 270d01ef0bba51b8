"""What a job kind is: declared fields, the capabilities it needs, and how it finds what to carry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from core.model.disk import DiskLimit
from core.model.errors import NotSupportedError
from core.model.gateway import HeartBeat
from core.model.job import After, ExtraKind, JobFields, Path, TransferFields
from core.model.outcome import EvidenceLevel
from core.model.schedule import Schedule
from core.model.steps import StepChoice
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import (
    Compare,
    Confirm,
    Delete,
    DiskUse,
    Extras,
    Follow,
    Intake,
    Inventory,
    Label,
    Node,
    Read,
    Write,
)
from core.wire.http import Abort

CAPABILITY_WORDS: dict[type, str] = {
    Inventory: "list its studies",
    Read: "give images",
    Write: "take images",
    Confirm: "say which images it holds",
    Delete: "delete images",
    Follow: "say what has arrived since",
    Label: "label studies",
    Compare: "compare images",
    Extras: "hand on labels, metadata and attachments",
    DiskUse: "say how full its disk is",
}


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """A transfer's fields as the engine reads them, whatever the kind. Times in seconds, bandwidth in bytes/s.

    Attributes
    ----------
    filtered : bool
        A filter may take some instances of a study and leave out others.
    unconfirmed_pushes : int
        Studies that a source may be sending by itself, at the bidding of all jobs, before the first is confirmed.
    check_interval, arrival_wait : float
        How often the destination is asked for what a source sends by itself, and how long it may go on without
        anything new once the source has ended.
    disk_limit : DiskLimit | None
        How full a destination's disk may be; above, nothing new is sent there.
    stop_at_error : bool
        The job stops at the first image that has failed for good.
    steps : tuple[StepChoice, ...]
        What is done to each image on its way.
    originals_elsewhere : bool
        A person has said that another system keeps the images as they were before the steps.
    own_only : bool
        A move deletes only at sources that take images in themselves (`Intake`); servers keep what they have.
    keep_confirmed : float
        Seconds for which a move leaves a study at its source after its last image was confirmed.
    routing : bool
        False: what arrives is listed, and nothing is sent until it is switched on.
    heartbeat : HeartBeat | None
        The job shows programs that watch over it how it stands.
    paths : Mapping[str, Path]
        The path to single destinations, by name, where it isn't `path`.
    """

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    after: After
    evidence: EvidenceLevel
    path: Path
    overwrite: bool
    workers: int
    max_attempts: int
    retry_delays: tuple[float, ...]
    bandwidth: float
    schedule: Schedule
    follow: bool
    fallback: str = ""
    fallback_after: float = 30.0
    label_success: str = ""
    label_failure: str = ""
    extras: frozenset[ExtraKind] = frozenset()
    filtered: bool = False
    unconfirmed_pushes: int = 2
    check_interval: float = 5.0
    arrival_wait: float = 60.0
    disk_limit: DiskLimit | None = None
    stop_at_error: bool = False
    steps: tuple[StepChoice, ...] = ()
    originals_elsewhere: bool = False
    own_only: bool = False
    keep_confirmed: float = 0.0
    routing: bool = True
    heartbeat: HeartBeat | None = None
    paths: Mapping[str, Path] = field(default_factory=dict)

    def path_to(self, destination: str) -> Path:
        """The path to a destination, by its name."""
        return self.paths.get(destination, self.path)

    def between(self, sources: Iterable[Node]) -> TransferOptions:
        """As these sources take them: a move that deletes at none of them keeps."""
        if self.after is After.MOVE and not any(self.deletes_at(node) for node in sources):
            return replace(self, after=After.KEEP)
        return self

    def deletes_at(self, source: Node) -> bool:
        """Whether what is confirmed is deleted at this source."""
        return self.after is After.MOVE and (not self.own_only or isinstance(source, Intake))


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """Something to carry: a study, or the part of it that `pages` gives.

    `pages` is read once, page by page, so that no study is held in memory. `left_out` counts what a
    filter took out of it so far.
    """

    study: StudyInfo
    pages: Iterator[Sequence[InstanceRef]]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Instances that a filter left out: counted, never planned, never deleted."""

    instances: int


@dataclass(frozen=True, slots=True)
class CursorReached:
    """Everything up to this place of the change log was given; kept once it is durable in the ledger."""

    cursor: int


@dataclass(frozen=True, slots=True)
class InventoryDone:
    """The inventory is over. When not `complete`, `reason` says why, and the job says so too."""

    complete: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that the person should know about what was looked for; a sentence without patient data."""

    sentence: str


Found = FoundStudy | LeftOut | CursorReached | InventoryDone | Remark


@dataclass(frozen=True, slots=True)
class Discovery:
    """What the engine gives to `TransferKind.discover`, once for each source.

    Attributes
    ----------
    source : Node
    cursor : int | None
        Where the change log was left; None the first time.
    inventoried : bool
        An inventory of this pass was finished earlier (before a restart).
    follow : bool
    wait : Callable[[float], bool]
        Waits so many seconds; False when the job is to stop now.
    abort : Abort
    listed : Callable[[str], bool]
        Whether a study, by its Study Instance UID, was wholly listed earlier in this pass.
    planned : Callable[[str], int | None]
        How many of its images are planned in this pass and, as far as is known, still at the source.
    """

    source: Node
    cursor: int | None
    inventoried: bool
    follow: bool
    wait: Callable[[float], bool]
    abort: Abort
    listed: Callable[[str], bool]
    planned: Callable[[str], int | None] = lambda _study_uid: None


class JobKind(ABC):
    """A kind of job. Registered by `registry.register`; its fields declare form, wizard and options."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    icon: ClassVar[str]
    Fields: ClassVar[type[JobFields]]

    @abstractmethod
    def check(self, fields: JobFields, nodes: Mapping[str, Node], *, follow: bool) -> None:
        """Refuse before the start what can't work.

        Raises
        ------
        NotSupportedError
            Naming the node and what it lacks.
        ConfigurationError
        """

    @property
    def can_follow(self) -> bool:
        return False

    @property
    def always_follows(self) -> bool:
        """A standing job: it follows without being asked to, and never gives up by itself."""
        return False


class TransferKind(JobKind):
    """A job kind whose work is deliveries: the engine carries them, the kind only finds them."""

    Fields: ClassVar[type[TransferFields]]

    @abstractmethod
    def options(self, fields: TransferFields, *, follow: bool) -> TransferOptions: ...

    @abstractmethod
    def discover(self, fields: TransferFields, discovery: Discovery) -> Iterator[Found]:
        """Find what to carry from one source; ends when nothing more is to come."""


def need(node: Node, *capabilities: type) -> None:
    """Refuse a node that lacks a capability, in words.

    Raises
    ------
    NotSupportedError
    """
    for capability in capabilities:
        if not isinstance(node, capability):
            raise NotSupportedError(
                f"{node.name} can't {CAPABILITY_WORDS.get(capability, capability.__name__)}.",
                "Choose another node, or another kind of job.",
                code="capability",
            )
