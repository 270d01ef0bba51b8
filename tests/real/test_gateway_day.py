"""A gateway's day: 500 studies to Azure's service, with tokens that end, an outage and random faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom.uid as uids
import pytest

from core.model.outcome import DeliveryState, Method, SourceState
from tests.support.azure_service import AzureService
from tests.support.gateways import Hurrying, MovedClock, dcmsend, moved_clock, send_quickly, this_computer
from tests.support.running_app import RunningApp
from tests.support.studies import Study, make_study

STUDIES = 500
MODALITIES = ("CT", "MR", "CR", "US", "XA")
OUTAGE = 600.0  # seconds


@pytest.fixture
def time() -> Iterator[MovedClock]:
    with moved_clock() as moved:
        yield moved


@pytest.fixture
def running(tmp_path: Path, time: MovedClock) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


def register(running: RunningApp, service: AzureService) -> None:
    fields: dict[str, Any] = {
        "tenant": service.tenant,
        "client_id": service.client.client_id,
        "workspace": "hospital",
        "service": "archive",
        "service_url": service.url,
        "authority": service.authority,
    }
    running.app.secrets._session["Azure", "client_secret"] = service.secret
    running.app.nodes.add("azure", "Azure", fields, {})


def studies_of_a_day() -> list[Study]:
    """Most are small; one in fifty has implicit VR, which the service refuses as it is."""
    found = []
    for number in range(STUDIES - 1):
        implicit = number % 50 == 7
        syntax = uids.ImplicitVRLittleEndian if implicit else uids.ExplicitVRLittleEndian
        found.append(
            make_study(
                modality=MODALITIES[number % len(MODALITIES)],
                accession=f"D{number:04d}",
                patient_id=f"P{number % 180}",
                instances=1 + number % 3,
                transfer_syntax=syntax,
            )
        )
    return found


def expiring_in_mid_study(service: AzureService, study: Study) -> None:
    """All tokens end at the moment when the service has the third image of this study."""
    keep: Callable[..., None] = service.shelf.keep
    seen = itertools.count(1)

    def kept(key: tuple[str, str, str], *rest: Any) -> None:
        keep(key, *rest)
        if key[0] == study.study_uid and next(seen) == 3:
            service.expire_tokens()

    service.shelf.keep = kept  # type: ignore[method-assign, assignment]


def spool(running: RunningApp) -> set[str]:
    node: Any = running.app.nodes.open("Here")
    try:
        catalogue = node.spool.catalogue
        pages = (page for study in catalogue.studies() for page in catalogue.instances(study.study_uid))
        return {record.sop_uid for page in pages for record in page}
    finally:
        node.close()


@pytest.mark.parametrize("seed", [11])
def test_a_day_with_an_outage_ends_with_every_image_verified_or_named(
    running: RunningApp, time: MovedClock, tmp_path: Path, seed: int
) -> None:
    day = studies_of_a_day()
    large = make_study(modality="MG", accession="LARGE", instances=24)
    wrong = make_study(modality="OT", accession="WRONG", patient_id="TWO\\VALUES", instances=2)
    good = {uid for study in (*day, large) for uid in study.sop_uids}
    bad = set(wrong.sop_uids)
    with AzureService(seed=seed, fault_rate=0.04) as service:
        expiring_in_mid_study(service, large)
        register(running, service)
        port = this_computer(running)
        job = running.app.jobs.create(
            "gateway",
            {"source": ["Here"], "destination": ["Azure"], "keep_hours": 0, "poll_interval": 20},
        ).id
        with Hurrying(time, 30):
            dcmsend(port, [*large, *wrong], tmp_path / "modality")
            assert set(send_quickly(port, day[:200])) == {0}
            running.wait(lambda: len(service.held()) > 20, "the first images to arrive")
            began = time.time()
            service.faults.outage(began, began + OUTAGE)
            assert set(send_quickly(port, day[200:])) == {0}, "receiving goes on"
            running.wait(lambda: bool(running.record(job).note), "the outage to be noticed")
            running.wait(lambda: service.held() == good, "everything to arrive")
            running.wait(lambda: running.record(job).counts.verified == len(good), "everything to be verified")
            running.wait(lambda: spool(running) == bad, "the spool to hold exactly what is not confirmed")
            running.wait(lambda: not running.record(job).note, "no more to be said")
        record = running.record(job)
        counts = running.app.ledger.job_counts(job)
        assert counts == record.counts
        assert (counts.total, counts.verified, counts.failed) == (len(good) + 2, len(good), 2)
        assert record.studies == STUDIES + 1
        assert time.time() >= began + OUTAGE
        # What went wrong on the way did happen.
        kinds = {fault.kind for _, fault in service.faults.met}
        assert len(kinds) >= 3, kinds
        assert service.count("store", 401), "a token ended in mid-study"
        assert service.sign_in.given >= 2
        # Nothing that was verified was sent twice, nor anything else: what an answer was lost of was asked for.
        twice = {uid: n for uid, n in service.shelf.arrivals.items() if uid in good and n != 1}
        assert not twice
        running.wait(lambda: not any(r.source_state is SourceState.DELETING for r in running.rows(job)), "that noted")
        rows = {row.sop_uid: row for row in running.rows(job)}
        assert rows.keys() == good | bad
        for uid in good:
            assert rows[uid].state is DeliveryState.VERIFIED
            assert rows[uid].source_state is SourceState.DELETED
            assert rows[uid].evidence is not None
        assert running.methods(job) <= {Method.UID, Method.HEADER, Method.DIGEST}
        for uid in bad:
            failure = rows[uid].failure
            assert failure is not None
            assert failure.sentence
            assert failure.next_step
            assert rows[uid].source_state is SourceState.KEPT
        standing = running.app.jobs.gateway_standing(job)
        assert not standing.healthy, "two images need a person"
        assert standing.route.waiting_images == 0
        assert standing.route.failed_images == 2
