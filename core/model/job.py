"""Jobs as saved, and the fields that all transfers share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue, field_validator

from core.model.errors import FerryError
from core.model.fields import Declared, FieldType, declared
from core.model.outcome import Counts, EvidenceLevel
from core.model.rules import Rule, parse_rule
from core.model.schedule import Schedule, parse_schedule
from core.model.steps import StepChoice, step_choices

DEFAULT_DELAYS = (5.0, 20.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0)


class After(StrEnum):
    """What happens at the source once an instance is proved at every destination."""

    KEEP = "keep"
    MOVE = "move"


class Path(StrEnum):
    """How bytes travel: through this computer, or sent by the source server itself."""

    AUTO = "auto"
    RELAY = "relay"
    PUSH = "push"


class Trigger(StrEnum):
    """What makes a following job send: each new instance, or what the server declares stable."""

    INSTANCE = "instance"
    SERIES = "series"
    STUDY = "study"


class ExtraKind(StrEnum):
    """What a server keeps beside the images."""

    LABELS = "labels"
    METADATA = "metadata"
    ATTACHMENTS = "attachments"


class JobFields(Declared):
    """Base of every job kind's fields."""


class TransferFields(JobFields):
    """Fields that every transfer has (forward, clone, migrate …)."""

    source: tuple[str, ...] = declared(
        title="From", help="Nodes that studies are read from.", type=FieldType.NODES, min_length=1
    )
    destination: tuple[str, ...] = declared(
        title="To", help="Nodes that each study is sent to.", type=FieldType.NODES, min_length=1
    )
    path: Path = declared(
        Path.AUTO,
        title="Path",
        help="Through this computer, or sent by the source server itself where it knows the destination.",
        labels={"auto": "Choose for me", "relay": "Through this computer", "push": "By the server itself"},
        advanced=True,
        group="How",
    )
    push_to: tuple[str, ...] = declared(
        (),
        title="By the server itself to",
        help="Destinations that the source server sends to by itself, whatever the path of the others is.",
        type=FieldType.NODES,
        advanced=True,
        group="How",
    )
    relay_to: tuple[str, ...] = declared(
        (),
        title="Through this computer to",
        help="Destinations whose images come through this computer, whatever the path of the others is.",
        type=FieldType.NODES,
        advanced=True,
        group="How",
    )
    evidence: EvidenceLevel = declared(
        EvidenceLevel.VERIFIED,
        title="Proof wanted",
        help="What must be seen at the destination before an image counts as done.",
        labels={
            "sent": "The destination acknowledged it",
            "verified": "The destination lists it, by digest where it can",
            "committed": "The destination took it over by storage commitment",
        },
        advanced=True,
        group="How",
    )
    overwrite: bool = declared(
        False,
        title="Replace what is different",
        help="Where the destination holds another image under the same UID, replace it. Off: it is shown, not touched.",
        advanced=True,
        group="How",
    )
    workers: int = declared(8, title="Images at once", help="Per destination.", ge=1, le=64, advanced=True, group="How")
    max_attempts: int = declared(
        5, title="Attempts", help="How often one image is tried before it is given up.", ge=1, le=100,
        advanced=True, group="Retries",
    )  # fmt: skip
    retry_delays: tuple[float, ...] = declared(
        DEFAULT_DELAYS,
        title="Delays between attempts",
        help="Seconds, one after the other; the last one repeats.",
        unit="s",
        advanced=True,
        group="Retries",
        min_length=1,
    )
    bandwidth: float = declared(
        0.0, title="Bandwidth limit", help="0 is no limit.", unit="MB/s", ge=0, advanced=True, group="Limits"
    )
    schedule: str = declared(
        "",
        title="Only at these times",
        help='Empty: always. "night-and-weekend", "night-and-weekend 19-6", or "mon-fri 19:00-06:00; sat-sun".',
        advanced=True,
        group="When",
    )

    @field_validator("source", "destination", "push_to", "relay_to")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("the same node is named twice")
        return value

    @field_validator("retry_delays")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= d <= 7 * 86400 for d in value):
            raise ValueError("each delay is 0 to 604800 seconds")
        return value

    @field_validator("schedule")
    @classmethod
    def _schedule_parses(cls, value: str) -> str:
        try:
            parse_schedule(value)
        except FerryError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def windows(self) -> Schedule:
        return parse_schedule(self.schedule)


