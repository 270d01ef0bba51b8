"""Pictures of all modalities of a real Orthanc as a destination, in the wizard; called by `pictures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from core.app import App
from gui.theme import Appearance, theme
from tests.support.orthanc import OrthancServer

if TYPE_CHECKING:
    from tests.gui.pictures import Photographer

ALL = "Orthanc MRI: all modalities"


def take_everyone(camera_of: Callable[[App], Photographer], folder: Path) -> None:
    """A server that knows one of our nodes, and one that is none yet."""
    app = App.open(folder / "everyone")
    with OrthancServer("1.12", name="MRI") as server:
        server.put("/modalities/pacs-west", {"AET": "WEST", "Host": "127.0.0.1", "Port": 11112})
        server.put("/modalities/workstation-2", {"AET": "WS2", "Host": "10.1.2.3", "Port": 104})
        app.nodes.add("orthanc", "Orthanc MRI", {"url": server.url}, {})
        app.nodes.add("dicom", "PACS West", {"aet": "WEST", "host": "127.0.0.1", "port": 11112}, {})
        app.nodes.add("folder", "Disk", {"path": str(folder)}, {})
        for appearance in (Appearance.LIGHT, Appearance.DARK):
            theme().choose(appearance)
            camera = camera_of(app)
            camera.window.new_transfer()
            camera.wait(300)
            wizard = camera.window.wizard
            assert wizard is not None
            wizard.kind_page.choices["forward"].click()
            wizard.go_on()
            camera.until(lambda wizard=wizard: ALL in wizard.route.destinations.checks)  # type: ignore[misc]
            wizard.route.sources.checks["Orthanc MRI"].setChecked(True)
            wizard.route.destinations.checks[ALL].setChecked(True)
            camera.until(lambda wizard=wizard: "Now:" in wizard.route.destinations.answers[ALL].text())  # type: ignore[misc]
            camera.wait(300)
            camera.take("everyone" + ("-dark" if appearance is Appearance.DARK else ""), wizard)
            wizard.reject()
            camera.close()
    theme().choose(Appearance.LIGHT)
    app.close()
