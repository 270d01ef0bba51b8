"""The ledger: opening, the one writer, planning, and totals that always equal the deliveries themselves."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, func, insert, select, text, update
from sqlalchemy.exc import OperationalError

from core.ledger import schema as t
from core.ledger import store
from core.ledger.ledger import Ledger
from core.ledger.rows import Delivery
from core.ledger.writer import Ticket
from core.model.errors import ConfigurationError, LedgerError
from core.model.events import LogLevel
from core.model.job import JobState
from core.model.outcome import DeliveryState, Evidence, Failure, FailureClass, Method, SourceState
from core.model.study import InstanceRef, SeriesInfo, StudyInfo
from core.model.views import StateFilter, TransferFilter
from tests.support.waiting import PATIENCE, wait_for

S = DeliveryState
FAILURE = Failure("http-500", FailureClass.RETRY, "It did not work.", "Try again.", "500", "destination")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def new_job(ledger: Ledger, name: str = "job") -> int:
    return ledger.add_job("clone", name, {"source": ["A"]}, follow=False, state=JobState.RUNNING)


def study(uid: str = "1.2", **more: str) -> StudyInfo:
    return StudyInfo(uid, uid, patient_name="TEST^Anna", patient_id="P1", description="Thorax", **more)


def refs(count: int, *, uid: str = "1.2", start: int = 0, size: int = 10, digest: str = "d") -> list[InstanceRef]:
    series = SeriesInfo(f"{uid}.1", "s", "CT", "1", "Axial")
    return [
        InstanceRef(f"{uid}.1.{n}", f"{uid}.1", uid, f"r{n}", size, f"{digest}{n}", series=series)
        for n in range(start, start + count)
    ]


def plan(ledger: Ledger, job: int, page: Sequence[InstanceRef], *, uid: str = "1.2", last: bool = True) -> Any:
    return ledger.plan_page(job, 1, "A", study(uid), ["B"], page, last=last).wait()


def claim(ledger: Ledger, transfer_id: int, limit: int = 1000) -> list[Delivery]:
    ledger.writer.flush()
    return ledger.claim(transfer_id, 0, limit, 1e12)


def proof(delivery: Delivery, state: DeliveryState = S.VERIFIED) -> tuple[Delivery, DeliveryState, Evidence]:
    return delivery, state, Evidence(Method.DIGEST, datetime.now(UTC), delivery.known_digest or "")


def totals_are_right(ledger: Ledger, job: int) -> bool:
    ledger.writer.flush()
    found = ledger.job(job)
    assert found
    return found.counts == ledger.job_counts(job)


# opening ------------------------------------------------------------------------------------------------


def test_a_ledger_opens_again_with_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first = Ledger.open(path)
    job = new_job(first)
    first.close()
    again = Ledger.open(path)
    try:
        assert [j.id for j in again.jobs()] == [job]
    finally:
        again.close()


@pytest.mark.parametrize("damage", ["head", "middle", "cut"])
def test_a_damaged_ledger_is_named_and_left_as_it_is(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.sqlite"
    made = Ledger.open(path)
    plan(made, new_job(made), refs(2000))
    made.close()
    data = bytearray(path.read_bytes())
    if damage == "head":
        data[:100] = b"\xff" * 100
    elif damage == "middle":
        data[len(data) // 3 : len(data) // 3 + 20_000] = b"\x55" * 20_000
    else:
        del data[len(data) // 2 :]
    path.write_bytes(data)
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path)
    assert caught.value.code == "ledger-damaged"
    assert "backup" in caught.value.next_step
    assert path.read_bytes() == data


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path)
    assert caught.value.code == "ledger-foreign"
    assert path.read_bytes() == before


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num='9999'")
    connection.close()
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path)
    assert caught.value.code == "ledger-newer"


def test_an_older_ledger_is_kept_beside_before_it_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite"
    made = Ledger.open(path)
    job = new_job(made)
    made.close()
    scripts = tmp_path / "migrations"
    shutil.copytree(store.MIGRATIONS, scripts)
    (scripts / "versions" / "0003_more.py").write_text(
        '"""More"""\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
        'revision = "0003"\ndown_revision = "0002"\nbranch_labels = None\ndepends_on = None\n\n\n'
        'def upgrade() -> None:\n    op.add_column("jobs", sa.Column("more", sa.Text()))\n'
    )
    monkeypatch.setattr(store, "MIGRATIONS", scripts)
    monkeypatch.setattr(store, "SCHEMA", "0003")
    upgraded = Ledger.open(path)
    try:
        assert [j.id for j in upgraded.jobs()] == [job]
    finally:
        upgraded.close()
    (kept,) = tmp_path.glob("*before-upgrade*")
    with sqlite3.connect(kept) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0002",)
        assert connection.execute("SELECT id FROM jobs").fetchall() == [(job,)]
    connection.close()


def test_a_ledger_whose_making_was_interrupted_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite"
    create = t.metadata.create_all

    def killed(*args: Any, **keys: Any) -> None:
        create(*args, **keys)
        raise OSError("killed")

    monkeypatch.setattr(t.metadata, "create_all", killed)
    with pytest.raises(LedgerError):
        Ledger.open(path)
    monkeypatch.setattr(t.metadata, "create_all", create)
    made = Ledger.open(path)
    try:
        assert new_job(made) == 1
    finally:
        made.close()


def test_a_ledger_whose_upgrade_was_interrupted_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite"
    upgrade = command.upgrade

    def killed(*args: Any, **keys: Any) -> None:
        upgrade(*args, **keys)
        raise OSError("killed")

    _as_of(path, "0001")
    monkeypatch.setattr(command, "upgrade", killed)
    with pytest.raises(LedgerError):
        Ledger.open(path)
    monkeypatch.setattr(command, "upgrade", upgrade)
    upgraded = Ledger.open(path)
    try:
        assert new_job(upgraded) == 1
    finally:
        upgraded.close()


def _as_of(path: Path, revision: str) -> None:
    """Make the ledger as migrations up to `revision` make it."""
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(store.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def _tables(path: Path) -> dict[str, tuple[str, ...]]:
    """Tables and indexes by name: their definition in parts, the order of constraints left aside."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
    parts = {}
    for name, sql in found:
        told = re.sub(r"(?<=\() | (?=\))", "", re.sub(r"\s+", " ", sql or ""))
        columns, *constraints = re.split(r", CONSTRAINT |\)$", told)
        parts[name] = (columns, *sorted(filter(None, constraints)))
    return parts