class ExtraFields(Declared):
    """Mixin: what goes along with the images, between servers that keep such things."""

    copy_labels: bool = declared(
        False,
        title="Labels, too",
        help="Between Orthanc servers from 1.12.0 on. Labels that the destination has stay.",
        advanced=True,
        group="Besides the images",
    )
    copy_metadata: bool = declared(
        False,
        title="Metadata, too",
        help="Between Orthanc servers: what users or programs have noted on studies, series and images.",
        advanced=True,
        group="Besides the images",
    )
    copy_attachments: bool = declared(
        False,
        title="Attachments, too",
        help="Between Orthanc servers: files that users or other programs have attached to studies, series and images.",
        advanced=True,
        group="Besides the images",
    )

    @property
    def extras(self) -> frozenset[ExtraKind]:
        """What was chosen."""
        chosen = {
            ExtraKind.LABELS: self.copy_labels,
            ExtraKind.METADATA: self.copy_metadata,
            ExtraKind.ATTACHMENTS: self.copy_attachments,
        }
        return frozenset(kind for kind, wanted in chosen.items() if wanted)


class ProcessingFields(Declared):
    """Mixin: what is done to each image on its way."""

    step: tuple[StepChoice, ...] = declared(
        (),
        title="Processing steps",
        help="What is done to each image on its way, one after the other. An image of which a step fails is not sent.",
        type=FieldType.STEPS,
        group="On the way",
    )
    originals_elsewhere: bool = declared(
        False,
        title="The originals are kept elsewhere",
        help="A move whose steps de-identify deletes the images that say whose they are. It is refused unless you "
        "confirm here that another system keeps them.",
        needs="step",
        advanced=True,
        group="On the way",
    )

    @field_validator("step", mode="before")
    @classmethod
    def _steps_parse(cls, value: object) -> object:
        return step_choices(value)


class FilterFields(Declared):
    """Mixin: which studies or instances a job takes."""

    filter: str = declared(
        "",
        title="Only",
        help="A rule such as: Modality = CT and StudyDate >= 20200101. Empty takes everything.",
        type=FieldType.RULE,
        placeholder="Modality = CT and StudyDate >= 20200101",
        group="What",
    )

    @field_validator("filter")
    @classmethod
    def _filter_parses(cls, value: str) -> str:
        try:
            parse_rule(value)
        except FerryError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def rule(self) -> Rule:
        return parse_rule(self.filter)


class JobState(StrEnum):
    """What a job is doing. `SAVED` was never started; `FINISHED` has an outcome for every delivery."""

    SAVED = "saved"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FINISHED = "finished"
    STOPPED = "stopped"  # interrupted (engine closed or killed); goes on when started


JOB_UNFINISHED = frozenset({JobState.RUNNING, JobState.PAUSED, JobState.STOPPED})


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the ledger knows it.

    Attributes
    ----------
    id : int
    name : str
        For people; unique.
    kind : str
        Name of the job kind ("forward", "clone").
    fields : dict[str, JsonValue]
        The kind's fields.
    state : JobState
    pass_number : int
        1 for the first run; each start after a finish takes inventory anew under the next number.
    follow : bool
        Goes on watching its sources after the first inventory.
    planning : bool
        Still finding out what there is: totals may grow.
    counts : Counts
        Of the present pass.
    left_out : int
        Instances that a filter left out: counted apart, never planned, never deleted.
    note : str
        A sentence: why it waits or what it needs.
    problem : str
        Set when it could not find out everything that there is to carry: a sentence. It then never ends well.
    """

    id: int
    name: str
    kind: str
    fields: dict[str, JsonValue]
    state: JobState
    pass_number: int
    follow: bool
    created: datetime
    started: datetime | None
    finished: datetime | None
    planning: bool
    counts: Counts
    studies: int
    left_out: int = 0
    note: str = ""
    problem: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        return _names(self.fields.get("source"))

    @property
    def destinations(self) -> tuple[str, ...]:
        return _names(self.fields.get("destination"))


def _names(value: JsonValue | None) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list) else ()
