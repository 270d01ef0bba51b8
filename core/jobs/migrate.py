"""Migrate: the studies of a range of days, or of a list, from one archive to another; keeping or moving."""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Iterator, Mapping
from enum import StrEnum
from pathlib import Path as FilePath
from typing import ClassVar

from pydantic import field_validator, model_validator

from core.jobs.base import Discovery, Found, FoundStudy, InventoryDone, Remark, TransferKind, TransferOptions, need
from core.jobs.dates import DatedStudies, Order, day_of, parse_day
from core.jobs.discovery import filtered
from core.jobs.lists import IDENTIFIER_WORDS, Identifier, ListEntry, ListPreview, read_list, typed_list
from core.jobs.registry import register
from core.jobs.transfers import check_transfer, transfer_options
from core.model.disk import parse_disk_limit
from core.model.errors import ConfigurationError, FerryError
from core.model.fields import FieldType, declared
from core.model.job import After, FilterFields, JobFields, Path, ProcessingFields, TransferFields, Trigger
from core.model.rules import Rule
from core.model.study import StudyInfo, StudyQuery
from core.nodes.base import DiskUse, Inventory, Node

NAMED = 20  # rows that a sentence names one by one


class Undated(StrEnum):
    """What to do with studies that have no date, and so lie in no range."""

    TELL = "tell"
    CARRY = "carry"
    IGNORE = "ignore"


class OnError(StrEnum):
    GO_ON = "go-on"
    STOP = "stop"


class Delays(StrEnum):
    GROWING = "growing"
    CONSTANT = "constant"


class MigrateFields(TransferFields, FilterFields, ProcessingFields):
    """Fields of a migration."""

    date_from: str = declared(
        "", title="First day", help="First study date of the range.", type=FieldType.DATE, group="What",
        placeholder="20240101",
    )  # fmt: skip
    date_to: str = declared(
        "", title="Last day", help="Last study date of the range, included; empty for today.",
        type=FieldType.DATE, group="What", placeholder="20241231",
    )  # fmt: skip
    order: Order = declared(
        Order.NEWEST, title="Order", help="Which studies of the range come first.",
        labels={"newest": "Newest first", "oldest": "Oldest first"}, group="What",
    )  # fmt: skip
    undated: Undated = declared(
        Undated.TELL,
        title="Studies without a date",
        help="They lie in no range. They are looked for at the end, where the source can list them.",
        labels={"tell": "Tell how many there are", "carry": "Carry them too", "ignore": "Don't look for them"},
        advanced=True,
        group="What",
    )
    list: str = declared(
        "",
        title="List",
        help="Instead of a range: a CSV or Excel file (.xlsx) with one study or patient in each row.",
        type=FieldType.FILE,
        group="What",
    )
    list_column: str = declared(
        "",
        title="Column",
        help="The column of the list that counts: its heading, number or letter. Empty: recognised by its heading.",
        advanced=True,
        group="What",
    )
    entries: tuple[str, ...] = declared(
        (),
        title="Or typed in",
        help="Instead of a file: the accession numbers, Study Instance UIDs or patient IDs themselves.",
        type=FieldType.LIST,
        group="What",
    )
    identifier: Identifier = declared(
        Identifier.AUTO,
        title="The list has",
        help="What its entries are.",
        labels={
            "auto": "Recognise it",
            "accession": "Accession numbers",
            "study-uid": "Study Instance UIDs",
            "patient-id": "Patient IDs (all their studies)",
        },
        advanced=True,
        group="What",
    )
    after: After = declared(
        After.KEEP,
        title="At the source",
        help="Move deletes at the source exactly the images that were confirmed at every destination, nothing else.",
        labels={"keep": "Keep the images", "move": "Move: delete once confirmed"},
        group="What",
    )
    path: Path = declared(
        Path.AUTO,
        title="Path",
        help="The source sends straight to the destination, or everything comes through this computer.",
        labels={
            "auto": "Choose for me",
            "relay": "Through this computer (C-GET or C-MOVE, store and forward)",
            "push": "The source sends directly (C-MOVE)",
        },
        group="How",
    )
    unconfirmed_pushes: int = declared(
        2, title="Unconfirmed C-MOVEs", ge=1, le=64, advanced=True, group="Limits",
        help="Studies that the source may be sending directly at a time, for all jobs together.",
    )  # fmt: skip
    check_interval: float = declared(
        5.0, title="Look for what was sent every", unit="s", ge=0.05, le=3600, advanced=True, group="How",
        help="When the source sends directly: how often the destination is asked which images have arrived.",
    )  # fmt: skip
    arrival_wait: float = declared(
        60.0, title="Wait for a study", unit="s", ge=0, le=86400, advanced=True, group="How",
        help="When the source sends directly: how long after its end nothing new may arrive before it is sent again.",
    )  # fmt: skip
    disk_limit: str = declared(
        "", title="Pause when the disk is full to", advanced=True, group="Limits", placeholder="90 %",
        help="The destination's disk, in percent or as a size (90 %, 500 GB). Empty: no limit.",
    )  # fmt: skip
    on_error: OnError = declared(
        OnError.GO_ON,
        title="At an error",
        help="When an image has failed after all attempts.",
        labels={"go-on": "Go on with the others", "stop": "Stop the job"},
        advanced=True,
        group="Retries",
    )
    delays: Delays = declared(
        Delays.GROWING,
        title="Delays grow",
        help="Whether the delays between attempts follow one after the other, or the first one is always taken.",
        labels={"growing": "From attempt to attempt", "constant": "No, the first one is always taken"},
        advanced=True,
        group="Retries",
    )

    @field_validator("date_from", "date_to")
    @classmethod
    def _is_day(cls, value: str) -> str:
        return f"{parse_day(value):%Y%m%d}" if value else ""

    @field_validator("disk_limit")
    @classmethod
    def _is_limit(cls, value: str) -> str:
        try:
            parse_disk_limit(value)
        except FerryError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _one_choice(self) -> MigrateFields:
        ways = [bool(self.date_from or self.date_to), bool(self.list), bool(self.entries)]
        if sum(ways) > 1:
            raise ValueError("a range of days, a list in a file and entries exclude each other: give one of them")
        if self.date_to and not self.date_from:
            raise ValueError("the first day of the range is missing")
        if self.date_from and self.days[0] > self.days[1]:
            first, last = self.days
            what = f"the first day ({first}) is after the last ({last})"
            raise ValueError(what if self.date_to else f"the first day ({first}) is in the future")
        return self

    @property
    def days(self) -> tuple[dt.date, dt.date]:
        """First and last day of the range."""
        return parse_day(self.date_from), parse_day(self.date_to) if self.date_to else dt.date.today()

    def read(self) -> ListPreview | None:
        """The list, read now; None for a range of days.

        Raises
        ------
        ConfigurationError
        """
        if self.list:
            return read_list(FilePath(self.list), self.list_column, self.identifier)
        return typed_list(self.entries, self.identifier) if self.entries else None


