"""Pictures of a gateway that really runs: its wizard, the start page, the jobs page; called by `pictures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.app import App
from gui.theme import Appearance, theme
from tests.support.gateways import AET, listens, send_quickly
from tests.support.servers import free_port
from tests.support.studies import make_study

if TYPE_CHECKING:
    from tests.gui.pictures import Photographer


def take_gateway(camera_of: Callable[[App], Photographer], folder: Path) -> None:
    """Two gateways on a home of their own: one that routes, one that is switched off."""
    app = App.open(folder / "gateway")
    port, pulse = free_port(), free_port()
    own: dict[str, Any] = {"aet": AET, "port": port, "bind": "127.0.0.1", "callers": ["*@127.0.0.1"], "quiet": 1}
    app.nodes.add("this-computer", "Ferry at the CT", own, {})
    for name in ("Cloud archive", "Research"):
        (folder / name).mkdir()
        app.nodes.add("folder", name, {"path": str(folder / name)}, {})
    app.nodes.add("orthanc", "Orthanc MRI", {"url": "http://127.0.0.1:9"}, {})
    camera = camera_of(app)
    camera.session.start()
    camera.until(lambda: listens(port))
    source = {"source": ["Ferry at the CT"], "poll_interval": 0.5}
    night = {**source, "destination": ["Cloud archive"], "keep_hours": 72, "heartbeat_port": pulse}
    first = app.jobs.create("gateway", night, name="CT to the cloud").id  # type: ignore[arg-type]
    app.jobs.create("gateway", {**source, "destination": ["Research"], "routing": False}, name="Research copies")  # type: ignore[dict-item]
    studies = [make_study(modality="CT", accession=f"P{n}", instances=4 + n) for n in range(7)]
    send_quickly(port, studies)
    camera.until(lambda: app.jobs.get(first).counts.verified == sum(len(s) for s in studies))
    window = camera.window
    for appearance in (Appearance.LIGHT, Appearance.DARK):
        theme().choose(appearance)
        suffix = "-dark" if appearance is Appearance.DARK else ""
        window.go("home")
        camera.until(lambda: len(window.home.gateways.rows) == 2)
        camera.wait(2500)
        camera.take(f"gateway-home{suffix}")
        window.go("jobs", first)
        camera.wait(2500)
        camera.take(f"gateway-jobs{suffix}")
        _wizard(camera, suffix)
    camera.close()
    app.close()


def _wizard(camera: Photographer, suffix: str) -> None:
    camera.window.new_transfer()
    camera.wait(300)
    wizard = camera.window.wizard
    assert wizard is not None
    camera.take(f"gateway-kind{suffix}", wizard)
    wizard.kind_page.choices["gateway"].click()
    wizard.go_on()
    camera.until(lambda: "Cloud archive" in wizard.route.destinations.checks)
    for side, wanted in ((wizard.route.sources, {"Ferry at the CT", "Orthanc MRI"}),
                         (wizard.route.destinations, {"Cloud archive"})):  # fmt: skip
        for name, check in side.checks.items():
            check.setChecked(name in wanted)
    camera.wait(300)
    while wizard.page is not wizard.standing:
        wizard.go_on()
    camera.wait(300)
    camera.take(f"gateway-standing{suffix}", wizard)
    while wizard.page is not wizard.summary:
        wizard.go_on()
        camera.take(f"gateway-step-{wizard.page.step}{suffix}".replace(" ", "-"), wizard)
    camera.until(lambda: not wizard.summary.counting)
    camera.take(f"gateway-summary{suffix}", wizard)
    wizard.reject()
    camera.wait(200)
