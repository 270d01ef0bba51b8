"""Reports: the proof of a job, image by image, as CSV, JSON or a page to print; written as it is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol, TextIO

from core.model.events import TransferRow
from core.model.job import JobRecord
from core.model.outcome import Counts, DeliveryState, EvidenceLevel, SourceState
from core.model.views import DeliveryRow, FailureGroup, TransferFilter
from core.reports_page import write_page

_ROWS = 500


class ReportFormat(StrEnum):
    CSV = "csv"
    JSON = "json"
    HTML = "html"


class Evidence(Protocol):
    """What a report reads of the ledger."""

    def transfers(self, filter: TransferFilter, *, offset: int = 0, limit: int = 500) -> list[TransferRow]: ...

    def deliveries(self, *, transfer_id: int | None = None, offset: int = 0, limit: int = 200) -> list[DeliveryRow]: ...

    def job_counts(self, job_id: int) -> Counts: ...

    def failure_groups(self, *, job_id: int | None = None) -> list[FailureGroup]: ...


COLUMNS = (
    "job", "pass", "study_uid", "patient_name", "patient_id", "study_date", "accession", "study_description",
    "source", "destination", "series_uid", "sop_instance_uid", "sop_class_uid", "bytes", "state", "path", "attempts",
    "planned_at", "sent_at", "answer", "evidence", "evidence_at", "digest_source", "digest_both", "evidence_note",
    "at_source", "failure_code", "failure", "next_step", "failure_side", "steps",
)  # fmt: skip
#: What ties an image to what steps made of it. A report names the patient: with these it says who a pseudonym is.
MAPPING_COLUMNS = ("sent_study_uid", "sent_series_uid", "sent_sop_instance_uid", "sent_patient_id", "digest_sent")


def write_report(ledger: Evidence, job: JobRecord, form: ReportFormat, out: TextIO, *, mapping: bool = False) -> int:
    """Write the report of a job's present pass; the number of deliveries in it.

    With `mapping` it also tells under which UIDs and patient ID each image was sent, where processing steps changed
    them; without, it leaves out whatever would tie an image to what they made of it.

    Studies and images are read page by page and written at once, so that memory stays the same however
    many there are. A CSV file wants ``newline=""`` and, for Excel, the encoding ``utf-8-sig``.
    Times are those of this computer with their zone (ISO 8601). A report holds patient data.
    """
    if form is ReportFormat.CSV:
        return _write_csv(ledger, job, out, mapping)
    if form is ReportFormat.JSON:
        return _write_json(ledger, job, out, mapping)
    counts, failures = ledger.job_counts(job.id), ledger.failure_groups(job_id=job.id)
    return write_page(job, counts, failures, studies(ledger, job), out, mapping=mapping)


def write_failed_list(ledger: Evidence, job: JobRecord, out: TextIO) -> int:
    """Write the Study Instance UIDs of what is not as the job wanted it, one a line; how many.

    Such a list is what a migration takes. In it is whatever failed, was cancelled, is different at a destination or
    still to be done there.
    """
    written: set[str] = set()
    for row, _images_of_it in studies(ledger, job):
        c = row.counts
        wanting = c.failed + c.cancelled + c.conflict + c.planned + c.sending
        if job.fields.get("evidence") != EvidenceLevel.SENT.value:
            wanting += c.sent
        if job.fields.get("evidence") == EvidenceLevel.COMMITTED.value:
            wanting += c.verified
        if wanting and row.study.study_uid not in written:
            written.add(row.study.study_uid)
            out.write(row.study.study_uid + "\n")
    return len(written)


def studies(ledger: Evidence, job: JobRecord) -> Iterator[tuple[TransferRow, Iterator[DeliveryRow]]]:
    """Each study on its way to each destination, and its images; the images may be left unread."""
    offset, last = 0, 0
    while page := ledger.transfers(TransferFilter(job_id=job.id), offset=offset, limit=_ROWS):
        for row in page:
            # Newest first: what a running job adds meanwhile pushes rows that were given onto the next page.
            if not last or row.id < last:
                last = row.id
                yield row, _images(ledger, row.id)
        offset += len(page)


def _images(ledger: Evidence, transfer_id: int) -> Iterator[DeliveryRow]:
    offset = 0
    while page := ledger.deliveries(transfer_id=transfer_id, offset=offset, limit=_ROWS):
        yield from page
        offset += len(page)


def _write_csv(ledger: Evidence, job: JobRecord, out: TextIO, mapping: bool) -> int:
    writer = csv.writer(out)
    columns = (*COLUMNS, *MAPPING_COLUMNS) if mapping else COLUMNS
    writer.writerow(columns)
    count = 0
    for row, images in studies(ledger, job):
        for image in images:
            values = _flat(job, row, image, mapping)
            writer.writerow([_harmless(values[name]) for name in columns])
            count += 1
    return count


def _harmless(value: object) -> object:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value


def _write_json(ledger: Evidence, job: JobRecord, out: TextIO, mapping: bool) -> int:
    """One object; its lists are written element by element."""
    counts = ledger.job_counts(job.id)
    head = {
        "report": "DICOM Ferry", "written": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        "job": job.id, "name": job.name, "kind": job.kind, "pass": job.pass_number, "state": job.state.value,
        "fields": job.fields, "started": _time(job.started), "finished": _time(job.finished),
        "problem": job.problem, "left_out": job.left_out, "counts": _counted(counts),
    }  # fmt: skip
    out.write(json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}"))
    groups = [
        {
            "count": g.count, "node": g.node, "code": g.failure.code, "failure": g.failure.sentence,
            "next_step": g.failure.next_step,
        }
        for g in ledger.failure_groups(job_id=job.id)
    ]  # fmt: skip
    out.write(f',\n "failures": {json.dumps(groups, ensure_ascii=False)},\n "studies": [')
    count = 0
    for number, (row, images) in enumerate(studies(ledger, job)):
        s = row.study
        study = {
            "study_uid": s.study_uid, "patient_name": s.patient_name, "patient_id": s.patient_id,
            "study_date": s.study_date, "accession": s.accession, "description": s.description,
            "source": row.source, "destination": row.destination, "instead_of": row.instead_of,
            "state": row.state.value, "path": row.path, "path_reason": row.path_reason,
            "counts": _counted(row.counts),
        }  # fmt: skip
        text = json.dumps(study, ensure_ascii=False).removesuffix("}")
        out.write(f'{"," if number else ""}\n  {text}, "images": [')
        for position, image in enumerate(images):
            flat = {k: v for k, v in _flat(job, row, image, mapping).items() if k not in _OF_STUDY}
            out.write(f"{',' if position else ''}\n   {json.dumps(flat, ensure_ascii=False)}")
            count += 1
        out.write("]}")
    out.write("\n ]\n}\n")
    return count


_OF_STUDY = frozenset(COLUMNS[:10])


def _flat(job: JobRecord, row: TransferRow, image: DeliveryRow, mapping: bool) -> dict[str, object]:
    s, evidence, failure, change = row.study, image.evidence, image.failure, image.change
    told = mapping or change is None or not change.done
    sent = {
        "sent_study_uid": change.study_uid if change else s.study_uid,
        "sent_series_uid": change.series_uid if change else image.series_uid,
        "sent_sop_instance_uid": change.sop_uid if change else image.sop_uid,
        "sent_patient_id": change.patient_id if change else s.patient_id,
        "digest_sent": change.digest if change else "",
    }
    return {
        "job": job.id,
        "pass": job.pass_number,
        "study_uid": s.study_uid,
        "patient_name": s.patient_name,
        "patient_id": s.patient_id,
        "study_date": s.study_date,
        "accession": s.accession,
        "study_description": s.description,
        "source": row.source,
        "destination": row.destination,
        "series_uid": image.series_uid,
        "sop_instance_uid": image.sop_uid,
        "sop_class_uid": image.sop_class,
        "bytes": image.size,
        "state": image.state.value,
        "path": image.path or row.path,
        "attempts": image.attempt,
        "planned_at": _time(image.planned_at),
        "sent_at": _time(image.sent_at),
        "answer": image.answer,
        "evidence": evidence.method.value if evidence else "",
        "evidence_at": _time(evidence.at) if evidence else None,
        "digest_source": image.source_digest,
        "digest_both": evidence.digest if evidence and told else "",
        "evidence_note": evidence.note if evidence else "",
        "at_source": "" if image.source_state is SourceState.KEPT else image.source_state.value,
        "failure_code": failure.code if failure else "",
        "failure": failure.sentence if failure else "",
        "next_step": failure.next_step if failure else "",
        "failure_side": failure.side if failure else "",
        "steps": " ".join(change.done) if change else "",
        **(sent if mapping else {}),
    }


def _counted(counts: Counts) -> dict[str, int]:
    found = {"planned": counts.total}
    for state in DeliveryState:
        if state is not DeliveryState.PLANNED:
            found[state.value] = counts.of(state)
    return {**found, "bytes": counts.bytes_done, "bytes_total": counts.bytes_total}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone().isoformat(timespec="milliseconds")
