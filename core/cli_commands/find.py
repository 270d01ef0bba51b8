"""`dicom-ferry find`: which studies, series or images a node holds."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from core.cli_commands.opening import opened
from core.cli_commands.speaking import Speaker, exit_with, speaking
from core.jobs.base import need
from core.model.errors import ConfigurationError
from core.model.study import InstanceRef, Level, StudyInfo, StudyQuery
from core.nodes.base import Inventory

_SERIES_TAGS = frozenset({"Modality", "SeriesDescription", "SeriesNumber"})
_TABLE_ROWS = 500
_WIDE = 150  # columns of a terminal beside which a UID has its place
_MIN_WIDTHS = {"Date": 8, "Patient": 16, "ID": 8, "Description": 12}


def find(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name of a registered node.")],
    patient_id: Annotated[str, typer.Option(help="Patient ID.")] = "",
    name: Annotated[str, typer.Option(help="Patient name; * and ? stand for anything.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    study_uid: Annotated[list[str] | None, typer.Option(help="Study Instance UID; may be given again.")] = None,
    date: Annotated[
        str, typer.Option(metavar="YYYYMMDD[-YYYYMMDD]", help="Study date, or a range with both ends (20240101-).")
    ] = "",
    modality: Annotated[list[str] | None, typer.Option(help="Modality (CT, MR, …); may be given again.")] = None,
    description: Annotated[str, typer.Option(help="Study description; * and ? stand for anything.")] = "",
    level: Annotated[Level, typer.Option(help="What to list.")] = Level.STUDY,
    json: Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")] = False,
) -> None:
    """Ask a node which studies it holds, down to series or images.

    Exit status 1 when the node would not vouch that the list is whole.
    """
    complete = True
    with speaking(json=json) as speaker:
        first, last = _dates(date)
        query = StudyQuery(
            study_uids=tuple(study_uid or ()),
            patient_id=patient_id,
            patient_name=name,
            accession=accession,
            date_from=first,
            date_to=last,
            modalities=tuple(m.upper() for m in modality or ()),
            description=description,
        )
        with opened() as app:
            opened_node = app.nodes.open(node)
            try:
                need(opened_node, Inventory)
                assert isinstance(opened_node, Inventory)
                listing = opened_node.studies(query)
                answer = _Answer(speaker, level)
                for study in listing:
                    answer.add(opened_node, study)
                answer.end()
                outcome = listing.outcome
                complete = outcome.complete
                speaker.data(
                    "finished", studies=answer.studies, listed=answer.rows, complete=complete, reason=outcome.reason
                )
                if not complete:
                    speaker.remark(f"This list may not be all: {outcome.reason}", "yellow")
            finally:
                opened_node.close()
    exit_with(0 if complete else 1)


class _Answer:
    """Prints what is found in tables of some hundred rows, so that a long list needs no memory."""

    def __init__(self, speaker: Speaker, level: Level) -> None:
        self.speaker, self.level = speaker, level
        self.studies = self.rows = 0
        self.without_uids = level is not Level.INSTANCE and speaker.out.width < _WIDE
        self._table = self._empty()

    def add(self, node: Inventory, study: StudyInfo) -> None:
        self.studies += 1
        if self.level is Level.STUDY:
            self._study(study)
        elif self.level is Level.SERIES:
            self._series(node, study)
        else:
            for page in node.instances(study, digests=False):
                for instance in page:
                    self._instance(study, instance)

    def end(self) -> None:
        self._flush()
        one, many = {
            Level.STUDY: ("study", "studies"),
            Level.SERIES: ("series", "series"),
            Level.INSTANCE: ("image", "images"),
        }[self.level]
        self.speaker.say(f"{self.rows:,} {one if self.rows == 1 else many}.")
        if self.without_uids and self.rows:
            self.speaker.say("For their UIDs use --json, a wider terminal, or a file.", "dim")

    def _study(self, s: StudyInfo) -> None:
        self.speaker.data(
            "study", study_uid=s.study_uid, patient_name=s.patient_name, patient_id=s.patient_id,
            birth_date=s.birth_date, study_date=s.study_date, accession=s.accession, description=s.description,
            modalities=list(s.modalities), instances=s.instance_count,
        )  # fmt: skip
        count = "" if s.instance_count is None else str(s.instance_count)
        self._row(s.study_date, s.patient_name, s.patient_id, s.accession, "/".join(s.modalities), s.description,
                  count, s.study_uid)  # fmt: skip

    def _series(self, node: Inventory, study: StudyInfo) -> None:
        counts: Counter[str] = Counter()
        examples: dict[str, InstanceRef] = {}
        for page in node.instances(study, digests=False):
            for instance in page:
                counts[instance.series_uid] += 1
                examples.setdefault(instance.series_uid, instance)
        unnamed = [one for one in examples.values() if one.series is None]
        tags = {one.series_uid: found for one, found in zip(unnamed, node.tags(unnamed, _SERIES_TAGS), strict=True)}
        for uid, example in examples.items():
            known, found = example.series, tags.get(uid, {})
            modality = known.modality if known else found.get("Modality", "")
            text = known.description if known else found.get("SeriesDescription", "")
            number = known.number if known else found.get("SeriesNumber", "")
            self.speaker.data(
                "series", study_uid=study.study_uid, series_uid=uid, modality=modality, number=number,
                description=text, instances=counts[uid], patient_id=study.patient_id,
            )  # fmt: skip
            self._row(study.study_date, study.patient_name, study.patient_id, number, modality, text,
                      str(counts[uid]), uid)  # fmt: skip

    def _instance(self, study: StudyInfo, i: InstanceRef) -> None:
        self.speaker.data(
            "instance", study_uid=i.study_uid, series_uid=i.series_uid, sop_uid=i.sop_uid, sop_class=i.sop_class,
            size=i.size, patient_id=study.patient_id,
        )  # fmt: skip
        self._row(study.study_date, study.patient_id, i.series_uid, i.sop_uid)

    def _row(self, *cells: str) -> None:
        self.rows += 1
        if self.speaker.json:
            return
        self._table.add_row(*(escape(c) for c in cells[: len(self._table.columns)]))
        if self._table.row_count >= _TABLE_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._table.row_count:
            self.speaker.show(self._table)
        self._table = self._empty()

    def _empty(self) -> Table:
        heads = {
            Level.STUDY: ("Date", "Patient", "ID", "Accession", "Modality", "Description", "Images", "Study UID"),
            Level.SERIES: ("Date", "Patient", "ID", "Series", "Modality", "Description", "Images", "Series UID"),
            Level.INSTANCE: ("Date", "ID", "Series UID", "SOP Instance UID"),
        }[self.level]
        if self.without_uids:
            heads = heads[:-1]
        table = Table(box=None, header_style="bold", pad_edge=False)
        for head in heads:
            table.add_column(
                head,
                no_wrap=True,
                min_width=_MIN_WIDTHS.get(head, len(head)),
                justify="right" if head == "Images" else "left",
            )
        return table


def _dates(text: str) -> tuple[str, str]:
    """First and last day of "20240101", "20240101-20241231", "20240101-" or "-20241231"."""
    if not text:
        return "", ""
    match = re.fullmatch(r"(\d{8})?(-)?(\d{8})?", text.strip())
    if not match or not (match[1] or match[3]) or (match[1] and match[3] and not match[2]):
        raise ConfigurationError(
            f"“{text}” is not a date.", "Write --date 20240131, or a range: --date 20240101-20241231.", code="date"
        )
    first, last = match[1] or "", match[3] or ""
    if match[1] and not match[2]:
        last = first
    if first and last and first > last:
        raise ConfigurationError(f"The range {text} ends before it begins.", "Turn it round.", code="date")
    return first, last
