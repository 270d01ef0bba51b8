"""The self-test: what can be checked on this computer without any server of its own."""

from __future__ import annotations

import importlib
import importlib.resources
import json
import os
import secrets
import socket
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.home import Home
from core.jobs.registry import job_kinds
from core.ledger.ledger import Ledger
from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import FerryError
from core.model.fields import form_fields
from core.model.node import NodeRecord
from core.nodes.base import OpenContext
from core.nodes.registry import node_kinds
from core.screen import has_display
from core.secrets import Secrets
from core.steps.base import StepSurroundings
from core.steps.registry import step_kinds
from core.wire.http import HttpPool

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_HERE = "127.0.0.1"
_AET = "SELF_TEST"


class Skipped(Exception):  # noqa: N818 - it is no error
    """This computer lacks what a check needs, and DICOM Ferry goes without."""


def self_test() -> Iterator[DiagnosisStep]:
    """Run each check, giving its result as it ends; never raises for what it checks."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("Kinds of nodes, jobs and steps", _kinds),
        ("Resources", _resources),
        ("Ledger", _ledger),
        ("Keyring", _keyring),
        ("Web requests", _web_request),
        ("DICOM", _dicom),
        ("De-identification", _deidentification),
        ("Window", _window),
        ("Tray", _tray),
    )
    for name, check in checks:
        try:
            yield DiagnosisStep(name, StepResult.OK, check())
        except Skipped as skipped:
            yield DiagnosisStep(name, StepResult.WARNING, str(skipped))
        except FerryError as error:
            yield DiagnosisStep(name, StepResult.FAILED, error.sentence, error.next_step, error.detail)
        except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the finding
            step = "This installation is broken: install DICOM Ferry anew."
            yield DiagnosisStep(name, StepResult.FAILED, f"{type(error).__name__}: {error}", step, repr(error))


def _kinds() -> str:
    nodes, jobs, steps = node_kinds.all(), job_kinds.all(), step_kinds.all()
    fields = [k.Fields for k in nodes.values()], [k.Fields for k in jobs.values()], [k.Fields for k in steps.values()]
    for model in (model for models in fields for model in models):
        form_fields(model)
    if not nodes or not jobs:
        raise FerryError("No kinds of nodes or jobs were found.", "Install DICOM Ferry anew.")
    return "; ".join(", ".join(kinds) for kinds in (nodes, jobs, steps) if kinds)


def _resources() -> str:
    count = 0
    for file in _files(importlib.resources.files("resources")):
        data = file.read_bytes()
        count += 1
        if file.name.endswith(".toml"):
            tomllib.loads(data.decode("utf-8"))
        elif file.name.endswith(".svg") and b"<svg" not in data:
            raise FerryError(f"The icon {file.name} is damaged.", "Install DICOM Ferry anew.")
    if not count:
        raise FerryError("The program's own files are missing.", "Install DICOM Ferry anew.")
    return f"{count} files"


def _files(folder: Traversable) -> Iterator[Traversable]:
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _files(entry)
        elif not entry.name.endswith((".py", ".pyc")):
            yield entry


def _ledger() -> str:
    with tempfile.TemporaryDirectory(prefix="dicom-ferry-self-test-") as folder:
        home = Home.open(Path(folder) / "home")
        for _ in range(2):  # made and migrated, then opened again
            ledger = Ledger.open(home.ledger_file)
            try:
                ledger.save_node(NodeRecord(name="self-test", kind="folder"))
                if [r.name for r in ledger.nodes()] != ["self-test"]:
                    raise FerryError("The ledger does not give back what was written.", "Check the disk.")
            finally:
                ledger.close()
    return "made, migrated, written, read again"


def _keyring() -> str:
    importlib.import_module("keyring")  # missing, it would look like a keyring that refuses
    kept = Secrets(f"self-test-{secrets.token_hex(4)}", environment=_screen_only())
    status = kept.status()
    if not status.available:
        raise Skipped(f"{status.sentence} {status.next_step}")
    value = secrets.token_urlsafe(24)
    kept.put("self-test", "password", value)
    try:
        if kept.get("self-test") != value:
            raise FerryError("The keyring does not give back what was put there.", "Check the system's keyring.")
    finally:
        kept.remove("self-test")
    if kept.get("self-test") is not None:
        raise FerryError("The keyring does not forget what was removed.", "Check the system's keyring.")
    return f"{status.backend}: kept, read, removed"


def _screen_only() -> dict[str, str]:
    """No secrets from the environment, but whether somebody can be asked to unlock the keyring."""
    return {k: v for k, v in os.environ.items() if k in ("DISPLAY", "WAYLAND_DISPLAY")}


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def _loopback_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _web_request() -> str:
    with _loopback_server() as url:
        pool = HttpPool(url, limit=1)
        try:
            answer = pool.fetch("GET", "/system")
            body = json.loads(answer.body)
        finally:
            pool.close()
    if answer.status != 200 or body != {"path": "/system"}:
        raise FerryError("A request to this computer itself went wrong.", "Check firewall and antivirus programs.")
    return "a server on this computer answered"


def _dicom() -> str:
    """C-ECHO and C-STORE to this computer itself, kept durably and found again."""
    # Here, for they bring pydicom: a third of a second.
    from core.nodes.this_computer.fields import ThisComputerFields
    from core.nodes.this_computer.node import ThisComputerNode
    from core.wire.dimse.echo import echo
    from core.wire.dimse.peer import Peer
    from core.wire.dimse.store import AssociationLimit, StoreAssociations

    with tempfile.TemporaryDirectory(prefix="dicom-ferry-self-test-") as folder:
        fields = ThisComputerFields(aet=_AET, port=_free_port(), bind=_HERE, folder=folder, reserve=0.1)
        node = ThisComputerNode(fields, OpenContext("self-test", lambda _field: None))
        try:
            node.listen()
            peer = Peer("self-test", _HERE, fields.port, called_aet=_AET, calling_aet=_AET)
            echo(peer)
            sop_class, sop_uid, transfer_syntax, data = _tiny_image()
            associations = StoreAssociations(peer, AssociationLimit(1))
            try:
                status = associations.store(sop_class, sop_uid, transfer_syntax, data).status
            finally:
                associations.close()
            if status or sop_uid not in node.spool.catalogue.find([sop_uid]):
                raise FerryError(
                    f"An image that was sent to this computer itself was not kept (status {status:04X}H).",
                    "Check the disk and its room.",
                )
        finally:
            node.close()
    return "this computer answered to C-ECHO, and kept an image sent by C-STORE"


def _tiny_image() -> tuple[str, str, str, bytes]:
    """SOP class, SOP Instance UID, transfer syntax and data set of a synthetic image."""
    from pydicom import uid as uids
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    ds = _tiny_dataset()
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return ds.SOPClassUID, ds.SOPInstanceUID, uids.ExplicitVRLittleEndian, buffer.getvalue()


def _tiny_dataset() -> Dataset:
    from pydicom import uid as uids
    from pydicom.dataset import Dataset

    ds = Dataset()
    ds.SOPClassUID = uids.SecondaryCaptureImageStorage
    ds.SOPInstanceUID = uids.generate_uid()
    ds.StudyInstanceUID = uids.generate_uid()
    ds.SeriesInstanceUID = uids.generate_uid()
    ds.PatientName = "Self^Test"
    ds.PatientID = "SELF-TEST"
    ds.Modality = "OT"
    return ds


def _deidentification() -> str:
    """The tables of the profile, the library's and our own, on a made-up image and with a key of the moment."""
    from core.steps.deidentify.profile import EDITION, attributes, content_items, safe_private

    kind, kept = step_kinds.get("deidentify"), dict[str, str]()
    surroundings = StepSurroundings(secret=kept.get, keep_secret=kept.__setitem__)
    step = kind.open(kind.Fields.model_validate({"burned_in": "pass"}), surroundings)
    image = _tiny_dataset()
    step.apply(image)
    if image.PatientID == "SELF-TEST" or "Self" in str(image.PatientName) or image.PatientIdentityRemoved != "YES":
        raise FerryError("De-identification leaves the patient's name.", "Install DICOM Ferry anew.")
    rules = len(attributes()) + len(content_items()) + len(safe_private())
    return f"DICOM PS3.15 {EDITION}, {rules:,} rules"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HERE, 0))
        return int(probe.getsockname()[1])


def _window() -> str:
    """The window on an empty home, painted; where there is no screen, into memory."""
    screen = has_display()
    if not screen:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    said: str = _of_the_window("window_picture")()
    return said


def _tray() -> str:
    if not has_display():
        raise Skipped("There is no screen here, and no tray.")
    if not _of_the_window("tray_icon")():
        raise Skipped("This desktop has no tray: closing the window ends the program.")
    return "an icon was shown"


def _of_the_window(name: str) -> Callable[[], Any]:
    """A check of the window's, by name: core goes without Qt."""
    try:
        found: Callable[[], Any] = getattr(importlib.import_module("gui.self_test"), name)
    except ImportError as error:
        raise Skipped(
            f"Qt for Python is missing or incomplete: commands work, the window doesn't ({error})."
        ) from error
    return found
