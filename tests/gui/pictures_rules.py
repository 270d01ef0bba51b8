"""Pictures of the rule editor, as rows and text, with what it takes of a node; called by `pictures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from core.app import App
from gui.theme import Appearance, theme
from tests.support.studies import make_study

if TYPE_CHECKING:
    from gui.wizards.send import SendWizard
    from tests.gui.pictures import Photographer

_STUDIES = (
    ("LINDQVIST^Astrid", "CT", "Thorax / Abdomen", "20261118", "CHEST"),
    ("ONYANGO^Grace", "MR", "Knee right", "20261117", "KNEE"),
    ("OKONKWO^Ada", "MR", "Brain", "20261103", "HEAD"),
    ("BIANCHI^Marco", "CT", "Angiography coronary", "20260930", "HEART"),
    ("DUBOIS^Claire", "US", "Abdomen", "20261120", "ABDOMEN"),
    ("Satō^Yui=佐藤^結衣", "MG", "Screening bilateral", "20261119", "BREAST"),
    ("KOWALSKI^Jan", "CR", "Hand left", "20261012", "HAND"),
    ("HOFFMANN^Jörg", "CT", "Head without contrast", "20261121", "HEAD"),
)
RULE = (
    "Modality in CT, MR and StudyDate >= 20261001 and "
    "(StudyDescription ~ *thorax* or BodyPartExamined = HEAD or PatientAge < 18Y)"
)


def take_rules(camera_of: Callable[[App], Photographer], folder: Path, *, everything: bool) -> None:
    """The pictures of the rule editor, on a folder of made-up studies."""
    app = App.open(folder / "rules")
    images = folder / "images"
    for n, (name, modality, description, day, part) in enumerate(_STUDIES):
        study = make_study(
            name, patient_id=f"{7741 + n}", modality=modality, description=description, study_date=day, instances=3,
            size_bytes=300, BodyPartExamined=part,
        )  # fmt: skip
        study.write(images / str(n))
    (folder / "archive").mkdir()
    app.nodes.add("folder", "Orthanc CT", {"path": str(images)}, {})
    app.nodes.add("folder", "Cloud archive", {"path": str(folder / "archive")}, {})
    for appearance in (Appearance.LIGHT, Appearance.DARK) if everything else (Appearance.LIGHT,):
        theme().choose(appearance)
        _editor(camera_of(app), "-dark" if appearance is Appearance.DARK else "", everything=everything)
    app.close()


def _editor(camera: Photographer, suffix: str, *, everything: bool) -> None:
    wizard = camera.window.new_transfer()
    wizard.resize(980, 800)
    camera.wait(200)
    wizard.go_on()
    camera.until(lambda: "Orthanc CT" in wizard.route.sources.checks)
    for side, chosen in ((wizard.route.sources, "Orthanc CT"), (wizard.route.destinations, "Cloud archive")):
        for name, check in side.checks.items():
            check.setChecked(name == chosen)
    wizard.go_on()
    camera.wait(200)
    rule = wizard.what.rule
    if everything:
        camera.take(f"rule-empty{suffix}", wizard)
        rule.group.begin("Modality")
        camera.wait(200)
        camera.take(f"rule-begun{suffix}", wizard)
        field = rule.group.parts[0].value  # type: ignore[union-attr]
        field.open()
        camera.wait(200)
        camera.take(f"rule-modalities{suffix}", field.popup)
        field.popup.close()
    rule.set_value(RULE)
    camera.wait(300)
    rule.trial.look()
    camera.until(lambda: rule.trial.trial is not None and not rule.trial.running)
    camera.wait(300)
    camera.take(f"rule{suffix}", wizard)
    if everything:
        _more(camera, wizard, suffix)
    wizard.reject()
    camera.wait(100)
    if everything:
        _of_jobs(camera, suffix)
    camera.close()


def _of_jobs(camera: Photographer, suffix: str) -> None:
    """A migration with a rule, and the rule of a job that exists."""
    wizard = camera.window.new_transfer()
    wizard.kind_page.choices["migrate"].click()
    wizard.go_on()
    camera.until(lambda: "Orthanc CT" in wizard.route.sources.checks)
    for side, chosen in ((wizard.route.sources, "Orthanc CT"), (wizard.route.destinations, "Cloud archive")):
        for name, check in side.checks.items():
            check.setChecked(name == chosen)
    wizard.go_on()
    wizard.studies.only.setChecked(True)
    wizard.studies.rule.set_value("Modality in CT, MR")
    camera.wait(200)
    camera.take(f"rule-migrate{suffix}", wizard)
    wizard.reject()
    fields = {"source": ["Orthanc CT"], "destination": ["Cloud archive"], "filter": RULE}
    camera.session.app.jobs.create("forward", fields, name="CT and MR to the cloud", start=False)  # type: ignore[arg-type]
    camera.window.go("jobs")
    page = camera.window.jobs
    page.refresh()
    camera.until(lambda: page.chosen() is not None and page.rule.isVisible())
    camera.take(f"rule-jobs{suffix}")
    page.rule.click()
    camera.wait(300)
    camera.take(f"rule-job{suffix}", page.rule_dialog)
    page.rule_dialog.reject()


def _more(camera: Photographer, wizard: SendWizard, suffix: str) -> None:
    rule = wizard.what.rule
    rule.set_value("Modality = CT and InstanceNumber <= 2")
    camera.until(lambda: "in part" in rule.trial.more.text())
    camera.wait(200)
    camera.take(f"rule-images{suffix}", wizard)
    rule.set_value("Modality = CT and StudyDate >= 2026123 and PatientName ~ *müller*")
    camera.wait(200)
    camera.take(f"rule-wrong{suffix}", wizard)
    rule.set_value("StudyDate in last 6 weeks and PatientName ~ *hoff* and StudyTime between 08:00 and 17:30")
    row = rule.group.begin("")
    row.tag.setText("slice")
    row.tag.completer().setCompletionPrefix("slice")
    row.tag.completer().complete()
    camera.wait(300)
    camera.take(f"rule-tags{suffix}", row.tag.completer().popup())
    row.tag.completer().popup().hide()
    camera.take(f"rule-unfinished{suffix}", wizard)
