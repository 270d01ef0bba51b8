"""A home whose ledger looks like a hospital's day, for tests and pictures of the window; no engine runs on it."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.engine import Engine

from core.app import App
from core.ledger import schema as t
from core.ledger.store import open_database
from core.model.diagnosis import DiagnosisStep, Profile, StepResult
from core.model.events import TransferRow
from core.model.outcome import Counts, StudyState
from core.model.study import StudyInfo


@dataclass(frozen=True)
class Case:
    """A study on its way: how it is shown, and how many images are in which state."""

    name: str
    patient_id: str
    sex: str
    born: str
    modality: str
    description: str
    source: str
    destination: str
    state: StudyState
    counts: Counts
    reason: str = ""
    next_step: str = ""
    series: tuple[tuple[str, str, int], ...] = ()
    instead_of: str = ""


US_REASON = "PACS West doesn't accept “Ultrasound Multi-frame” in JPEG."
US_NEXT = "Ask for that SOP class to be enabled, or send decompressed."
CASES = (
    Case("MÜLLER^Anna", "4711-02", "F", "1958", "CT", "Thorax / Abdomen", "CT 2", "Cloud archive",
         StudyState.SENDING,
         Counts(planned=584, sent=200, verified=1004, bytes_total=939_000_000, bytes_done=630_000_000),
         series=(("2", "Thorax 1 mm", 1004), ("3", "Abdomen 3 mm", 612), ("4", "Dose report", 172))),
    Case("TAKAHASHI^Ken'ichi", "TK-99120", "M", "1971", "MR", "Knee left", "Orthanc MRI", "Cloud archive",
         StudyState.CONFIRMING, Counts(sent=384, verified=258, bytes_total=337_000_000, bytes_done=337_000_000),
         series=(("1", "PD FS sagittal", 642),)),
    Case("DUPONT^Jean", "0088123", "M", "1949", "CT", "Head without contrast", "CT 2", "PACS West",
         StudyState.SENT, Counts(sent=212, bytes_total=111_000_000, bytes_done=111_000_000),
         series=(("1", "Head 1 mm", 212),)),
    Case("OKAFOR^Chidi", "P-33107", "M", "1990", "US", "Abdomen", "Inbox", "PACS West",
         StudyState.ATTENTION, Counts(verified=46, failed=2, bytes_total=88_000_000, bytes_done=80_000_000),
         US_REASON, US_NEXT, series=(("1", "Abdomen", 48),)),
    Case("NOVÁKOVÁ^Eva", "771204", "F", "1977", "MG", "Screening bilateral", "Orthanc MG", "Cloud archive",
         StudyState.CONFIRMED, Counts(verified=8, bytes_total=210_000_000, bytes_done=210_000_000),
         series=(("1", "R MLO", 4), ("2", "L MLO", 4))),
    Case("SMITH^John Q.", "1002934", "M", "1962", "CT", "Angiography coronary", "CT 2", "Cloud archive",
         StudyState.COMMITTED, Counts(committed=3310, bytes_total=1_740_000_000, bytes_done=1_740_000_000),
         series=(("5", "CTA 0.5 mm", 3310),)),
    Case("GARCÍA^María", "AC-5521", "F", "1984", "DX", "Chest PA", "Inbox", "PACS West",
         StudyState.ALREADY_THERE, Counts(skipped=2, bytes_total=18_000_000, bytes_done=18_000_000),
         series=(("1", "PA", 1), ("2", "Lateral", 1))),
    Case("ROSSI^Paolo", "9921-B", "M", "2001", "MR", "Brain", "Orthanc MRI", "Cloud archive",
         StudyState.WAITING, Counts(planned=1120, bytes_total=588_000_000), "window 19:00",
         series=(("1", "T1", 400), ("2", "T2 FLAIR", 720))),
    Case("ΠΑΠΑΔΟΠΟΥΛΟΣ^Νίκος", "GR-118", "M", "1969", "CR", "Hand left", "Inbox", "PACS West",
         StudyState.DIFFERENT, Counts(verified=1, conflict=1, bytes_total=14_000_000, bytes_done=7_000_000),
         "PACS West holds another image under the same UID.", "Compare them, then replace or leave them.",
         series=(("1", "AP", 2),)),
    Case("AL-FARSI^Layla", "OM-4410", "F", "1993", "CT", "Sinuses", "CT 2", "PACS West",
         StudyState.FAILED, Counts(failed=96, bytes_total=50_000_000),
         "PACS West does not answer at 10.4.9.8:104.", "Check that the server is switched on and reachable.",
         series=(("1", "Sinuses 1 mm", 96),)),
    Case("NOWAK^Ewa", "PL-20", "F", "2010", "DX", "Ankle right", "Inbox", "PACS West",
         StudyState.CANCELLED, Counts(cancelled=3, bytes_total=27_000_000), series=(("1", "AP", 3),)),
)  # fmt: skip
NODES = (
    ("CT 2", "orthanc", {"url": "https://ct2.lan:8042", "username": "ferry"}, None),
    ("Cloud archive", "orthanc", {"url": "https://archive.hospital.lan", "username": "ferry"}, "works"),
    ("Inbox", "folder", {"path": "/srv/inbox"}, "works"),
    ("Orthanc MG", "orthanc", {"url": "http://mg.lan:8042"}, "works"),
    ("Orthanc MRI", "orthanc", {"url": "https://mri.lan:8042", "username": "ferry"}, "works"),
    ("PACS West", "orthanc", {"url": "https://pacs-west.hospital.lan", "username": "ferry"}, "broken"),
)
_FILLERS = (
    "BERG^Ida",
    "CHEN^Wei",
    "COHEN^Noa",
    "EVANS^Rhys",
    "HOFMANN^Jörg",
    "IVANOVA^Olga",
    "KIM^Min-jun",
    "LOPEZ^Ana",
)


def open_hospital(folder: Path, *, filled: bool = True, more: int = 0) -> App:
    """An opened home with nodes, jobs, the `CASES` and `more` confirmed studies besides."""
    app = App.open(folder)
    if filled:
        _nodes(app)
        database = open_database(app.home.ledger_file)
        try:
            _fill(database, more)
        finally:
            database.dispose()
    return app


def _nodes(app: App) -> None:
    good = (
        DiagnosisStep("Name found", StepResult.OK, "pacs-west.hospital.lan → 10.4.2.17"),
        DiagnosisStep("Port answers", StepResult.OK, "443/tcp in 3 ms"),
        DiagnosisStep("Certificate trusted", StepResult.OK, "signed by an authority that this computer knows"),
        DiagnosisStep("HTTP answers", StepResult.OK, "status 200"),
        DiagnosisStep("Login accepted", StepResult.OK, "as ferry"),
        DiagnosisStep("Is an Orthanc", StepResult.OK, "Orthanc 1.12.7 “PACSWEST”"),
        DiagnosisStep("May read", StepResult.OK, "18420 studies with 6120334 images"),
    )
    bad = DiagnosisStep(
        "May write", StepResult.FAILED, "The server does not let this user store images.",
        "Ask its administrator to allow the user “ferry” to POST to /instances.", "403 Forbidden",
    )  # fmt: skip
    warned = DiagnosisStep(
        "Digests in bulk", StepResult.WARNING, "This server is older than 1.12.5: digests come one by one.",
        "Nothing needs to be done; confirming takes a little longer.",
    )  # fmt: skip
    for name, kind, fields, state in NODES:
        app.nodes.add(kind, name, fields, {})
        facts = (("version", "1.12.7"),) if kind == "orthanc" else ()
        if state == "works":
            app.ledger.save_profile(name, Profile(datetime.now(UTC), good, facts))
        elif state == "broken":
            app.ledger.save_profile(name, Profile(datetime.now(UTC), (*good, bad, warned), facts))


def _fill(database: Engine, more: int) -> None:
    now = time.time()
    random.seed(7)
    with database.begin() as connection:
        jobs = (
            (1, "Forward Inbox to PACS West", "forward", ["Inbox", "CT 2"], ["PACS West"], True, "running"),
            (2, "Move CT 2 to the cloud", "forward", ["CT 2"], ["Cloud archive"], False, "running"),
            (3, "Clone Orthanc MRI to Cloud archive", "clone", ["Orthanc MRI"], ["Cloud archive"], False, "paused"),
            (4, "Clone Orthanc MG to Cloud archive", "clone", ["Orthanc MG"], ["Cloud archive"], False, "finished"),
        )
        for number, name, kind, source, destination, follow, state in jobs:
            fields: dict[str, Any] = {"source": source, "destination": destination, "evidence": "verified"}
            if kind == "forward":
                fields["after"] = "move" if number == 2 else "keep"
            connection.execute(
                insert(t.jobs).values(
                    id=number, name=name, kind=kind, fields=fields, fingerprint=str(number), follow=follow,
                    state=state, pass_number=1, planning=False, created=now - 9000, started=now - 8000 + number * 60,
                    finished=now - 400 if state == "finished" else None,
                )
            )  # fmt: skip
        ids = _Ids()
        for at in range(more):
            _case(connection, ids, _filler(at), now - 3600 - at)
        for at, case in enumerate(reversed(CASES)):
            _case(connection, ids, case, now - 60 * (len(CASES) - at))
        _log_lines(connection, now)


@dataclass
class _Ids:
    study: int = 0
    instance: int = 0


def _filler(at: int) -> Case:
    base = CASES[4]
    return replace(base, name=_FILLERS[at % len(_FILLERS)], patient_id=f"{100000 + at}", series=(("1", "Study", 8),))


def _job_of(case: Case) -> int:
    if case.destination == "PACS West":
        return 1
    return {"CT 2": 2, "Orthanc MRI": 3, "Orthanc MG": 4}[case.source]


def _case(connection: Any, ids: _Ids, case: Case, at: float) -> None:
    ids.study += 1
    moment = datetime.fromtimestamp(at).astimezone()
    study_uid = f"1.2.826.0.1.3680043.8.498.{ids.study:012d}"
    connection.execute(
        insert(t.studies).values(
            id=ids.study, job_id=_job_of(case), pass_number=1, source=case.source, study_uid=study_uid, ref=study_uid,
            patient_name=case.name, patient_id=case.patient_id, birth_date=f"{case.born}0101", sex=case.sex,
            study_date=f"{moment:%Y%m%d}", study_time=f"{moment:%H%M%S}", description=case.description,
            accession=f"A{ids.study:07d}", modalities=case.modality, listed=at,
        )
    )  # fmt: skip
    counts = {name: getattr(case.counts, name) for name in Counts.__slots__}
    push = case.counts.bytes_total > 900_000_000
    connection.execute(
        insert(t.transfers).values(
            id=ids.study, study_id=ids.study, job_id=_job_of(case), pass_number=1, source=case.source,
            destination=case.destination, path="" if case.state is StudyState.WAITING else "relay",
            path_reason="" if case.state is StudyState.WAITING else (
                "Proof for each image; the server's own push would be 8 % slower." if push else
                "Small images travel faster through this computer."),
            state=case.state.value, needs_person=case.state is StudyState.ATTENTION, reason=case.reason,
            next_step=case.next_step, attempt=0 if case.state is StudyState.WAITING else 1,
            started=None if case.state is StudyState.WAITING else at, updated=at, revision=ids.study, **counts,
        )
    )  # fmt: skip
    _images(connection, ids, case, study_uid, at)


def _images(connection: Any, ids: _Ids, case: Case, study_uid: str, at: float) -> None:
    states: list[str] = []
    for name in ("verified", "committed", "skipped", "sent", "failed", "conflict", "cancelled", "planned"):
        states += [name] * getattr(case.counts, name)
    failure = None
    if case.counts.failed:
        row = connection.execute(
            insert(t.failures).values(
                code="sop-class", **{"class": "person"}, sentence=case.reason, next_step=case.next_step,
                detail="0122 SOP Class not supported", side="destination",
                hash=hashlib.sha256(case.reason.encode()).hexdigest(),
            )
        )  # fmt: skip
        failure = row.inserted_primary_key[0]
    instances, deliveries, number = [], [], 0
    for series_number, description, size in case.series:
        series_uid = f"{study_uid}.{series_number}"
        connection.execute(
            insert(t.series).values(
                study_id=ids.study, series_uid=series_uid, number=series_number, modality=case.modality,
                description=description,
            )
        )  # fmt: skip
        for image in range(size):
            ids.instance += 1
            state = states[number]
            number += 1
            digest = hashlib.md5(f"{ids.instance}".encode(), usedforsecurity=False).hexdigest()
            instances.append(
                {
                    "id": ids.instance, "study_id": ids.study, "sop_uid": f"{series_uid}.{image + 1}",
                    "series_uid": series_uid, "sop_class": "1.2.840.10008.5.1.4.1.1.2", "ref": str(ids.instance),
                    "size": 525_000, "digest": digest, "source_state": "kept",
                }
            )  # fmt: skip
            proved = state in ("verified", "committed", "skipped")
            answered = proved or state in ("sent", "conflict")
            deliveries.append(
                {
                    "id": ids.instance, "transfer_id": ids.study, "instance_id": ids.instance, "state": state,
                    "attempt": 1 if state != "planned" else 0, "path": "relay", "planned_at": at,
                    "sent_at": at + 20 if answered else None, "answer": "200 Success" if answered else "",
                    "method": ("commitment" if state == "committed" else "digest") if proved else None,
                    "evidence_at": at + 24 if proved else None, "evidence_digest": digest if proved else None,
                    "evidence_note": "", "failure_id": failure if state == "failed" else None,
                }
            )  # fmt: skip
    _many(connection, t.instances, instances)
    _many(connection, t.deliveries, deliveries)


def _many(connection: Any, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(rows), 5000):
        connection.execute(insert(table), rows[start : start + 5000])


def _log_lines(connection: Any, now: float) -> None:
    lines = (
        ("info", "“Clone Orthanc MG to Cloud archive” has ended: 8 images confirmed.", 4, "", ""),
        ("warning", "Orthanc MRI answered slowly; fewer connections are used.", 3, "Orthanc MRI", "503, Retry-After 5"),
        ("error", "PACS West does not answer. It is asked every 30 s, and nothing else goes to it.", 1, "PACS West",
         "connection refused"),
        ("error", "PACS West does not answer. It is asked every 30 s, and nothing else goes to it.", 1, "PACS West",
         "connection refused"),
        ("info", "PACS West is back.", 1, "PACS West", ""),
        ("error", US_REASON, 1, "PACS West", "0122 SOP Class not supported"),
        ("info", "“Move CT 2 to the cloud” was started.", 2, "", ""),
    )  # fmt: skip
    for at, (level, text, job, node, detail) in enumerate(lines):
        connection.execute(
            insert(t.log).values(
                id=at + 1, at=now - 600 + at * 45, level=level, text=text, job_id=job, node=node, detail=detail
            )
        )


def some_rows(number: int, *, first: int = 1, state: StudyState = StudyState.WAITING) -> list[TransferRow]:
    """Rows without a ledger, newest first."""
    return [
        TransferRow(
            id=first + at,
            job_id=1,
            study_id=first + at,
            study=StudyInfo(f"1.2.{first + at}", patient_name=f"PATIENT^{first + at}", patient_id=str(first + at)),
            source="A",
            destination="B",
            state=state,
            counts=Counts(planned=10),
        )
        for at in reversed(range(number))
    ]


def ids_of(rows: Iterable[TransferRow]) -> list[int]:
    return [r.id for r in rows]
