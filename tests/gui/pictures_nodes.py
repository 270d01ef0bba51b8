"""Pictures of nodes: a PACS and what it takes, this computer, and the wizard that adds them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.app import App
from core.model.diagnosis import AcceptedContexts, DiagnosisStep, Profile, Standing, StepResult
from core.model.errors import ConfigurationError
from core.model.events import NodeChanged, NodeHealth
from core.model.remotes import RemoteEntry, RemoteKind, RemoteList
from core.wire.dimse.sop_classes import STORAGE_CLASSES, SYNTAXES, has_pixels
from gui.theme import Appearance, theme
from tests.gui.hospital import open_hospital

if TYPE_CHECKING:
    from tests.gui.pictures import Photographer

PACS, HERE, SERVER = "PACS East", "Ward 7", "Orthanc MRI"
_AZURE = "https://hospital-archive.dicom.azurehealthcareapis.com/v2/"
_REFUSES = ConfigurationError(
    "The peer “west” answers “Orthanc MRI”, but refuses.",
    "Check user name and password, and the address with the path behind it.",
)
_REFUSED = 12  # kinds of image, the least usual ones
_WITHOUT = ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.20", "1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.4.9")
_OK = (
    ("Name found", "pacs-east.hospital.lan → 10.4.2.18"),
    ("Port answers", "104/tcp in 3 ms"),
    ("Association accepted", "PACS_EAST lets DICOMFERRY in; it offers C-ECHO, C-FIND, C-MOVE, storage commitment"),
    ("Answers the echo", "in 6 ms"),
    ("Lists studies", "142 studies in 0.4 s"),
    ("Lists images", "212 in a series"),
    ("Takes lists of UIDs", "several images with one question"),
    ("Gives whole lists", "no sign of a limit"),
)
_TELL = """Please let this application entity use PACS_EAST (pacs-east.hospital.lan, port 104):
  AE title: DICOMFERRY
  Address: 10.4.2.20
  Services that it uses: C-ECHO, C-FIND, C-MOVE or C-GET, C-STORE, storage commitment
  Destination for C-MOVE: AE title WARD7, at the same address, port 11112"""
_STANDING = Standing(
    (
        ("Called as", "WARD7 at 10.4.2.20, port 11112"),
        ("Who may call", "MODALITY1@10.4.2.17, *@10.4.3.0/24, “PACS East”"),
        ("Holds", "38 studies with 9,412 images, 4.9 GB"),
        ("Disk", "211.4 GB free, 2 GB of it reserved"),
        ("Turned away", "CT9@10.4.9.8, 08:51: it is not among those who may call"),
    ),
    "AE title: WARD7",
)


def take_nodes(photograph: Callable[[App], Photographer], scratch: Path, *, everything: bool) -> None:
    """The nodes page with a PACS and with this computer, and the wizard's pages, light; dark as well on demand."""
    app = open_hospital(scratch / "nodes")
    _add_nodes(app)
    for appearance in (Appearance.LIGHT, Appearance.DARK) if everything else (Appearance.LIGHT,):
        theme().choose(appearance)
        suffix = "-dark" if appearance is Appearance.DARK else ""
        camera = photograph(app)
        camera.engine(unconfirmed=0)
        camera.session._sort([NodeChanged(HERE, NodeHealth.WORKS, datetime.now(UTC))])
        page = camera.window.nodes
        page._stands.stop()
        page._ask_standing = lambda: None  # type: ignore[method-assign]  # it would tell of whoever takes the pictures
        camera.window.go("nodes")
        camera.wait()
        _choose(camera, PACS)
        camera.take(f"nodes{suffix}")
        page.images_tab.click()
        camera.wait(200)
        camera.take(f"nodes-images{suffix}")
        _choose(camera, HERE)
        page.standing.show_standing(_STANDING)
        camera.wait(200)
        camera.take(f"nodes-this-computer{suffix}")
        _sends_to(camera, suffix)
        _wizard(camera, suffix, everything=everything)
        camera.close()
    theme().choose(Appearance.LIGHT)
    app.close()


