"""Pictures of processing steps: the list in the wizard, a step's fields, the preview; called by `pictures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from core.app import App
from core.model.steps import StepChoice, parse_step
from gui.theme import Appearance, theme
from tests.support.studies import make_study

if TYPE_CHECKING:
    from gui.wizards.send import SendWizard
    from tests.gui.pictures import Photographer

TAGS = 'tags where="Modality = CT" actions="set InstitutionName=Radiology West; prefix AccessionNumber=W-; ' \
       'remove (0019,xx10); empty ReferringPhysicianName; suffix PatientComments=!"'  # fmt: skip


def take_steps(camera_of: Callable[[App], Photographer], folder: Path, *, everything: bool) -> None:
    """The pictures of steps, on a folder of made-up studies."""
    app = App.open(folder / "steps")
    images = folder / "step-images"
    for n, name in enumerate(("LINDQVIST^Astrid", "ONYANGO^Grace", "BIANCHI^Marco")):
        study = make_study(
            name, patient_id=f"{7741 + n}", description="Thorax / Abdomen", instances=2, size_bytes=3000,
            PatientBirthDate="19610207", InstitutionName="General Hospital", ReferringPhysicianName="WEBER^Karin",
        )  # fmt: skip
        study.write(images / str(n))
    (folder / "step-archive").mkdir()
    app.nodes.add("folder", "CT 2", {"path": str(images)}, {})
    app.nodes.add("folder", "Cloud archive", {"path": str(folder / "step-archive")}, {})
    (folder / "patients.csv").write_text(
        "old;new;issuer;name\n7741;W-55102;WEST;LINDQVIST^Astrid M\n7742;W-55103;WEST;\n7743;W-55104;WEST;\n"
    )
    for appearance in (Appearance.LIGHT, Appearance.DARK) if everything else (Appearance.LIGHT,):
        theme().choose(appearance)
        camera = camera_of(app)
        _wizard(camera, folder, "-dark" if appearance is Appearance.DARK else "", everything=everything)
        camera.close()
    app.close()


def _wizard(camera: Photographer, folder: Path, suffix: str, *, everything: bool) -> None:
    wizard = camera.window.new_transfer()
    camera.wait(200)
    wizard.go_on()
    camera.until(lambda: "CT 2" in wizard.route.sources.checks)
    for side, chosen in ((wizard.route.sources, "CT 2"), (wizard.route.destinations, "Cloud archive")):
        for name, check in side.checks.items():
            check.setChecked(name == chosen)
    wizard.go_on()
    wizard.what.move_them.setChecked(True)
    wizard.go_on()
    camera.wait(200)
    if everything:
        camera.take(f"steps-none{suffix}", wizard)
        _dialogs(camera, wizard, suffix)
    table = StepChoice(kind="lookup", fields={"table": str(folder / "patients.csv")})
    wizard.steps.editor.set_choices([table, parse_step(TAGS)])
    _preview(camera, wizard, f"steps-preview{suffix}")
    wizard.steps.editor.set_choices([parse_step(TAGS), StepChoice(kind="deidentify", fields={"dates": "shift"})])
    camera.wait(200)
    camera.take(f"steps{suffix}", wizard)
    wizard.reject()
    camera.wait(100)


def _preview(camera: Photographer, wizard: SendWizard, name: str) -> None:
    wizard.steps.open_preview()
    dialog = wizard.steps.preview
    assert dialog is not None
    camera.until(lambda: not dialog.working)
    assert dialog.found is not None, dialog.banner.lead
    camera.wait(200)
    camera.take(name, dialog)
    dialog.accept()


def _dialogs(camera: Photographer, wizard: SendWizard, suffix: str) -> None:
    editor = wizard.steps.editor
    for kind in ("tags", "lookup", "external", "deidentify"):
        editor.add_step(kind)
        assert editor.dialog is not None
        camera.wait(150)
        if kind == "tags":
            editor.dialog.form.set_values({"actions": "set PatientBirthDate=7.2.1961\nremove (0019,xx10)"})
            editor.dialog.form.more.setChecked(True)
            editor.dialog.form.check()
            camera.wait(150)
        camera.take(f"step-{kind}{suffix}", editor.dialog)
        editor.dialog.reject()
