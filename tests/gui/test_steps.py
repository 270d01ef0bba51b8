"""Processing steps in the window: added, put in order, previewed on a real image, and done."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pydicom
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QPlainTextEdit

from core.model.steps import StepChoice
from gui.widgets.step_dialog import StepDialog
from gui.widgets.steps import StepsEditor
from gui.widgets.steps_preview import PreviewDialog
from gui.widgets.tag_actions import TagActionsEdit
from gui.wizards.send import SendWizard
from tests.gui.hands import Hands
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_study

Start = Callable[..., OrthancServer]


def add_step(hands: Hands, editor: StepsEditor, title: str) -> StepDialog:
    """Choose a kind from the menu behind the button."""
    assert hands.button(editor, "Add a step").isVisible()
    menu = editor.add.menu()
    assert menu is not None
    next(a for a in menu.actions() if a.text() == title).trigger()
    hands.wait(lambda: editor.dialog is not None and editor.dialog.isVisible())
    assert editor.dialog is not None
    return editor.dialog


def add_tags(hands: Hands, editor: StepsEditor, *lines: str) -> None:
    dialog = add_step(hands, editor, "Change tags")
    text = dialog.form.editors["actions"].main
    assert isinstance(text, QPlainTextEdit)
    for number, line in enumerate(lines):
        if number:
            hands.qtbot.keyClick(text, Qt.Key.Key_Return)
        hands.type(text, line)
    count = len(editor.choices)
    hands.click(dialog.done_button)
    hands.wait(lambda: len(editor.choices) == count + 1)


def test_an_action_is_put_together_from_a_list_of_tags(empty: Hands) -> None:
    editor = StepsEditor()
    empty.qtbot.addWidget(editor)
    editor.show()
    dialog = add_step(empty, editor, "Change tags")
    (build,) = dialog.form.findChildren(TagActionsEdit)
    assert not build.add.isEnabled()
    empty.type(build.tag, "accession number")
    empty.qtbot.keyClick(build.tag, Qt.Key.Key_Return)
    empty.type(build.value, "A; B")
    empty.click(build.add)
    build.verb.setCurrentText("Remove")
    assert not build.value.isVisible()
    empty.type(build.tag, "(0019,1010)")
    empty.qtbot.keyClick(build.tag, Qt.Key.Key_Return)
    empty.click(build.add)
    assert build.text.toPlainText() == 'set AccessionNumber="A; B"\nremove (0019,1010)'
    empty.click(dialog.done_button)
    empty.wait(lambda: bool(editor.choices))
    assert editor.choices[0].fields["actions"] == 'set AccessionNumber="A; B"\nremove (0019,1010)'


def to_steps(hands: Hands, source: str, destination: str) -> SendWizard:
    wizard = hands.window.new_transfer()
    hands.click(wizard.kind_page.choices["forward"])
    hands.click(wizard.next)
    hands.wait(lambda: destination in wizard.route.destinations.checks)
    for name, check in wizard.route.sources.checks.items():
        check.setChecked(name == source)
    for name, check in wizard.route.destinations.checks.items():
        check.setChecked(name == destination)
    hands.click(wizard.next)
    hands.click(wizard.next)
    assert wizard.page is wizard.steps
    return wizard


def opened(hands: Hands, wizard: SendWizard) -> PreviewDialog:
    hands.click(wizard.steps.look)
    dialog = wizard.steps.preview
    assert dialog is not None
    hands.wait(lambda: not dialog.working)
    return dialog


def test_steps_are_chosen_previewed_and_done(empty: Hands, start_orthanc: Start) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.10")
    study = make_study(instances=4, patient="Lovelace^Ada")
    source.upload(study)
    empty.app.nodes.add("orthanc", "CT", {"url": source.url}, {})
    empty.app.nodes.add("orthanc", "Archive", {"url": destination.url}, {})
    wizard = to_steps(empty, "CT", "Archive")
    editor = wizard.steps.editor
    assert "images are sent exactly as they are" in empty.read(wizard)
    assert not wizard.steps.look.isVisible()
    add_tags(empty, editor, "set InstitutionName=Radiology West", "remove StudyDescription")
    add_tags(empty, editor, "prefix PatientID=W-")
    assert "Set InstitutionName, remove StudyDescription" in editor.cards[0].about.text()
    empty.click(editor.cards[1].up)
    assert "Prefix PatientID" in editor.cards[0].about.text()

    dialog = opened(empty, wizard)
    assert "FERRY-1" in dialog.study.currentText()
    shown = {r.name: r for r in dialog.model.records if not r.level}
    assert shown["Patient ID"].after == "W-FERRY-1"
    assert (shown["Study Description"].state.value, shown["Study Description"].after) == ("removed", "")
    assert shown["Institution Name"].state.value == "added"
    assert "Patient's Name" not in shown, "only changes"
    dialog.only_changes.setChecked(False)
    assert any(r.name == "Patient's Name" for r in dialog.model.records)
    dialog.search.setText("study instance")
    assert study.study_uid in [r.before for r in dialog.model.records]
    dialog.table.selectRow(0)
    empty.qtbot.keyClick(dialog.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert study.study_uid in QGuiApplication.clipboard().text()
    empty.click(dialog.close_button)
    assert destination.count() == 0

    while wizard.page is not wizard.summary:
        empty.click(wizard.next)
    empty.wait(lambda: not wizard.summary.counting)
    assert "Prefix PatientID; then Set InstitutionName" in empty.read(wizard)
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Confirmed"])
    there = pydicom.dcmread(io.BytesIO(destination.file(study.sop_uids[0])))
    assert (there.PatientID, there.InstitutionName) == ("W-FERRY-1", "Radiology West")

    empty.window.transfers.table.selectRow(0)
    detail = empty.window.transfers.detail
    empty.click(detail.images_tab)
    empty.wait(lambda: detail.images.rowCount() == 4)
    remarks = detail.images.index(0, 6).data()
    assert "Change tags: PatientID prefixed." in remarks
    empty.go("jobs")
    empty.wait(lambda: "On the way: Prefix PatientID; then Set InstitutionName" in empty.read(empty.window.jobs))


def test_what_is_wrong_with_a_step_stands_at_its_field(empty: Hands, start_orthanc: Start, tmp_path: Path) -> None:
    source = start_orthanc("1.12")
    source.upload(make_study(instances=2))
    empty.app.nodes.add("orthanc", "CT", {"url": source.url}, {})
    (tmp_path / "out").mkdir()
    empty.app.nodes.add("folder", "Out", {"path": str(tmp_path / "out")}, {})
    wizard = to_steps(empty, "CT", "Out")
    editor = wizard.steps.editor
    dialog = add_step(empty, editor, "Change tags")
    text = dialog.form.editors["actions"].main
    empty.type(text, "set PatientBirthDate=1.2.1970")
    empty.click(dialog.done_button)
    empty.wait(lambda: "it takes a date such as 20240315" in empty.read(dialog))
    empty.click(dialog.cancel)
    assert not editor.choices

    table = tmp_path / "ids.csv"
    table.write_text("old,new\nFERRY-1,NEW-1\nFERRY-1,NEW-2\n,NEW-3\n")
    dialog = add_step(empty, editor, "Look up patients")
    empty.type(dialog.form.editors["table"].main, str(table))
    empty.click(dialog.done_button)
    empty.wait(lambda: "line 3: the patient ID of line 2 once more" in dialog.banner.lead)
    assert "line 4: no patient ID" in dialog.banner.lead
    table.write_text("old,new\nSOMEBODY,NEW-1\n")
    empty.click(dialog.done_button)
    empty.wait(lambda: bool(editor.choices))

    preview = opened(empty, wizard)
    assert "This image would not be sent." in preview.banner.lead
    assert "The patient is not in the table ids.csv." in preview.banner.rest
    empty.click(preview.close_button)
    empty.click(editor.cards[0].remove)
    assert not editor.choices
    wizard.reject()


def test_a_move_that_de_identifies_asks_for_the_originals(empty: Hands, start_orthanc: Start, tmp_path: Path) -> None:
    source = start_orthanc("1.12")
    source.upload(make_study(instances=2))
    empty.app.nodes.add("orthanc", "CT", {"url": source.url}, {})
    (tmp_path / "out").mkdir()
    empty.app.nodes.add("folder", "Out", {"path": str(tmp_path / "out")}, {})
    wizard = to_steps(empty, "CT", "Out")
    wizard.steps.editor.set_choices([StepChoice(kind="deidentify")])
    assert wizard.next.isEnabled()
    empty.click(wizard.back)
    wizard.what.move_them.setChecked(True)
    empty.click(wizard.next)
    assert "the only images that say whose they are" in wizard.steps.warning.lead
    assert not wizard.next.isEnabled()
    wizard.steps.elsewhere.setChecked(True)
    assert wizard.next.isEnabled()
    assert wizard.fields()["originals_elsewhere"] is True
    wizard.reject()