class Migrate(TransferKind):
    """Finds day by day, or entry by entry; skips what is there; sends only what is missing again."""

    name = "migrate"
    title = "Migrate"
    summary = "Carry the studies of a range of days, or of a list, from one archive to another."
    icon = "migrate"
    Fields: ClassVar[type[TransferFields]] = MigrateFields

    def check(self, fields: JobFields, nodes: Mapping[str, Node], *, follow: bool) -> None:
        assert isinstance(fields, MigrateFields)
        options = self.options(fields, follow=follow)
        check_transfer(options, nodes, Trigger.STUDY)
        if options.disk_limit is not None:
            for name in options.destinations:
                need(nodes[name], DiskUse)
        if not (fields.date_from or fields.list or fields.entries):
            raise ConfigurationError(
                "Which studies are to be migrated is not said.",
                "Give a range of days (--date-from, --date-to), a list (--list), or entries (--entries).",
                code="migrate-what",
            )
        preview = fields.read()
        if preview is not None and not preview.accepted:
            first = preview.lost[0] if preview.lost else None
            why = f" Row {first.row}: {first.reason}" if first else ""
            raise ConfigurationError(
                f"The list has no entry that can be looked for.{why}", "Choose another list.", code="list-empty"
            )

    def options(self, fields: TransferFields, *, follow: bool) -> TransferOptions:
        assert isinstance(fields, MigrateFields)
        delays = fields.retry_delays[:1] if fields.delays is Delays.CONSTANT else fields.retry_delays
        return transfer_options(
            fields,
            follow=follow,
            after=fields.after,
            retry_delays=delays,
            unconfirmed_pushes=fields.unconfirmed_pushes,
            check_interval=fields.check_interval,
            arrival_wait=fields.arrival_wait,
            disk_limit=parse_disk_limit(fields.disk_limit),
            stop_at_error=fields.on_error is OnError.STOP,
            filtered=bool(fields.rule.parts),
        )

    def discover(self, fields: TransferFields, discovery: Discovery) -> Iterator[Found]:
        assert isinstance(fields, MigrateFields)
        if discovery.inventoried:
            return
        preview = fields.read()
        if preview is None:
            yield from _by_days(fields, discovery)
        else:
            name = FilePath(fields.list).name if fields.list else "the list"
            yield from _by_list(preview, fields.rule, discovery, name)


