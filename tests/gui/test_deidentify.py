"""De-identification in the window: chosen by a person, seen before and after on a real image, and done."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from PySide6.QtWidgets import QCheckBox, QComboBox, QFileDialog

from core.secrets import variable_name
from core.step_book import SHARED
from core.steps.base import StepSurroundings
from core.steps.deidentify.pseudonyms import Pseudonyms, secret_name
from gui.widgets.step_dialog import StepDialog
from tests.gui.hands import Hands
from tests.gui.test_steps import add_step, opened, to_steps
from tests.support.deidentifying import KEY, traces
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_study

Start = Callable[..., OrthancServer]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_name(SHARED, secret_name("standard")), KEY)


def choose(dialog: StepDialog, field: str, label: str) -> None:
    box = dialog.form.editors[field].main
    assert isinstance(box, QComboBox)
    at = box.findText(label)
    assert at >= 0, f"{label!r} is none of {[box.itemText(i) for i in range(box.count())]}"
    box.setCurrentIndex(at)


def tick(dialog: StepDialog, field: str) -> None:
    check = dialog.form.editors[field].main
    assert isinstance(check, QCheckBox)
    check.setChecked(True)


def test_a_person_de_identifies_studies(empty: Hands, start_orthanc: Start) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.10")
    study = make_study(
        instances=3, patient="Quagga^Zebedee", patient_id="PID-4711-0815", description="Thorax Quagga",
        PatientBirthDate="19520229",
    )  # fmt: skip
    source.upload(study)
    empty.app.nodes.add("orthanc", "CT", {"url": source.url}, {})
    empty.app.nodes.add("orthanc", "Research", {"url": destination.url}, {})
    wizard = to_steps(empty, "CT", "Research")
    dialog = add_step(empty, wizard.steps.editor, "De-identify")
    assert "The picture itself is never changed" in empty.read(dialog)
    prefix = dialog.form.editors["prefix"].main
    prefix.clear()  # type: ignore[attr-defined]
    empty.type(prefix, "TRIAL 7")
    empty.click(dialog.done_button)
    assert not wizard.steps.editor.choices, "no pseudonym can begin with that"
    prefix.clear()  # type: ignore[attr-defined]
    empty.type(prefix, "TRIAL7")
    choose(dialog, "dates", "Shift by days, the same for all of a patient")
    tick(dialog, "keep_descriptors")
    empty.click(dialog.done_button)
    empty.wait(lambda: bool(wizard.steps.editor.choices))
    assert "De-identify, pseudonyms TRIAL7-…, dates shifted" in wizard.steps.editor.cards[0].about.text()

    preview = opened(empty, wizard)
    shown = {row.name: row for row in preview.model.records if not row.level}
    pseudonym = Pseudonyms(bytes.fromhex(KEY), "TRIAL7").patient("id\0PID-4711-0815")
    assert (shown["Patient ID"].before, shown["Patient ID"].after) == ("PID-4711-0815", pseudonym)
    assert shown["Study Description"].after == "Thorax"
    assert shown["Patient's Birth Date"].after == ""
    assert shown["Patient Identity Removed"].after == "YES"
    empty.click(preview.close_button)

    while wizard.page is not wizard.summary:
        empty.click(wizard.next)
    empty.wait(lambda: not wizard.summary.counting)
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Confirmed"])
    step = Pseudonyms(bytes.fromhex(KEY))
    there = destination.file(step.uid(study.sop_uids[0]))
    assert not traces(there, "Quagga", "PID-4711", "19520229", study.study_uid)
    assert pydicom.dcmread(io.BytesIO(there)).PatientID == pseudonym


def test_why_an_image_is_not_sent_is_seen_in_the_preview(empty: Hands, start_orthanc: Start, tmp_path: Path) -> None:
    source = start_orthanc("1.12")
    source.upload(make_study(instances=2, modality="US"))
    empty.app.nodes.add("orthanc", "US", {"url": source.url}, {})
    (tmp_path / "out").mkdir()
    empty.app.nodes.add("folder", "Out", {"path": str(tmp_path / "out")}, {})
    wizard = to_steps(empty, "US", "Out")
    dialog = add_step(empty, wizard.steps.editor, "De-identify")
    empty.click(dialog.done_button)
    empty.wait(lambda: bool(wizard.steps.editor.choices))
    preview = opened(empty, wizard)
    assert preview.banner.lead == "This image would not be sent."
    assert "images of modality US often have text in them" in empty.read(preview)
    empty.click(preview.close_button)
    wizard.reject()


def test_the_key_is_shown_copied_and_put_back(empty: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, str] = {}
    surroundings = StepSurroundings(secret=kept.get, keep_secret=kept.__setitem__)
    monkeypatch.setattr(empty.app.steps, "surroundings", lambda: surroundings)
    empty.go("settings")
    card = empty.window.settings.key
    empty.wait(lambda: card.pill.text == "Made at first use")
    assert not card.save.isEnabled()
    copy = tmp_path / "copy.txt"
    copy.write_text(KEY + "\n")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(copy), ""))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "saved.txt"), ""))
    empty.click(card.load)
    fingerprint = Pseudonyms(bytes.fromhex(KEY)).fingerprint
    empty.wait(lambda: card.pill.text == f"Fingerprint {fingerprint}")
    assert kept == {secret_name("standard"): KEY}

    empty.click(card.save)
    empty.answer("Save a copy")
    empty.wait(lambda: card.banner.lead == "The key was copied.")
    saved = tmp_path / "saved.txt"
    assert saved.read_text().strip() == KEY
    assert os.name != "posix" or stat.S_IMODE(saved.stat().st_mode) == 0o600

    copy.write_text("ab" * 32)
    empty.click(card.load)
    empty.answer("Keep it")
    assert kept[secret_name("standard")] == KEY
    empty.click(card.load)
    empty.answer("Replace the key")
    empty.wait(lambda: kept[secret_name("standard")] == "ab" * 32)
    copy.write_text("this is no key")
    empty.click(card.load)
    empty.wait(lambda: "no such key" in card.banner.lead)

    card.name.clear()
    empty.type(card.name, "trial7")
    empty.wait(lambda: card.pill.text == "Made at first use")
    assert secret_name("trial7") not in kept, "looking makes no key"
