"""Models change row by row: never a reset, selection and order kept, 10,000 rows in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from PySide6.QtCore import QAbstractItemModel, QItemSelectionModel, Qt
from PySide6.QtTest import QAbstractItemModelTester, QSignalSpy
from pytestqt.qtbot import QtBot

from core.model.events import LogLevel, LogLine, TransferRow
from core.model.outcome import Counts, StudyState
from core.model.views import FILTER_STATES, StateFilter, TransferFilter
from gui.models.keyed import Field, KeyedModel
from gui.models.log import LogModel
from gui.models.roles import ModelRole
from gui.models.transfers import BATCH, Column, SortedTransfers, TransfersModel, bar, matches
from gui.theme import Role
from tests.gui.hospital import some_rows


class _Table:
    """What a ledger would answer."""

    def __init__(self, rows: Sequence[TransferRow]) -> None:
        self.rows = list(rows)
        self.asked: list[tuple[int, int]] = []

    def fetch(self, wanted: TransferFilter, offset: int, limit: int) -> list[TransferRow]:
        self.asked.append((offset, limit))
        return [r for r in self.rows if matches(r, wanted)][offset : offset + limit]


def _watched(model: QAbstractItemModel) -> tuple[QSignalSpy, QAbstractItemModelTester]:
    return QSignalSpy(model.modelReset), QAbstractItemModelTester(
        model, QAbstractItemModelTester.FailureReportingMode.Fatal
    )


def _filled(qtbot: QtBot, number: int) -> tuple[TransfersModel, _Table]:
    table = _Table(some_rows(number))
    model = TransfersModel(table.fetch)
    model.show(TransferFilter())
    qtbot.waitUntil(lambda: model.rowCount() >= min(number, BATCH))
    return model, table


def test_rows_come_in_batches_and_newest_first(qtbot: QtBot) -> None:
    model, table = _filled(qtbot, 1200)
    resets = QSignalSpy(model.modelReset)  # no tester: it would fetch by itself
    assert model.rowCount() == BATCH
    assert model.record(0).id == 1200
    assert model.canFetchMore()
    model.fetchMore()
    qtbot.waitUntil(lambda: model.rowCount() == 2 * BATCH)
    model.fetchMore()
    qtbot.waitUntil(lambda: model.rowCount() == 1200)
    assert not model.canFetchMore()
    assert [model.record(i).id for i in range(1200)] == list(range(1200, 0, -1))
    assert table.asked == [(0, BATCH), (500, BATCH), (1000, BATCH)]
    assert resets.count() == 0


def test_sorting_loads_everything_and_uses_the_sort_role(qtbot: QtBot) -> None:
    model, _table = _filled(qtbot, 1700)
    proxy = SortedTransfers(model)
    resets = QSignalSpy(proxy.modelReset)
    proxy.sort(Column.IMAGES, Qt.SortOrder.DescendingOrder)
    qtbot.waitUntil(lambda: model.rowCount() == 1700)
    large = replace(model.record(900), counts=Counts(planned=5000))
    model.apply([large])
    assert proxy.record(proxy.index(0, 0)).id == large.id
    proxy.sort(-1)
    assert proxy.record(proxy.index(0, 0)).id == 1700
    assert resets.count() == 0


def test_changes_keep_selection_and_order(qtbot: QtBot) -> None:
    model, _table = _filled(qtbot, 30)
    resets, _tester = _watched(model)
    proxy = SortedTransfers(model)
    chosen = QItemSelectionModel(proxy)
    chosen.select(proxy.index(4, 0), QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows)
    before = proxy.record(chosen.selectedRows()[0]).id
    changed = QSignalSpy(model.dataChanged)
    model.apply([replace(model.record(i), state=StudyState.SENDING) for i in (3, 4, 5, 9)])
    assert changed.count() == 2, "neighbours are one change"
    model.apply(some_rows(3, first=31))
    assert [model.record(i).id for i in range(4)] == [33, 32, 31, 30]
    assert proxy.record(chosen.selectedRows()[0]).id == before
    assert resets.count() == 0


def test_rows_that_leave_the_filter_go_and_others_come(qtbot: QtBot) -> None:
    model, _table = _filled(qtbot, 30)
    model.show(TransferFilter(state=StateFilter.WAITING))
    qtbot.waitUntil(lambda: model.complete)
    assert model.rowCount() == 30
    done = replace(model.record(2), state=StudyState.CONFIRMED)
    model.apply([done])
    assert model.rowCount() == 29
    assert model.row_of(done.id) is None
    model.apply([replace(done, state=StudyState.WAITING)])
    assert model.record(2).id == done.id


def test_reloading_drops_what_is_gone(qtbot: QtBot) -> None:
    model, table = _filled(qtbot, 30)
    resets, _tester = _watched(model)
    table.rows = some_rows(5, first=31)
    model.reload()
    qtbot.waitUntil(lambda: [model.record(i).id for i in range(model.rowCount())] == [35, 34, 33, 32, 31])
    assert resets.count() == 0


def test_ten_thousand_rows_take_a_thousand_changes_in_a_blink(qtbot: QtBot) -> None:
    model, _table = _filled(qtbot, 10_000)
    model.load_all()
    qtbot.waitUntil(lambda: model.rowCount() == 10_000)
    changed = QSignalSpy(model.dataChanged)
    model.apply([replace(r, state=StudyState.SENDING) for r in map(model.record, range(0, 1000))])
    assert changed.count() == 1


@pytest.mark.parametrize("state", list(StudyState))
def test_every_state_has_a_word_a_tone_and_a_chip(state: StudyState, qtbot: QtBot) -> None:
    model = TransfersModel(lambda _w, _o, _l: [])
    model.apply([replace(some_rows(1)[0], state=state)])
    index = model.index(0, Column.STATE)
    assert index.data()
    assert index.data(ModelRole.TONE)
    assert sum(state in states for f, states in FILTER_STATES.items() if f is not StateFilter.ALL) == 1


def test_the_bar_tells_confirmed_from_sent_and_failed() -> None:
    made = bar(Counts(verified=50, sent=25, failed=5, planned=20), StudyState.SENDING)
    assert [(round(f, 2), r) for f, r in made.parts] == [(0.5, Role.GREEN), (0.25, Role.ACCENT), (0.05, Role.RED)]
    assert bar(Counts(sent=3), StudyState.SENT).parts == ((1.0, Role.AMBER),)


def test_a_keyed_model_becomes_a_list_without_a_reset(qtbot: QtBot) -> None:
    model: KeyedModel[str] = KeyedModel(lambda s: s[0], [Field("Text", lambda s: s)])
    resets, _tester = _watched(model)
    for wanted in (["a1", "b1"], ["b2", "c1", "a1"], [], ["z"], ["x", "y", "z", "a"], ["a", "z"]):
        model.show(wanted)
        assert list(model.records) == wanted
    assert resets.count() == 0


def test_equal_log_lines_are_one_with_a_count(qtbot: QtBot) -> None:
    model = LogModel()
    _spy, _tester = _watched(model)
    start = datetime(2026, 11, 21, tzinfo=UTC)

    def line(number: int, text: str) -> LogLine:
        return LogLine(number, start + timedelta(seconds=number), LogLevel.ERROR, text, node="B")

    model.take([line(1, "down"), line(2, "other"), line(3, "down")])
    model.take([line(4, "down"), line(3, "down")])
    assert [(e.line.text, e.count, e.line.id) for e in model.records] == [("down", 3, 4), ("other", 1, 2)]
    assert model.index(0, 2).data() == "down (3 ×)"