def test_a_new_ledger_is_as_the_migrations_make_it(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "new.sqlite").close()
    _as_of(tmp_path / "migrated.sqlite", "head")
    new, migrated = _tables(tmp_path / "new.sqlite"), _tables(tmp_path / "migrated.sqlite")
    assert "deliveries" in new
    assert new == migrated
    with closing(sqlite3.connect(tmp_path / "migrated.sqlite")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(store.SCHEMA,)]


def test_two_that_make_the_ledger_at_once_both_get_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    opened: list[Ledger] = []
    errors: list[LedgerError] = []
    start = threading.Barrier(3)

    def work() -> None:
        start.wait(PATIENCE)
        try:
            opened.append(Ledger.open(path))
        except LedgerError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for one in opened:
        one.close()
    assert errors == []
    assert len(opened) == 3


def test_schema_and_migrations_agree(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    made = Ledger.open(tmp_path / "ledger.sqlite")
    try:
        with made.database.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, t.metadata) == []
    finally:
        made.close()


def test_every_statement_of_the_schema_suits_postgresql() -> None:
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateIndex, CreateTable

    for table in t.metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]


# the writer ---------------------------------------------------------------------------------------------


def test_many_entries_are_few_commits(ledger: Ledger) -> None:
    before = ledger.writer.commits
    hold, held = threading.Event(), threading.Event()

    def wait(_connection: Connection) -> None:
        held.set()
        hold.wait(PATIENCE)

    ledger.writer.call(wait)
    assert held.wait(PATIENCE)
    for n in range(500):
        ledger.add_log(LogLevel.INFO, f"line {n}")
    hold.set()
    ledger.writer.flush()
    assert ledger.writer.commits - before <= 3
    assert [line.text for line in ledger.log()] == [f"line {n}" for n in range(500)]


