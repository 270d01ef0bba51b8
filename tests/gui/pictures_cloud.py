"""Pictures of cloud services: the form of each, its checklist where it works, and where something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QWidget

from core.app import App
from gui.theme import Appearance, theme
from tests.gui.hospital import open_hospital
from tests.support.azure_nodes import azure_fields
from tests.support.azure_service import AzureService
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_study

if TYPE_CHECKING:
    from tests.gui.pictures import Photographer


def take_cloud(photograph: Callable[[App], Photographer], scratch: Path) -> None:
    """The wizard against the loopback service, light and dark."""
    app = open_hospital(scratch / "cloud", filled=False)
    for appearance in Appearance.LIGHT, Appearance.DARK:
        theme().choose(appearance)
        suffix = "-dark" if appearance is Appearance.DARK else ""
        camera = photograph(app)
        camera.window.go("nodes")
        with AzureService() as service:
            _wizard(camera, service, suffix)
        _web_wizard(camera, suffix)
        camera.close()
    theme().choose(Appearance.LIGHT)
    app.close()


def _wizard(camera: Photographer, service: AzureService, suffix: str) -> None:
    wizard = camera.window.nodes.open_wizard()
    camera.wait(200)
    camera.take(f"add-kinds{suffix}", wizard)
    wizard.kind_page.choices["azure"].click()
    wizard.go_on()
    wizard.fields_page.name.setText("Cloud archive")
    form = wizard.fields_page.form
    assert form is not None
    own = azure_fields(service)
    names = {name: own.pop(name) for name in ("tenant", "client_id", "workspace", "service")}
    form.set_values(names)
    form.editors["client_secret"].main.setText(service.secret)  # type: ignore[attr-defined]
    camera.wait(600)
    camera.take(f"add-azure{suffix}", wizard)
    form.more.setChecked(True)
    form.check()
    camera.wait(300)
    before: QWidget = wizard
    before.resize(900, 1500)
    camera.wait(300)
    camera.take(f"add-azure-more{suffix}", wizard)
    before.resize(900, 760)
    form.set_values({name: own[name] for name in ("service_url", "authority")})
    wizard.go_on()
    camera.until(lambda: not wizard.test_page.running)
    camera.wait(300)
    camera.take(f"add-azure-test{suffix}", wizard)
    service.client.secrets = dict.fromkeys(service.client.secrets, 0.0)
    wizard.test_page.again.click()
    camera.until(lambda: not wizard.test_page.running)
    camera.wait(300)
    camera.take(f"add-azure-expired{suffix}", wizard)
    wizard.reject()
    camera.wait(100)


def _web_wizard(camera: Photographer, suffix: str) -> None:
    """A DICOMweb service: with the address of the server itself at first, which the test mends."""
    with OrthancServer("1.12", dicomweb=True) as server:
        server.upload(make_study(instances=12))
        wizard = camera.window.nodes.open_wizard()
        wizard.kind_page.choices["dicomweb"].click()
        wizard.go_on()
        wizard.fields_page.name.setText("Web archive")
        form = wizard.fields_page.form
        assert form is not None
        form.set_values({"url": server.url})
        camera.wait(600)
        camera.take(f"add-dicomweb{suffix}", wizard)
        form.more.setChecked(True)
        form.set_values({"oauth_url": "https://login.example.org/oauth2/token", "client_id": "ferry"})
        camera.wait(300)
        wizard.resize(900, 1700)
        camera.wait(300)
        camera.take(f"add-dicomweb-more{suffix}", wizard)
        wizard.resize(900, 760)
        form.set_values({"oauth_url": "", "client_id": ""})
        wizard.go_on()
        camera.until(lambda: not wizard.test_page.running)
        camera.wait(300)
        camera.take(f"add-dicomweb-elsewhere{suffix}", wizard)
        wizard.test_page.pin.click()
        camera.until(lambda: not wizard.test_page.running)
        camera.wait(300)
        camera.take(f"add-dicomweb-test{suffix}", wizard)
        wizard.reject()
        camera.wait(100)
