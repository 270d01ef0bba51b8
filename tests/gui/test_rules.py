"""The rule editor: rows and text in step, what is wrong told in place, tried on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from PySide6.QtCore import QDate, QPoint, Qt
from pytestqt.qtbot import QtBot

from core.app import Abort
from core.jobs.forward import ForwardFields
from core.model.errors import TransportError, TransportFault
from core.model.job import JobState
from core.model.rules import Rule, RuleError, parse_rule
from core.rule_trial import StudyLists, Trial, try_rule
from gui.widgets.form import Form
from gui.widgets.rule_editor import RuleEditor
from gui.widgets.rule_rows import ConditionRow, GroupBox
from gui.widgets.rule_values import DayValue, ModalitiesValue, PairValue, SpanValue, TextValue, ValueField, as_day
from gui.wizards.send import SendWizard
from tests.gui.hands import Hands
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_study
from tests.support.waiting import PATIENCE
from tests.unit.test_rule_trial import Book, ListedNode, study
from tests.unit.test_rules import rules

Start = Callable[..., OrthancServer]
calm = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


@pytest.fixture
def editor(qtbot: QtBot) -> Iterator[RuleEditor]:
    made = RuleEditor()
    qtbot.addWidget(made)
    made.resize(760, 600)
    made.show()
    qtbot.waitExposed(made)
    yield made
    made.trial.halt()


def line(group: GroupBox, at: int) -> ConditionRow:
    part = group.parts[at]
    assert isinstance(part, ConditionRow)
    return part


def inner(group: GroupBox, at: int) -> GroupBox:
    part = group.parts[at]
    assert isinstance(part, GroupBox)
    return part


def choose(qtbot: QtBot, row: ConditionRow, words: str) -> None:
    """Choose an operator by its words, with the keyboard."""
    at = row.phrase.findText(words)
    assert at >= 0, [row.phrase.itemText(n) for n in range(row.phrase.count())]
    row.phrase.setFocus()
    while row.phrase.currentIndex() != at:
        key = Qt.Key.Key_Down if row.phrase.currentIndex() < at else Qt.Key.Key_Up
        qtbot.keyClick(row.phrase, key)
    row.phrase.activated.emit(at)


def name_tag(qtbot: QtBot, row: ConditionRow, typed: str) -> None:
    """Type what a tag is called, and go on."""
    row.tag.setFocus()
    row.tag.selectAll()
    qtbot.keyClicks(row.tag, typed)
    popup = row.tag.completer().popup()
    assert popup is not None
    popup.hide()
    row.tag.editingFinished.emit()


def tick(qtbot: QtBot, field: ValueField, *codes: str) -> None:
    """Tick modalities in the list that the button opens."""
    assert isinstance(field, ModalitiesValue)
    qtbot.mouseClick(field.button, Qt.MouseButton.LeftButton)
    popup = field.popup
    assert popup is not None
    qtbot.waitUntil(popup.isVisible)
    for code in codes:
        popup.list.scrollToItem(popup.item(code))
        box = popup.list.visualItemRect(popup.item(code))
        qtbot.mouseClick(popup.list.viewport(), Qt.MouseButton.LeftButton, pos=box.center())
        qtbot.wait(1)
    popup.close()


# rows and text ------------------------------------------------------------------------------------------------


def test_rows_write_the_text(editor: RuleEditor, qtbot: QtBot) -> None:
    assert editor.value() == ""
    assert editor.nothing.isVisible()
    qtbot.mouseClick(editor.offers["Modality"], Qt.MouseButton.LeftButton)
    assert editor.wrong.startswith("1 condition is not finished")
    assert editor.rule is None
    tick(qtbot, line(editor.group, 0).value, "CT", "MR")
    assert editor.value() == "Modality in CT, MR"
    assert not editor.wrong
    assert not editor.nothing.isVisible()
    assert "takes the CT images only" in editor.remarks.text()
    qtbot.mouseClick(editor.group.add, Qt.MouseButton.LeftButton)
    row = line(editor.group, 1)
    name_tag(qtbot, row, "Study date")
    choose(qtbot, row, "is on or after")
    day = row.value
    assert isinstance(day, DayValue)
    day.edit.setDate(QDate(2020, 1, 1))
    assert editor.value() == "Modality in CT, MR and StudyDate >= 20200101"
    choose(qtbot, row, "is between")
    assert isinstance(row.value, PairValue)
    second = row.value.parts[1]
    assert isinstance(second, DayValue)
    second.edit.setDate(QDate(2020, 12, 31))
    assert editor.value() == "Modality in CT, MR and StudyDate between 20200101 and 20201231"
    choose(qtbot, row, "is in the last")
    assert isinstance(row.value, SpanValue)
    row.value.count.setValue(3)
    row.value.unit.setCurrentIndex(1)
    assert editor.value() == "Modality in CT, MR and StudyDate in last 3 weeks"
    editor.group.mode.setCurrentIndex(1)
    assert editor.value() == "Modality in CT, MR or StudyDate in last 3 weeks"
    choose(qtbot, row, "has a value")
    assert editor.value() == "Modality in CT, MR or StudyDate is present"
    qtbot.mouseClick(row.remove, Qt.MouseButton.LeftButton)
    assert editor.value() == "Modality in CT, MR"
    qtbot.mouseClick(line(editor.group, 0).remove, Qt.MouseButton.LeftButton)
    assert editor.value() == ""
    assert editor.nothing.isVisible()
    assert editor.rule == Rule()


def test_groups_within_groups(editor: RuleEditor, qtbot: QtBot) -> None:
    editor.set_value("Modality = CT")
    qtbot.mouseClick(editor.group.add_group, Qt.MouseButton.LeftButton)
    group = inner(editor.group, 1)
    name_tag(qtbot, line(group, 0), "body part")
    qtbot.keyClicks(line(group, 0).value.first, "HEAD")
    qtbot.mouseClick(group.add, Qt.MouseButton.LeftButton)
    name_tag(qtbot, line(group, 1), "(0010,0010)")
    qtbot.keyClicks(line(group, 1).value.first, "muller")
    assert editor.value() == "Modality = CT and (BodyPartExamined = HEAD or PatientName ~ *muller*)"
    assert line(group, 1).tag.text() == "Patient's name"
    qtbot.mouseClick(group.remove, Qt.MouseButton.LeftButton)
    assert editor.value() == "Modality = CT"
    deep = editor.group
    for _ in range(4):
        qtbot.mouseClick(deep.add_group, Qt.MouseButton.LeftButton)
        deep = next(p for p in deep.parts if isinstance(p, GroupBox))
    assert not deep.add_group.isVisible()


def test_the_text_fills_the_rows(editor: RuleEditor, qtbot: QtBot) -> None:
    editor.text.setFocus()
    qtbot.keyClicks(
        editor.text, "StudyDate >= 2020-03-15 and (PatientAge < 18Y or institution ~ *kids*) and (0009,1010) = x"
    )
    qtbot.waitUntil(lambda: len(editor.group.parts) == 3)
    assert line(editor.group, 0).phrase.currentText() == "is on or after"
    group = inner(editor.group, 1)
    assert group.mode.currentText() == "any of these"
    assert line(group, 0).phrase.currentText() == "is younger than"
    assert line(group, 1).tag.text() == "Institution"
    assert line(group, 1).phrase.currentText() == "contains"
    kids = line(group, 1).value
    assert isinstance(kids, TextValue)
    assert kids.edit.text() == "kids"
    assert line(editor.group, 2).tag.text() == "Tag (0009,1010)"
    # What was typed stays as it was typed until a row is changed.
    assert editor.value().startswith("StudyDate >= 2020-03-15 and (PatientAge < 18Y or institution")
    qtbot.keyClick(kids.edit, Qt.Key.Key_End)
    qtbot.keyClicks(kids.edit, "y")
    assert "InstitutionName ~ *kidsy*" in editor.value()


def test_a_mistake_in_the_text_is_underlined_and_told_and_nothing_is_lost(editor: RuleEditor, qtbot: QtBot) -> None:
    editor.set_value("Modality = CT and StudyDate >= 20200101")
    editor.text.setFocus()
    editor.text.moveCursor(editor.text.textCursor().MoveOperation.End)
    qtbot.keyClick(editor.text, Qt.Key.Key_Backspace)
    qtbot.waitUntil(lambda: bool(editor.wrong))
    assert "at character 32, “2020010” is not a date" in editor.problem.text()
    assert editor.problem.isVisible()
    marked = editor.text.extraSelections()
    assert [s.cursor.selectedText() for s in marked] == ["2020010"]
    assert editor.rule is None
    assert len(editor.group.parts) == 2  # the rows as they were, not to be changed meanwhile
    assert not editor.group.isEnabled()
    assert editor.value() == "Modality = CT and StudyDate >= 2020010"
    qtbot.keyClicks(editor.text, "2")
    qtbot.waitUntil(lambda: not editor.wrong)
    assert not editor.text.extraSelections()
    assert editor.group.isEnabled()
    day = line(editor.group, 1).value
    assert isinstance(day, DayValue)
    assert day.edit.date() == QDate(2020, 1, 2)
    qtbot.keyClicks(editor.text, " and")
    qtbot.waitUntil(lambda: "it ends where a condition should follow" in editor.problem.text())
    assert [s.cursor.selectedText() for s in editor.text.extraSelections()] == ["d"]
    editor.set_value("Modality = CT and Modality = MR")
    assert "can never match" in editor.wrong
    editor.set_value("(" * 10_000)
    assert "too many brackets" in editor.wrong


def test_a_mistake_in_a_row_is_told_and_can_be_mended_there(editor: RuleEditor, qtbot: QtBot) -> None:
    editor.set_value("SliceThickness <= 1")
    qtbot.keyClick(line(editor.group, 0).value.first, Qt.Key.Key_End)
    qtbot.keyClicks(line(editor.group, 0).value.first, "mm")
    assert "“1mm” is not a number" in editor.problem.text()
    assert editor.group.isEnabled()
    qtbot.keyClick(line(editor.group, 0).value.first, Qt.Key.Key_Backspace)
    qtbot.keyClick(line(editor.group, 0).value.first, Qt.Key.Key_Backspace)
    assert not editor.wrong
    qtbot.mouseClick(editor.group.add, Qt.MouseButton.LeftButton)
    row = line(editor.group, 1)
    name_tag(qtbot, row, "Modalty")
    assert "perhaps Modality is meant" in row.tag.wrong
    assert editor.wrong
    name_tag(qtbot, row, "stationname")
    assert row.tag.text() == "Station"
    assert not row.tag.wrong


def test_a_tag_is_found_by_any_part_of_its_name(editor: RuleEditor, qtbot: QtBot) -> None:
    qtbot.mouseClick(editor.group.add, Qt.MouseButton.LeftButton)
    row = line(editor.group, 0)
    assert row.tag.hasFocus()
    popup = row.tag.completer().popup()
    assert popup is not None
    qtbot.keyClick(row.tag, Qt.Key.Key_Down)
    qtbot.waitUntil(popup.isVisible)
    model = popup.model()
    assert [model.index(n, 0).data() for n in range(3)] == ["Modality", "Modalities in study", "Study date"]
    assert model.rowCount() > 3000
    popup.hide()
    qtbot.keyClicks(row.tag, "thickness")
    qtbot.waitUntil(popup.isVisible)
    assert popup.model().index(0, 0).data() == "Slice thickness"
    qtbot.keyClick(popup, Qt.Key.Key_Down)
    qtbot.keyClick(popup, Qt.Key.Key_Return)
    assert row.tag.key == "SliceThickness"
    assert row.tag.text() == "Slice thickness"
    assert row.value.first.hasFocus()
    qtbot.keyClicks(row.value.first, "1.25")
    assert editor.value() == "SliceThickness = 1.25"


def test_modalities_are_searched_typed_and_unticked(editor: RuleEditor, qtbot: QtBot) -> None:
    editor.set_value("ModalitiesInStudy in CT, XYZ")
    field = line(editor.group, 0).value
    assert isinstance(field, ModalitiesValue)
    assert field.button.text() == "CT, XYZ"
    field.button.setFocus()
    qtbot.keyClick(field.button, Qt.Key.Key_Space)
    popup = field.popup
    assert popup is not None
    qtbot.keyClicks(popup.search, "mammo")
    qtbot.keyClick(popup.search, Qt.Key.Key_Return)
    assert editor.value() == "ModalitiesInStudy in CT, XYZ, MG"
    qtbot.keyClicks(popup.search, "ABC")
    qtbot.keyClick(popup.search, Qt.Key.Key_Return)
    assert editor.value() == "ModalitiesInStudy in CT, XYZ, MG, ABC"
    for code in ("CT", "XYZ"):
        popup.list.setCurrentItem(popup.item(code))
        qtbot.keyClick(popup.list, Qt.Key.Key_Space)
    assert editor.value() == "ModalitiesInStudy in MG, ABC"
    box = popup.list.visualItemRect(popup.item("MG"))
    qtbot.mouseClick(popup.list.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(8, box.center().y()))
    popup.close()
    assert editor.value() == "ModalitiesInStudy in ABC"


def test_what_does_not_fit_into_rows_is_kept_as_text(editor: RuleEditor) -> None:
    deep = "Modality = CT and (PatientID = 1 or " * 6 + "PatientID = 2" + ")" * 6
    long = " or ".join(f"PatientID = {n}" for n in range(60))
    for text in (deep, long):
        editor.set_value(text)
        assert not editor.wrong
        assert editor.too_much.isVisible()
        assert not editor.group.isVisible()
        assert editor.value() == text
        assert editor.rule == parse_rule(text)
    editor.set_value("Modality = CT")
    assert editor.group.isVisible()
    assert not editor.too_much.isVisible()


@calm
@given(rules)
def test_every_rule_comes_out_of_the_rows_as_it_went_in(qtbot: QtBot, rule: Rule) -> None:
    """Whatever can be written can be shown in rows, and means the same when it is read from them again."""
    text = str(rule)
    try:
        rule = parse_rule(text)
    except RuleError:
        return  # it contradicts itself
    editor = RuleEditor()
    qtbot.addWidget(editor)
    editor.set_value(text)
    assert not editor.wrong
    assert editor.value() == text
    if editor.group.isVisibleTo(editor):
        assert _stripped(editor.group.rule()) == _stripped(rule)


def _stripped(rule: Rule) -> str:
    """Blanks around values, and dashes in dates, make no difference."""
    for condition in rule.conditions():
        object.__setattr__(condition, "values", tuple(_plain(v) for v in condition.values))
    return str(rule)


def _plain(value: str) -> str:
    day = as_day(value)
    return day.toString("yyyyMMdd") if day.isValid() else " ".join(value.split())


def test_in_a_form_what_is_not_finished_stops_the_form(qtbot: QtBot) -> None:
    form = Form(ForwardFields, names=["filter", "after"])
    qtbot.addWidget(form)
    form.show()
    form.set_others({"source": ["a"], "destination": ["b"]})
    rule = form.editors["filter"].main
    assert isinstance(rule, RuleEditor)
    assert form.check()
    rule.group.begin("Modality")
    assert not form.check()
    assert form.problems()["filter"].startswith("1 condition is not finished")
    assert not form.editors["filter"].problem.isVisible()  # it is told once, in place
    form.set_values({"filter": "StudyDate > 20"})
    assert not form.check()
    form.set_values({"filter": "StudyDate > 2020"})
    assert form.check()
    assert form.values()["filter"] == "StudyDate > 2020"


# trying -------------------------------------------------------------------------------------------------------


def offer(editor: RuleEditor, node: ListedNode, before: Callable[[], object] = lambda: None) -> None:
    def attempt(
        names: Sequence[str], rule: Rule, lists: StudyLists, abort: Abort, report: Callable[[object], None]
    ) -> Trial:
        before()
        return try_rule(Book(node), names, rule, lists=lists, abort=abort, progress=report)

    editor.trial.offer(attempt, [node.name])


def test_nothing_is_asked_before_a_person_wants_it_and_the_list_is_read_once(editor: RuleEditor, qtbot: QtBot) -> None:
    node = ListedNode("PACS", study("1", "CT"), study("2", "MR"), study("3", "CT", "SR"))
    lists: list[str] = []
    listing = node.studies

    def counted(*arguments: object, **named: object) -> object:
        lists.append("list")
        return listing(*arguments, **named)  # type: ignore[arg-type]

    node.studies = counted  # type: ignore[method-assign, assignment]
    assert not editor.trial.isVisible()
    offer(editor, node)
    assert editor.trial.isVisible()
    editor.set_value("Modality = CT")
    assert editor.trial.headline.text() == "What does it take of PACS?"
    assert not lists
    qtbot.mouseClick(editor.trial.again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: editor.trial.headline.text() == "2 of 3 studies match")
    assert "1 of them is taken in part" in editor.trial.more.text()
    model = editor.trial.model
    assert [model.index(n, 0).data() for n in range(model.rowCount())] == ["Taken", "Taken in part", "Left out"]
    editor.set_value("Modality = MR")
    qtbot.waitUntil(
        lambda: editor.trial.headline.text() == "1 of 3 studies matches" or "1 of 3" in editor.trial.headline.text()
    )
    assert lists == ["list"]
    editor.set_value("Modality = ")
    assert not editor.trial.again.isEnabled()
    editor.set_value("")
    qtbot.waitUntil(lambda: editor.trial.headline.text() == "3 of 3 studies match")
    qtbot.mouseClick(editor.trial.again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: lists == ["list", "list"])
    qtbot.waitUntil(lambda: not editor.trial.running)


def test_it_can_be_stopped_and_an_error_is_told(editor: RuleEditor, qtbot: QtBot) -> None:
    node = ListedNode("PACS", *(study(f"{n}", "CT") for n in range(5)))
    go = threading.Event()
    offer(editor, node, before=lambda: go.wait(PATIENCE))
    qtbot.mouseClick(editor.trial.again, Qt.MouseButton.LeftButton)
    assert editor.trial.running
    assert editor.trial.stop.isVisible()
    qtbot.mouseClick(editor.trial.stop, Qt.MouseButton.LeftButton)
    go.set()
    qtbot.waitUntil(lambda: not editor.trial.running)
    assert "It was stopped" in editor.trial.more.text()

    def broken() -> None:
        raise TransportError(TransportFault.REFUSED, "PACS does not answer.", "Check that it runs.")

    offer(editor, node, before=broken)
    qtbot.mouseClick(editor.trial.again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: editor.trial.banner.isVisible())
    assert "PACS does not answer." in editor.trial.banner.lead
    assert not editor.trial.running


def to_the_question_what(hands: Hands, source: str, destination: str) -> SendWizard:
    wizard = hands.window.new_transfer()
    hands.click(wizard.kind_page.choices["forward"])
    hands.click(wizard.next)
    hands.wait(lambda: destination in wizard.route.destinations.checks)
    for side, chosen in ((wizard.route.sources, source), (wizard.route.destinations, destination)):
        for name, check in side.checks.items():
            check.setChecked(name == chosen)
    hands.click(wizard.next)
    assert wizard.page is wizard.what
    return wizard


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_a_transfer_of_what_a_rule_takes(empty: Hands, version: str, start_orthanc: Start) -> None:
    source, destination = start_orthanc(version, name="SRC"), start_orthanc(version, name="DST")
    for n, (modality, day) in enumerate((("CT", "20200315"), ("MR", "20240101"), ("US", "20240102"))):
        source.upload(list(make_study(f"Patient^{modality}", patient_id=f"P{n}", modality=modality, study_date=day)))
    empty.app.nodes.add("orthanc", "CT room", {"url": source.url}, {})
    empty.app.nodes.add("orthanc", "Archive", {"url": destination.url}, {})
    wizard = to_the_question_what(empty, "CT room", "Archive")
    rule = wizard.what.rule
    empty.click(rule.offers["Modality"])
    assert not wizard.next.isEnabled()
    tick(empty.qtbot, line(rule.group, 0).value, "CT", "MR")
    assert wizard.next.isEnabled()
    empty.click(rule.trial.again)
    empty.wait(lambda: rule.trial.headline.text() == "2 of 3 studies match")
    texts = empty.read(wizard)
    assert "takes the CT images only" in texts
    model = rule.trial.model
    cells = [[str(model.index(r, c).data()) for c in range(4)] for r in range(model.rowCount())]
    assert sorted(c[0] for c in cells) == ["Left out", "Taken", "Taken"]
    assert next(c[1] for c in cells if c[0] == "Left out") == "Patient, US"
    rule.text.setFocus()
    rule.text.moveCursor(rule.text.textCursor().MoveOperation.End)
    empty.type(rule.text, " and StudyDate >= 2021")
    empty.wait(lambda: rule.trial.headline.text().startswith("1 of 3 studies match"))
    assert len(rule.group.parts) == 2
    empty.type(rule.text, "3")
    empty.wait(lambda: not wizard.next.isEnabled())
    assert "“20213” is not a date" in empty.read(wizard)
    empty.qtbot.keyClick(rule.text, Qt.Key.Key_Backspace)
    empty.wait(wizard.next.isEnabled)
    empty.type(rule.text, "x")
    wizard.go_on()  # sooner than the text was read
    assert wizard.page is wizard.what
    empty.qtbot.keyClick(rule.text, Qt.Key.Key_Backspace)
    empty.wait(wizard.next.isEnabled)
    while wizard.page is not wizard.summary:
        empty.click(wizard.next)
    empty.wait(lambda: not wizard.summary.counting)
    assert "Modality is one of CT or MR and Study date is on or after 2021" in empty.read(wizard)
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Confirmed"])
    job = empty.app.jobs.all()[0]
    assert job.fields["filter"] == "Modality in CT, MR and StudyDate >= 2021"


def test_the_rule_of_a_standing_job_is_changed_while_it_is_paused(empty: Hands, start_orthanc: Start) -> None:
    source, destination = start_orthanc("1.12", name="SRC"), start_orthanc("1.12", name="DST")
    empty.app.nodes.add("orthanc", "CT room", {"url": source.url}, {})
    empty.app.nodes.add("orthanc", "Archive", {"url": destination.url}, {})
    fields = {
        "source": ["CT room"], "destination": ["Archive"], "filter": "Modality = CT", "trigger": "instance",
        "poll_interval": 0.2,
    }  # fmt: skip
    job = empty.app.jobs.create("forward", fields, name="Standing", follow=True)  # type: ignore[arg-type]
    empty.session.jobs_edited.emit()
    source.upload(list(make_study("A^CT", patient_id="P1", modality="CT", instances=2)))
    source.upload(list(make_study("B^MR", patient_id="P2", modality="MR", instances=2)))
    empty.wait(lambda: empty.states() == ["Confirmed"])
    empty.go("jobs")
    page = empty.window.jobs
    empty.wait(lambda: page.chosen() is not None and page.rule.isVisible())
    assert "Only what fits: Modality is CT" in page.facts.text()
    assert not page.rule.isEnabled()  # it runs
    empty.click(page.pause)
    empty.wait(lambda: empty.app.jobs.get(job.id).state is JobState.PAUSED)
    empty.wait(page.rule.isEnabled)
    empty.click(page.rule)
    dialog = page.rule_dialog
    empty.click(dialog.rule.trial.again)
    empty.wait(lambda: dialog.rule.trial.headline.text() == "1 of 2 studies match")
    row = line(dialog.rule.group, 0)
    choose(empty.qtbot, row, "is one of")
    assert not dialog.rule.wrong
    tick(empty.qtbot, row.value, "MR")
    empty.wait(lambda: dialog.rule.trial.headline.text() == "2 of 2 studies match")
    empty.click(dialog.save)
    empty.wait(lambda: empty.app.jobs.get(job.id).fields["filter"] == "Modality in CT, MR")
    empty.wait(lambda: "Modality is one of CT or MR" in page.facts.text())
    empty.click(page.start)
    empty.wait(lambda: empty.app.jobs.get(job.id).state is JobState.RUNNING)
    source.upload(list(make_study("C^MR", patient_id="P3", modality="MR", instances=2)))
    empty.wait(lambda: sorted(empty.states()) == ["Confirmed"] * 2)
    empty.app.jobs.cancel(job.id)
    empty.wait(lambda: empty.app.jobs.get(job.id).state is JobState.CANCELLED)


def test_a_migration_of_days_of_which_a_rule_takes_some(empty: Hands, start_orthanc: Start) -> None:
    source, destination = start_orthanc("1.12", name="SRC"), start_orthanc("1.12", name="DST")
    for n, modality in enumerate(("CT", "MR", "US")):
        source.upload(list(make_study(f"Patient^{modality}", patient_id=f"P{n}", modality=modality, instances=2)))
    empty.app.nodes.add("orthanc", "CT room", {"url": source.url}, {})
    empty.app.nodes.add("orthanc", "Archive", {"url": destination.url}, {})
    wizard = empty.window.new_transfer()
    empty.click(wizard.kind_page.choices["migrate"])
    empty.click(wizard.next)
    empty.wait(lambda: "Archive" in wizard.route.destinations.checks)
    for side, chosen in ((wizard.route.sources, "CT room"), (wizard.route.destinations, "Archive")):
        for name, check in side.checks.items():
            check.setChecked(name == chosen)
    empty.click(wizard.next)
    page = wizard.studies
    empty.press(page, "Everything")
    assert not page.rule.isVisible()
    empty.click(page.only)
    empty.click(page.rule.offers["Modality"])
    assert not wizard.next.isEnabled()
    empty.click(page.only)  # folded away, what is not finished is no part of it
    assert wizard.next.isEnabled()
    empty.click(page.only)
    tick(empty.qtbot, line(page.rule.group, 0).value, "MR", "US")
    empty.click(page.rule.trial.again)
    empty.wait(lambda: page.rule.trial.headline.text() == "2 of 3 studies match")
    while wizard.page is not wizard.summary:
        empty.click(wizard.next)
    empty.wait(lambda: not wizard.summary.counting)
    assert "of these only what fits: Modality is one of MR or US" in empty.read(wizard)
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Confirmed"] * 2)
    assert empty.app.jobs.all()[0].fields["filter"] == "Modality in MR, US"
    assert len(destination.digests()) == 4