def test_a_ticket_is_done_only_when_another_connection_sees_it(ledger: Ledger) -> None:
    for n in range(20):
        ledger.writer.call(
            lambda c, n=n: c.execute(insert(t.log).values(at=1.0, level="info", text=str(n))) and None
        ).wait()  # type: ignore[misc]
        with sqlite3.connect(ledger.path) as other:
            assert other.execute("SELECT count(*) FROM log").fetchone() == (n + 1,)
        other.close()


def test_one_bad_entry_takes_no_other_with_it(ledger: Ledger) -> None:
    hold, held = threading.Event(), threading.Event()

    def wait(_connection: Connection) -> None:
        held.set()
        hold.wait(PATIENCE)

    ledger.writer.call(wait)
    assert held.wait(PATIENCE)
    good = [ledger.writer.call(lambda c: c.execute(insert(t.log).values(at=1.0, level="info", text="good")) and None)]
    bad = ledger.writer.call(lambda c: c.execute(insert(t.log).values(at=None, level="info", text="bad")) and None)
    good.append(
        ledger.writer.call(lambda c: c.execute(insert(t.log).values(at=1.0, level="info", text="too")) and None)
    )
    hold.set()
    with pytest.raises(LedgerError) as caught:
        bad.wait(PATIENCE)
    assert caught.value.code == "ledger-refused"
    for ticket in good:
        ticket.wait(PATIENCE)
    assert sorted(line.text for line in ledger.log()) == ["good", "too"]


@pytest.mark.parametrize("bad", ["\ud800", 10**30, KeyError("ours")])
def test_whatever_is_wrong_with_an_entry_the_writer_lives_on(ledger: Ledger, bad: object) -> None:
    def write(connection: Connection) -> None:
        if isinstance(bad, Exception):
            raise bad
        connection.execute(insert(t.log).values(at=1.0, level="info", text=bad, job_id=bad))

    with pytest.raises(LedgerError) as caught:
        ledger.writer.call(write).wait(PATIENCE)
    assert caught.value.code == "ledger-refused"
    ledger.writer.call(lambda _c: None).wait(PATIENCE)


def test_an_unfinished_job_is_not_removed_and_the_writer_lives_on(ledger: Ledger) -> None:
    job = new_job(ledger)
    with pytest.raises(ConfigurationError):
        ledger.remove_job(job)
    ledger.writer.call(lambda _c: None).wait(PATIENCE)
    ledger.update_job(job, state=JobState.FINISHED.value)
    plan(ledger, job, refs(5))
    ledger.remove_job(job)
    with ledger.reading() as connection:
        for table in (t.jobs, t.studies, t.series, t.instances, t.transfers, t.deliveries):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0, table.name


@pytest.fixture
def full_disk(ledger: Ledger) -> Iterator[Callable[[bool], None]]:
    """Commits fail as on a full disk while switched on."""
    full = False

    def refuse(_connection: Connection) -> None:
        if full:
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    def switch(on: bool) -> None:
        nonlocal full
        full = on

    event.listen(ledger.database, "commit", refuse)
    yield switch
    switch(False)


def test_a_full_disk_is_told_waited_for_and_nothing_is_lost(ledger: Ledger, full_disk: Callable[[bool], None]) -> None:
    told: list[LedgerError] = []
    ledger.writer.on_trouble = told.append
    job = new_job(ledger)
    planned = plan(ledger, job, refs(10))
    transfer = planned.transfer_ids["B"]
    mine = claim(ledger, transfer)
    full_disk(True)
    intent = ledger.sending(mine, "relay")
    for d in mine:
        ledger.sent(d, "Success", d.instance.ref)
    ticket = ledger.trouble([(d, FAILURE, None) for d in mine])
    wait_for(lambda: len(told) >= 2, what="the writer to say so")
    assert not intent.done
    assert told[0].code == "ledger-unwritable"
    full_disk(False)
    ticket.wait(PATIENCE)
    assert intent.done
    (group,) = ledger.failure_groups(job_id=job)
    assert (group.count, group.failure.sentence) == (10, FAILURE.sentence)
    assert totals_are_right(ledger, job)