def _found(study: StudyInfo, rule: Rule, discovery: Discovery) -> Iterator[Found]:
    source = discovery.source
    assert isinstance(source, Inventory)
    if rule.parts:  # all is looked at again after a stop, so that what the rule leaves out is counted once
        yield from filtered(source, study, rule, discovery)
    elif not discovery.listed(study.study_uid):
        yield FoundStudy(study, source.instances(study, abort=discovery.abort))


# by days --------------------------------------------------------------------------------------------------


def _by_days(fields: MigrateFields, discovery: Discovery) -> Iterator[Found]:
    studies = DatedStudies(discovery, *fields.days, fields.order)
    for study in studies:
        yield from _found(study, fields.rule, discovery)
    if studies.stopped:
        return
    if fields.undated is not Undated.IGNORE and not (yield from _without_date(fields, discovery)):
        return
    yield InventoryDone(not studies.doubts, " ".join(studies.doubts))


def _without_date(fields: MigrateFields, discovery: Discovery) -> Generator[Found, None, bool]:
    """They lie in no range of days, so a list that lacks some of them lacks nothing of what was asked for.

    False when the job was stopped meanwhile.
    """
    source = discovery.source
    assert isinstance(source, Inventory)
    listing = source.studies(StudyQuery(), abort=discovery.abort)
    count = 0
    for study in listing:
        if not discovery.wait(0):
            return False
        if not day_of(study):
            count += 1
            if fields.undated is Undated.CARRY:
                yield from _found(study, fields.rule, discovery)
    if count and fields.undated is Undated.TELL:
        studies = "1 study without a date, which lies" if count == 1 else f"{count:,} studies without a date, which lie"
        step = "To carry them too, say so under “Studies without a date” (--undated carry)."
        yield Remark(f"{source.name} has {studies} in no range of days. {step}")
    if not listing.outcome.complete:
        yield Remark(f"Studies without a date may be missing: {listing.outcome.reason}")
    return True


# by list --------------------------------------------------------------------------------------------------


def _by_list(preview: ListPreview, rule: Rule, discovery: Discovery, name: str) -> Iterator[Found]:
    source = discovery.source
    assert isinstance(source, Inventory)
    given: set[str] = set()
    missing: list[int] = []
    doubts: dict[str, None] = {}
    for entry in preview.accepted:
        if not discovery.wait(0):
            return
        listing = source.studies(_query(entry, preview.identifier), abort=discovery.abort)
        found = False
        for study in listing:
            # Whoever does not understand the question and lists everything must not make us carry that.
            if _value(study, preview.identifier) != entry.value:
                continue
            found = True
            if study.study_uid not in given:
                given.add(study.study_uid)
                yield from _found(study, rule, discovery)
        if not listing.outcome.complete:
            doubts[listing.outcome.reason or f"{source.name} did not vouch for its list."] = None
        if not found:
            missing.append(entry.row)
    reasons = list(doubts)
    if missing:
        of_all = f"{len(missing):,} of {len(preview.accepted):,} {IDENTIFIER_WORDS[preview.identifier]}"
        reasons.insert(0, f"{of_all} of {name} were not found at {source.name}: {_rows(missing)}.")
    if preview.lost:
        lost = [one.row for one in preview.lost]
        rows = "1 row" if len(lost) == 1 else f"{len(lost):,} rows"
        was = "was" if len(lost) == 1 else "were"
        reasons.append(f"{rows} of {name} {was} not looked for: {_rows(lost)}. {preview.lost[0].reason}")
    yield InventoryDone(not reasons, " ".join(reasons))


def _query(entry: ListEntry, identifier: Identifier) -> StudyQuery:
    if identifier is Identifier.STUDY_UID:
        return StudyQuery(study_uids=(entry.value,))
    if identifier is Identifier.PATIENT_ID:
        return StudyQuery(patient_id=entry.value)
    return StudyQuery(accession=entry.value)


def _value(study: StudyInfo, identifier: Identifier) -> str:
    if identifier is Identifier.STUDY_UID:
        return study.study_uid
    return (study.patient_id if identifier is Identifier.PATIENT_ID else study.accession).strip()


def _rows(rows: list[int]) -> str:
    """Rows by their numbers: what stands in them may name a patient."""
    named = ", ".join(map(str, rows[:NAMED]))
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    return f"row {named}" if len(rows) == 1 else f"rows {named}{more}"


register(Migrate())