def _add_nodes(app: App) -> None:
    app.nodes.add("dicom", PACS, {"aet": "PACS_EAST", "host": "pacs-east.hospital.lan"}, {})
    app.nodes.add("this-computer", HERE, {"aet": "WARD7", "callers": ["MODALITY1@10.4.2.17", "*@10.4.3.0/24"]}, {})
    steps = [DiagnosisStep(name, StepResult.OK, finding) for name, finding in _OK]
    steps.append(
        DiagnosisStep(
            "Sends images here",
            StepResult.WARNING,
            "PACS East doesn't know the destination “WARD7” (A801).",
            "The node must know “WARD7” as a destination: ask the PACS administrator to enter it, and check that no "
            "firewall keeps its connection to this computer out.",
            tell=_TELL,
        )
    )
    steps.append(DiagnosisStep("Storage commitment", StepResult.OK, "offered: it can vouch for what it has stored"))
    facts = tuple(group.as_fact(number) for number, group in enumerate(_accepted(), 1))
    app.ledger.save_profile(PACS, Profile(datetime.now(UTC), tuple(steps), facts))
    here = (
        DiagnosisStep("Images can be kept", StepResult.OK, "D:\\Ferry; it held 9,412 images of 38 studies, 4.9 GB"),
        DiagnosisStep("Room on the disk", StepResult.OK, "211.4 GB free, 2 GB of it reserved"),
        DiagnosisStep("Own certificate", StepResult.SKIPPED, "connections are not encrypted"),
        DiagnosisStep("Takes calls", StepResult.OK, "listens as WARD7 at port 11112 and answers to C-ECHO"),
        DiagnosisStep("Who may call", StepResult.OK, "MODALITY1@10.4.2.17, *@10.4.3.0/24, PACS East"),
        DiagnosisStep("Reached by others", StepResult.OK, "WARD7 at 10.4.2.20, port 11112", tell="AE title: WARD7"),
    )
    app.ledger.save_profile(HERE, Profile(datetime.now(UTC), here, (("listening", "yes"),)))


def _accepted() -> list[AcceptedContexts]:
    taken = STORAGE_CLASSES[:-_REFUSED]
    plain = SYNTAXES[:2]
    many = tuple(s for s in SYNTAXES if not s.startswith(_WITHOUT) or s in ("1.2.840.10008.1.2.4.90",))
    images = tuple(c for c in taken if has_pixels(c))
    return [
        AcceptedContexts(images, many),
        AcceptedContexts(tuple(c for c in taken if c not in images), plain),
        AcceptedContexts(STORAGE_CLASSES[-_REFUSED:], ()),
    ]


def _choose(camera: Photographer, name: str) -> None:
    page = camera.window.nodes
    at = page.model.row_of(name)
    assert at is not None
    page.table.selectRow(at)
    camera.wait()


def _sends_to(camera: Photographer, suffix: str) -> None:
    """What an Orthanc sends to, as it would be told."""
    page = camera.window.nodes
    view = page.remotes
    view.reload = lambda: None  # type: ignore[method-assign]  # nobody answers here
    _choose(camera, SERVER)
    page.sends_tab.click()
    modality = {"aet": "PACS_EAST", "host": "pacs-east.hospital.lan", "port": 104}
    entries = (
        RemoteEntry(RemoteKind.MODALITY, "pacs-east", "PACS_EAST at pacs-east.hospital.lan:104", modality, node=PACS),
        RemoteEntry(RemoteKind.PEER, "west", "https://pacs-west.hospital.lan/", {}, ("password",), node="PACS West"),
        RemoteEntry(RemoteKind.DICOMWEB, "azure", _AZURE, {}, node="Azure", lent=True),
    )
    tell = tuple((kind, "Please add this to the configuration …") for kind in RemoteKind)
    view._show(RemoteList(entries, tuple(RemoteKind), tell=tell))
    view.lines[RemoteKind.MODALITY, "pacs-east"].say_works("It answers the echo (C-ECHO).")
    view.lines[RemoteKind.PEER, "west"].say_fails(_REFUSES)
    camera.wait(300)
    camera.take(f"nodes-sends-to{suffix}")
    page.steps_tab.click()


def _wizard(camera: Photographer, suffix: str, *, everything: bool) -> None:
    for kind, name, fields in (
        ("dicom", "PACS North", {"aet": "PACS_NORTH", "host": "pacs-north.hospital.lan", "port": 104}),
        ("this-computer", "Ward 8", {"aet": "WARD8", "callers": ["MODALITY1@10.4.2.17", "*@10.4.3.0/24"]}),
    ):
        wizard = camera.window.nodes.open_wizard()
        camera.wait(200)
        wizard.kind_page.choices[kind].click()
        wizard.go_on()
        wizard.fields_page.name.setText(name)
        form = wizard.fields_page.form
        assert form is not None
        form.set_values(fields)  # type: ignore[arg-type]
        camera.wait(600)
        camera.take(f"add-{kind}{suffix}", wizard)
        if everything:
            form.more.setChecked(True)
            form.set_values({"tls": True})
            form.check()
            camera.wait(300)
            camera.take(f"add-{kind}-more{suffix}", wizard)
        wizard.reject()
        camera.wait(100)