def test_closing_on_a_full_disk_ends_and_says_what_was_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Ledger.open(tmp_path / "ledger.sqlite")

    def refuse(_connection: Connection) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    event.listen(made.database, "commit", refuse)
    ticket = made.writer.call(lambda c: c.execute(insert(t.log).values(at=1.0, level="info", text="x")) and None)
    made.writer.close(timeout=0.2)
    with pytest.raises(LedgerError):
        ticket.wait(PATIENCE)
    with pytest.raises(LedgerError):
        made.writer.call(lambda _c: None)
    made.database.dispose()


def test_on_a_really_full_disk_a_ledger_waits(tmp_path: Path) -> None:
    """SQLite's own limit on pages stands for the disk: it gives the very same error."""
    made = Ledger.open(tmp_path / "ledger.sqlite")
    limit: list[int] = [0]

    def limited(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={limit[0] or 1_000_000}")

    event.listen(made.database, "begin", limited)
    told: list[LedgerError] = []
    made.writer.on_trouble = told.append
    job = new_job(made)
    with made.reading() as connection:
        limit[0] = int(connection.execute(text("PRAGMA page_count")).scalar() or 0) + 2
    ticket = made.plan_page(job, 1, "A", study(), ["B"], refs(3000), last=True)
    wait_for(lambda: bool(told), what="the writer to say so")
    assert told[0].code == "ledger-unwritable"
    assert not ticket.done
    limit[0] = 0
    ticket.wait(PATIENCE)
    assert totals_are_right(made, job)
    made.close()


def test_concurrent_entries_all_arrive(ledger: Ledger) -> None:
    tickets: list[Ticket] = []

    def work(name: int) -> None:
        for n in range(100):
            words = f"{name}/{n}"
            tickets.append(
                ledger.writer.call(
                    lambda c, words=words: c.execute(insert(t.log).values(at=1.0, level="info", text=words)) and None  # type: ignore[misc]
                )
            )

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for ticket in tickets:
        ticket.wait(PATIENCE)
    assert len({line.text for line in ledger.log(limit=1000)}) == 600


# planning -----------------------------------------------------------------------------------------------


def test_planning_the_same_again_changes_nothing(ledger: Ledger) -> None:
    job = new_job(ledger)
    first = plan(ledger, job, refs(30))
    again = plan(ledger, job, refs(30) + refs(5, start=28))
    assert (first.new, again.new) == (30, 3)
    assert first.transfer_ids == again.transfer_ids
    found = ledger.job(job)
    assert found
    assert (found.studies, found.counts.total, found.counts.bytes_total) == (1, 33, 330)
    assert totals_are_right(ledger, job)


def test_a_study_is_listed_with_its_last_page_only(ledger: Ledger) -> None:
    job = new_job(ledger)
    planned = plan(ledger, job, refs(3), last=False)
    assert not ledger.is_listed(job, 1, "A", "1.2")
    assert not ledger.study_is_done(planned.study_id)
    plan(ledger, job, refs(3, start=3))
    assert ledger.is_listed(job, 1, "A", "1.2")
    assert not ledger.is_listed(job, 2, "A", "1.2")


def test_a_deleted_image_that_arrives_again_is_planned_again(ledger: Ledger) -> None:
    job = new_job(ledger)
    planned = plan(ledger, job, refs(2))
    mine = claim(ledger, planned.transfer_ids["B"])
    ledger.proved([proof(d) for d in mine], ticket=True)
    ledger.source_states([(mine[0].instance_id, SourceState.DELETED, "")]).wait()
    assert plan(ledger, job, refs(2)).new == 0
    again = claim(ledger, planned.transfer_ids["B"])
    assert [d.instance.sop_uid for d in again] == ["1.2.1.0"]
    assert totals_are_right(ledger, job)


def test_a_changed_image_is_planned_again_with_its_new_digest_and_size(ledger: Ledger) -> None:
    job = new_job(ledger)
    planned = plan(ledger, job, refs(2))
    ledger.proved([proof(d) for d in claim(ledger, planned.transfer_ids["B"])])
    plan(ledger, job, refs(1, size=77, digest="other"))
    (again,) = claim(ledger, planned.transfer_ids["B"])
    assert (again.known_digest, again.size, again.attempt) == ("other0", 77, 0)
    assert totals_are_right(ledger, job)
    found = ledger.job(job)
    assert found
    assert (found.counts.bytes_total, found.counts.bytes_done) == (87, 10)


# deleting -----------------------------------------------------------------------------------------------


def test_only_what_is_proved_everywhere_is_deletable(ledger: Ledger) -> None:
    job = new_job(ledger)
    planned = ledger.plan_page(job, 1, "A", study(), ["B", "C"], refs(4), last=True).wait()
    at_b, at_c = (claim(ledger, planned.transfer_ids[name]) for name in "BC")
    ledger.proved([proof(d) for d in at_b])
    ledger.proved([proof(at_c[0]), proof(at_c[1], S.SKIPPED), proof(at_c[2], S.CONFLICT)], ticket=True)
    ledger.writer.flush()
    found = ledger.deletable(planned.study_id, "", 10)
    assert [d.instance.sop_uid for d in found] == ["1.2.1.0", "1.2.1.1"]
    assert all(d.same_everywhere for d in found)
    ledger.source_states([(found[0].key, SourceState.DELETING, "")]).wait()
    assert len(ledger.deletable(planned.study_id, "", 10)) == 2
    ledger.source_states([(found[0].key, SourceState.DELETED, "")]).wait()
    assert [d.key for d in ledger.deletable(planned.study_id, "", 10)] == [found[1].key]
    assert ledger.deletable(planned.study_id, found[1].instance.sop_uid, 10) == []


def test_a_study_with_something_new_is_not_settled(ledger: Ledger) -> None:
    job = new_job(ledger)
    planned = plan(ledger, job, refs(2))
    ledger.proved([proof(d) for d in claim(ledger, planned.transfer_ids["B"])])
    ledger.writer.flush()
    assert ledger.unsettled_studies(job, 1) == [planned.study_id]
    ledger.plan_page(job, 1, "A", study(), ["B"], refs(1, start=7), last=True)
    ledger.settle_study(planned.study_id)  # decided before the new image was planned
    ledger.proved([proof(d) for d in claim(ledger, planned.transfer_ids["B"])])
    ledger.writer.flush()
    assert ledger.unsettled_studies(job, 1) == [planned.study_id]
    ledger.settle_study(planned.study_id)
    ledger.writer.flush()
    assert ledger.unsettled_studies(job, 1) == []


# views --------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(ledger: Ledger) -> tuple[Ledger, int]:
    job = new_job(ledger)
    ends = {
        "1.1": None, "1.2": S.VERIFIED, "1.3": S.FAILED, "1.4": S.SKIPPED, "1.5": S.CONFLICT, "1.6": S.CANCELLED,
    }  # fmt: skip
    for uid, end in ends.items():
        info = StudyInfo(uid, uid, f"NAME{uid[-1]}^Anna", f"ID-{uid[-1]}", accession=f"50%_{uid[-1]}")
        planned = ledger.plan_page(job, 1, "A", info, ["B"], refs(3, uid=uid), last=True).wait()
        mine = claim(ledger, planned.transfer_ids["B"])
        if end is S.FAILED:
            ledger.trouble([(d, FAILURE, None) for d in mine])
        elif end is S.CANCELLED:
            ledger.close_open(planned.transfer_ids["B"], S.CANCELLED)
        elif end is not None:
            ledger.proved([proof(d, end) for d in mine])
        ledger.rest([planned.transfer_ids["B"]]).wait()
    return ledger, job


def test_chips_count_what_they_show(shown: tuple[Ledger, int]) -> None:
    ledger, job = shown
    for text_wanted, node in (("", ""), ("anna", ""), ("", "A"), ("name3", "B"), ("", "Z")):
        for job_id in (None, job, job + 1):
            counts = ledger.state_counts(TransferFilter(StateFilter.ALL, text_wanted, node, job_id))
            for state in StateFilter:
                rows = ledger.transfers(TransferFilter(state, text_wanted, node, job_id))
                assert len(rows) == counts[state], (state, text_wanted, node, job_id)
    assert ledger.state_counts(TransferFilter()) == {
        StateFilter.ALL: 6, StateFilter.RUNNING: 0, StateFilter.WAITING: 1, StateFilter.ATTENTION: 2,
        StateFilter.UNCONFIRMED: 0, StateFilter.CONFIRMED: 1, StateFilter.ALREADY_THERE: 1, StateFilter.CANCELLED: 1,
    }  # fmt: skip


def test_words_are_looked_for_literally(shown: tuple[Ledger, int]) -> None:
    ledger, _job = shown
    assert len(ledger.transfers(TransferFilter(text="50%_3"))) == 1
    assert len(ledger.transfers(TransferFilter(text="%"))) == 6
    assert ledger.transfers(TransferFilter(text="5%3")) == []
    assert len(ledger.transfers(TransferFilter(text="anna id-2"))) == 1


def test_pages_follow_each_other_newest_first(shown: tuple[Ledger, int]) -> None:
    ledger, _job = shown
    pages = [row.id for offset in (0, 2, 4, 6) for row in ledger.transfers(TransferFilter(), offset=offset, limit=2)]
    assert pages == sorted(pages, reverse=True)
    assert len(pages) == 6


def test_equal_failures_are_one_group(shown: tuple[Ledger, int]) -> None:
    ledger, job = shown
    (group,) = ledger.failure_groups(job_id=job)
    assert (group.count, group.node, group.failure.next_step) == (3, "B", "Try again.")
    assert len(group.transfer_ids) == 1
    assert ledger.failure_groups(transfer_id=group.transfer_ids[0]) == [group]
    assert ledger.failure_groups(job_id=job + 1) == []


def test_a_new_pass_shows_only_itself(shown: tuple[Ledger, int]) -> None:
    ledger, job = shown
    ledger.next_pass(job)
    assert ledger.transfers(TransferFilter()) == []
    assert ledger.failure_groups(job_id=job) == []
    assert ledger.unconfirmed_studies() == 0
    found = ledger.job(job)
    assert found
    assert found.counts.total == 0


def test_every_change_is_followed_once(shown: tuple[Ledger, int]) -> None:
    ledger, _job = shown
    revision = ledger.last_revision()
    assert ledger.changed_transfers(revision) == ([], revision)
    ledger.note(1, priority=5).wait()
    rows, newer = ledger.changed_transfers(revision)
    assert [row.id for row in rows] == [1]
    assert newer > revision
    collected: list[int] = []
    revision = 0
    while True:
        rows, revision = ledger.changed_transfers(revision, limit=2)
        if not rows:
            break
        collected += [row.id for row in rows]
    assert sorted(collected) == [1, 2, 3, 4, 5, 6]


def test_evidence_and_failure_of_each_image_can_be_read(shown: tuple[Ledger, int]) -> None:
    ledger, job = shown
    rows = ledger.deliveries(job_id=job, failed_first=True)
    assert len(rows) == 18
    assert {r.state for r in rows[:6]} == {S.FAILED, S.CONFLICT}
    assert all(r.failure == FAILURE for r in rows if r.state is S.FAILED)
    assert all(r.evidence and r.evidence.digest for r in rows if r.state is S.VERIFIED)
    (series,) = ledger.series(2)
    assert (series.total, series.confirmed, series.methods, series.description) == (3, 3, ("digest",), "Axial")


def test_stale_values_do_not_survive(ledger: Ledger) -> None:
    job = new_job(ledger)
    planned = plan(ledger, job, refs(1))
    transfer = planned.transfer_ids["B"]
    ledger.trouble([(d, FAILURE, None) for d in claim(ledger, transfer)])
    assert ledger.reopen(transfer, [S.FAILED]).wait() == 1
    ledger.proved([proof(d) for d in claim(ledger, transfer)])
    ledger.rest([transfer]).wait()
    row = ledger.transfer(transfer)
    assert row
    assert (row.state, row.reason, row.next_step, row.next_attempt) == ("confirmed", "", "", None)
    (one,) = ledger.deliveries(job_id=job)
    assert one.failure is None
    with ledger.reading() as connection:
        assert connection.execute(update(t.log).values(text="")).rowcount == 0
