"""Reports: every image once, in three forms, harmless to spreadsheets and browsers, in constant memory."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from core.model.events import TransferRow
from core.model.job import JobRecord, JobState
from core.model.outcome import (
    Counts,
    DeliveryState,
    Evidence,
    Failure,
    FailureClass,
    Method,
    SourceState,
    StudyState,
)
from core.model.study import StudyInfo
from core.model.views import DeliveryRow, FailureGroup, TransferFilter
from core.reports import COLUMNS, ReportFormat, write_report

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
FAILURE = Failure(
    "http-507", FailureClass.RETRY, "The disk of the server is full.", "Free space there.", side="destination"
)


class Proofs:
    """A ledger's reading side with as many images as asked for, each made when it is read."""

    def __init__(self, studies: int, images: int, name: str = "Wang^XiaoDong=王^小東") -> None:
        self.studies, self.images, self.name = studies, images, name

    def transfers(self, filter: TransferFilter, *, offset: int = 0, limit: int = 500) -> list[TransferRow]:
        assert filter.job_id == 4
        return [self._row(self.studies - n) for n in range(offset, min(offset + limit, self.studies))]

    def deliveries(self, *, transfer_id: int | None = None, offset: int = 0, limit: int = 200) -> list[DeliveryRow]:
        assert transfer_id is not None
        return [self._image(transfer_id, n) for n in range(offset, min(offset + limit, self.images))]

    def job_counts(self, job_id: int) -> Counts:
        total = self.studies * self.images
        return Counts(verified=total - self.studies, failed=self.studies, bytes_done=total * 1000)

    def failure_groups(self, *, job_id: int | None = None) -> list[FailureGroup]:
        return [FailureGroup(FAILURE, self.studies, "archive", (1,))]

    def _row(self, number: int) -> TransferRow:
        study = StudyInfo(
            f"1.2.{number}", patient_name=self.name, patient_id=f"=HYPERLINK({number})", study_date="20260401",
            description="<script>alert(1)</script>", modalities=("CT",), accession="A1",
        )  # fmt: skip
        counts = Counts(verified=self.images - 1, failed=1)
        return TransferRow(
            number, 4, number, study, "mri", "archive", StudyState.ATTENTION, counts, path="relay", path_reason="proof"
        )

    def _image(self, transfer: int, number: int) -> DeliveryRow:
        bad = number == 0
        return DeliveryRow(
            id=transfer * 10**6 + number, transfer_id=transfer, sop_uid=f"1.2.{transfer}.3.{number}",
            series_uid=f"1.2.{transfer}.3", sop_class="1.2.840", size=1000, source="mri", destination="archive",
            state=DeliveryState.FAILED if bad else DeliveryState.VERIFIED, path="relay", attempt=5 if bad else 1,
            planned_at=AT, sent_at=None if bad else AT, answer="507" if bad else "200 Success",
            evidence=None if bad else Evidence(Method.DIGEST, AT, digest="d41d8cd98f00b204e9800998ecf8427e"),
            failure=FAILURE if bad else None, next_attempt=None,
            source_state=SourceState.KEPT if bad else SourceState.DELETED, source_digest="", destination_ref="",
        )  # fmt: skip


JOB = JobRecord(
    4, "Night & day", "forward", {"source": ["mri"], "destination": ["archive"]}, JobState.FINISHED, 2, False, AT, AT,
    AT, False, Counts(), 3,
)  # fmt: skip


def written(form: ReportFormat, proofs: Proofs) -> str:
    out = io.StringIO(newline="")
    assert write_report(proofs, JOB, form, out) == proofs.studies * proofs.images
    return out.getvalue()


def test_csv_has_a_line_for_each_image() -> None:
    rows = list(csv.DictReader(io.StringIO(written(ReportFormat.CSV, Proofs(3, 4)), newline="")))
    assert len(rows) == 12
    assert tuple(rows[0]) == COLUMNS
    assert len({r["sop_instance_uid"] for r in rows}) == 12
    good, bad = rows[1], rows[0]
    assert (good["state"], good["evidence"], good["answer"], good["at_source"]) == (
        "verified", "digest", "200 Success", "deleted",
    )  # fmt: skip
    assert datetime.fromisoformat(good["evidence_at"]) == AT
    assert good["digest_both"] == "d41d8cd98f00b204e9800998ecf8427e"
    assert (bad["state"], bad["failure_code"], bad["attempts"]) == ("failed", "http-507", "5")
    assert bad["failure"] == "The disk of the server is full."
    assert bad["next_step"] == "Free space there."


def test_csv_starts_no_formula_in_a_spreadsheet() -> None:
    rows = list(csv.DictReader(io.StringIO(written(ReportFormat.CSV, Proofs(1, 1, name="@SUM(A1)")), newline="")))
    assert rows[0]["patient_id"] == "'=HYPERLINK(1)"
    assert rows[0]["patient_name"] == "'@SUM(A1)"


def test_json_is_one_object() -> None:
    report = json.loads(written(ReportFormat.JSON, Proofs(3, 4)))
    assert (report["job"], report["name"], report["pass"]) == (4, "Night & day", 2)
    assert report["counts"]["planned"] == 12
    assert report["counts"]["verified"] == 9
    assert report["failures"] == [
        {
            "count": 3,
            "node": "archive",
            "code": "http-507",
            "failure": "The disk of the server is full.",
            "next_step": "Free space there.",
        }
    ]
    assert [s["study_uid"] for s in report["studies"]] == ["1.2.3", "1.2.2", "1.2.1"]
    assert report["studies"][0]["patient_name"] == "Wang^XiaoDong=王^小東"
    assert len(report["studies"][2]["images"]) == 4
    assert "study_uid" not in report["studies"][0]["images"][0]


def test_json_of_nothing_is_an_object_too() -> None:
    assert json.loads(written(ReportFormat.JSON, Proofs(0, 0)))["studies"] == []


class Tags(HTMLParser):
    """Counts tags and notices addresses outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.outside += [str(v) for k, v in attrs if k in ("src", "href", "action")]


def test_html_needs_nothing_but_itself_and_runs_nothing_of_others() -> None:
    page = written(ReportFormat.HTML, Proofs(3, 4))
    tags = Tags()
    tags.feed(page)
    assert tags.seen["details"] == 3
    assert tags.seen["tr"] == 3 + 12
    assert tags.seen["script"] == 1  # ours, that unfolds for printing
    assert not tags.outside
    assert "@import" not in page
    assert "url(" not in page
    assert "Wang, XiaoDong · 王, 小東" in page
    assert "Night &amp; day" in page
    assert "same digest on both sides" in page
    assert "The disk of the server is full." in page
    assert "deleted at the source" in page
    assert "not for diagnosis" in page


@pytest.mark.parametrize("form", list(ReportFormat))
def test_memory_does_not_grow_with_the_images(form: ReportFormat) -> None:
    class Nowhere(io.StringIO):
        def write(self, text: str) -> int:
            return len(text)

    def peak(images: int) -> int:
        tracemalloc.start()
        write_report(Proofs(2, images), JOB, form, Nowhere())
        _now, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # Two pages of 500 take 1 MB; 20,000 images held at once would take 16 MB.
    assert peak(10_000) < 3_000_000
