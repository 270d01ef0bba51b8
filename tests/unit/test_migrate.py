"""Migrate: ranges of days in parts that a node can tell whole, lists entry by entry, and what is refused before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.jobs.base import Discovery, Found, FoundStudy, InventoryDone, Remark
from core.jobs.dates import DatedStudies, Order, parse_day
from core.jobs.migrate import Migrate, MigrateFields
from core.model.errors import ConfigurationError
from core.model.study import Listing, StudyInfo, StudyQuery
from core.wire.http import Abort
from tests.support.engine_bench import Bench
from tests.support.memory_node import MemoryNode


class Archive(MemoryNode):
    """Lists studies by query, as far as it can: at most `cap` an answer, and it says so.

    Attributes
    ----------
    queries : list[StudyQuery]
    deaf : bool
        Doesn't understand any query and lists everything.
    """

    def __init__(self, name: str = "A") -> None:
        super().__init__(name)
        self.infos: list[StudyInfo] = []
        self.queries: list[StudyQuery] = []
        self.cap: int | None = None
        self.deaf = False

    def put(self, day: str, *, count: int = 1, **more: str) -> None:
        for _ in range(count):
            uid = f"1.2.{len(self.infos) + 1}"
            info = {"study_time": f"{len(self.infos) % 24:02}0000", "patient_id": "P1", "accession": f"A{uid}", **more}
            self.infos.append(StudyInfo(uid, uid, study_date=day, **info))
            self.add(uid, f"{uid}.1", f"{uid}.1.1", uid.encode())

    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> _Listing:  # type: ignore[override]
        self.queries.append(query)
        found = [s for s in self.infos if self.deaf or _matches(s, query)]
        return _Listing(found, self.cap)


class _Listing:
    def __init__(self, studies: list[StudyInfo], cap: int | None) -> None:
        self._studies = studies
        self._cap = cap
        self.outcome = Listing()

    def __iter__(self) -> Iterator[StudyInfo]:
        cut = self._cap is not None and len(self._studies) > self._cap
        given = self._studies[: self._cap] if cut else self._studies
        yield from given
        self.outcome = Listing(len(given), not cut, "A gives at most so many." if cut else "")


def _matches(s: StudyInfo, q: StudyQuery) -> bool:
    day = s.study_date.replace(".", "")
    return (
        (not q.study_uids or s.study_uid in q.study_uids)
        and (not q.accession or s.accession.casefold() == q.accession.casefold())
        and (not q.patient_id or s.patient_id == q.patient_id)
        and (not q.date_from or (bool(day) and q.date_from <= day <= q.date_to))
    )


def discovery(
    source: Archive, *, wait: Callable[[float], bool] = lambda _s: True, listed: frozenset[str] = frozenset()
) -> Discovery:
    return Discovery(source, None, False, False, wait, Abort(), listed.__contains__)


def fields(**values: object) -> MigrateFields:
    return MigrateFields.model_validate({"source": ["A"], "destination": ["B"], **values})


def found(source: Archive, listed: frozenset[str] = frozenset(), **values: object) -> list[Found]:
    return list(Migrate().discover(fields(**values), discovery(source, listed=listed)))


def days_of(items: list[Found]) -> list[str]:
    return [one.study.study_date for one in items if isinstance(one, FoundStudy)]


# days ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", Order)
def test_days_in_order_and_both_ends_included(order: Order) -> None:
    a = Archive()
    for day in ("20231231", "20240101", "20240229", "20240630", "20241231", "20250101"):
        a.put(day, count=3)
    items = found(a, date_from="20240101", date_to="2024-12-31", order=order.value, undated="ignore")
    expected = [d for d in ("20240101", "20240229", "20240630", "20241231") for _ in range(3)]
    assert days_of(items) == (expected if order is Order.OLDEST else expected[::-1])
    assert items[-1] == InventoryDone(True)
    times = [i.study.study_time for i in items if isinstance(i, FoundStudy) and i.study.study_date == "20240630"]
    assert times == sorted(times, reverse=order is Order.NEWEST)
    assert len(a.queries) < 30, "a year with little in it is no 366 questions"


def test_a_capped_archive_is_asked_day_by_day_where_it_must_be() -> None:
    a = Archive()
    a.cap = 50
    day = dt.date(2024, 3, 1)
    for n in range(60):
        a.put(f"{day + dt.timedelta(n):%Y%m%d}", count=20)
    items = found(a, date_from="20240301", date_to="20240429", undated="ignore")
    assert len(days_of(items)) == 1200
    assert items[-1] == InventoryDone(True)


def test_a_day_that_can_not_be_told_whole_is_said() -> None:
    a = Archive()
    a.cap = 10
    a.put("20240310", count=11)
    a.put("20240311", count=4)
    items = found(a, date_from="20240301", date_to="20240331", undated="ignore")
    assert len(days_of(items)) == 14
    assert items[-1] == InventoryDone(False, "A gives at most so many.")


def test_an_archive_that_understands_no_question_makes_us_carry_nothing_else() -> None:
    a = Archive()
    a.put("20240310")
    a.put("20200101", count=5)
    a.put("")
    a.deaf = True
    assert days_of(found(a, date_from="20240301", date_to="20240331", undated="ignore")) == ["20240310"]
    assert len(days_of(found(a, entries=["A1.2.1"], identifier="accession"))) == 1


def test_many_studies_are_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.jobs.dates.MANY", 100)
    monkeypatch.setattr("core.jobs.dates.FEW", 30)
    a = Archive()
    for n in range(40):
        a.put(f"{dt.date(2024, 1, 1) + dt.timedelta(n):%Y%m%d}", count=1 if n < 30 else 70)
    items = found(a, date_from="20240101", date_to="20240210", order="oldest", undated="ignore")
    assert len(days_of(items)) == 30 + 700
    assert days_of(items) == sorted(days_of(items))


def test_old_dates_with_dots_and_what_was_listed_before() -> None:
    a = Archive()
    a.put("1997.03.05")
    a.put("19970306")
    assert len(days_of(found(a, date_from="19970301", date_to="19970331", undated="ignore"))) == 2
    assert days_of(found(a, frozenset({"1.2.1"}), date_from="19970301", date_to="19970331")) == ["19970306"]


def test_studies_without_a_date_are_told_carried_or_ignored() -> None:
    a = Archive()
    a.put("20240310")
    a.put("", count=2)
    told = found(a, date_from="20240301", date_to="20240331")
    assert days_of(told) == ["20240310"]
    assert [r.sentence.startswith("A has 2 studies without a date") for r in told if isinstance(r, Remark)] == [True]
    assert told[-1] == InventoryDone(True)
    carried = found(a, date_from="20240301", date_to="20240331", undated="carry")
    assert days_of(carried) == ["20240310", "", ""]
    assert not any(isinstance(r, Remark) for r in found(a, date_from="20240301", date_to="20240331", undated="ignore"))


def test_a_stop_between_two_days() -> None:
    a = Archive()
    a.put("20240310", count=5)
    left = iter([True, True, False])
    studies = DatedStudies(
        discovery(a, wait=lambda _s: next(left)), dt.date(2000, 1, 1), dt.date(2024, 12, 31), Order.OLDEST
    )
    assert list(studies) == []
    assert studies.stopped
    assert not any(
        isinstance(i, InventoryDone)
        for i in Migrate().discover(fields(date_from="20240101"), discovery(a, wait=lambda _s: False))
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"date_from": "20240230"}, "there is no day 2024-02-30"),
        ({"date_from": "20241301"}, "there is no day"),
        ({"date_from": "1.2.2024"}, "is no date"),
        ({"date_from": "00010101"}, "before there were any images"),
        ({"date_from": "20241231", "date_to": "20240101"}, "is after the last"),
        ({"date_to": "20240101"}, "the first day of the range is missing"),
        ({"date_from": "29990101"}, "in the future"),
        ({"date_from": "20240101", "entries": ["1"]}, "exclude each other"),
        ({"disk_limit": "much"}, "no limit for a disk"),
    ],
)
def test_impossible_fields_are_refused_in_a_sentence(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        fields(**values)


def test_days_as_people_write_them() -> None:
    assert parse_day(" 2024-02-29 ") == parse_day("20240229") == dt.date(2024, 2, 29)
    assert fields(date_from="2024-02-29").date_from == "20240229"


# lists --------------------------------------------------------------------------------------------------------


def test_entries_that_are_not_there_are_named_by_their_rows(tmp_path: Path) -> None:
    a = Archive()
    a.put("20240310", count=3)
    path = tmp_path / "list.csv"
    path.write_text("Accession\nA1.2.1\nsecret-77\nA1.2.3\n*\n")
    items = found(a, list=str(path))
    assert len(days_of(items)) == 2
    done = items[-1]
    assert isinstance(done, InventoryDone)
    assert not done.complete
    assert done.reason.startswith("1 of 3 accession numbers of list.csv were not found at A: row 3.")
    assert "row 5. It has a wildcard" in done.reason
    assert "secret-77" not in done.reason, "what stands in a list may name a patient"


def test_a_patient_has_several_studies_and_each_is_carried_once() -> None:
    a = Archive()
    a.put("20240310", count=2, patient_id="P7")
    a.put("20240310", patient_id="P8")
    assert len(days_of(found(a, entries=["P7"], identifier="patient-id"))) == 2
    twice = found(a, entries=["1.2.1", "1.2.2"])
    assert len(days_of(twice)) == 2
    assert twice[-1] == InventoryDone(True)


def test_only_the_very_value_counts() -> None:
    a = Archive()
    a.put("20240310", accession="abc1")
    items = found(a, entries=["ABC1"], identifier="accession")
    assert days_of(items) == []
    assert isinstance(items[-1], InventoryDone)
    assert not items[-1].complete


@pytest.mark.parametrize("values", [{}, {"entries": ["*"], "identifier": "accession"}, {"list": "/none/list.csv"}])
def test_nothing_to_look_for_is_refused_before_the_start(values: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Migrate().check(fields(**values), {"A": Archive(), "B": MemoryNode("B")}, follow=False)


# with the engine ----------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


def test_migration_resumes_where_it_was_stopped_and_moves_only_what_is_proved(bench: Bench) -> None:
    a, b = Archive(), bench.node("B")
    bench.nodes["A"] = a
    a.put("20240310", count=20)
    a.put("20230310", count=5)
    job = bench.job("migrate", date_from="20240101", date_to="20241231", after="move", workers=1)
    stopped: list[str] = []

    def stop(ref: object) -> None:
        if len(b.stores) == 8 and not stopped:
            stopped.append("now")
            assert bench.engine
            bench.engine.stop()

    b.on_store = stop
    bench.start()
    bench.wait(lambda: bool(stopped), "the stop")
    bench.stop()
    bench.start()
    done = bench.finish(job)
    assert done.counts.verified == done.counts.total == 20
    assert len(b.stores) == len(set(b.stores)) == 20, "nothing twice"
    assert len(a.held) == 5


def test_a_list_with_unknown_entries_ends_with_a_problem(bench: Bench) -> None:
    a = Archive()
    bench.nodes["A"] = a
    bench.node("B")
    a.put("20240310", count=2)
    job = bench.job("migrate", entries=["1.2.1", "1.2.99"])
    bench.start()
    done = bench.finish(job)
    assert done.counts.verified == 1
    assert "1 of 2 Study Instance UIDs of the list were not found at A: row 2" in done.problem


def test_a_constant_delay() -> None:
    options = Migrate().options(fields(delays="constant", retry_delays=[7, 20, 60]), follow=False)
    assert options.retry_delays == (7.0,)
