"""An Azure DICOM service in the window: its form, its checklist, and what is said of what was entered wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.model.diagnosis import StepResult
from gui.wizards.add_node import AddNode
from tests.gui.hands import Hands
from tests.gui.test_nodes_dicom import begin, fill, test_it
from tests.support.azure_nodes import azure_fields
from tests.support.azure_service import AzureService
from tests.unit.test_wire_tls import Authority, speaking

test_it.__test__ = False  # type: ignore[attr-defined]  # no test: a step of some


@pytest.fixture
def service(tmp_path: Path) -> Iterator[AzureService]:
    with AzureService(tmp_path / "azure") as found:
        yield found


def entered(service: AzureService, **changes: str) -> dict[str, str]:
    """What a person types: the names, the secret, and under “More” where the loopback service is."""
    given = azure_fields(service, client_secret=service.secret)
    return {name: str(value) for name, value in given.items() if not name.endswith("timeout")} | changes


def show_more(hands: Hands, wizard: AddNode) -> None:
    form = wizard.fields_page.form
    assert form is not None
    if not form.more.isChecked():
        hands.click(form.more)


def filled(hands: Hands, name: str, values: dict[str, str]) -> AddNode:
    wizard = begin(hands, "azure", name)
    show_more(hands, wizard)
    fill(hands, wizard, values)
    return wizard


def test_an_azure_service_is_added_by_its_names(empty: Hands, service: AzureService) -> None:
    empty.go("nodes")
    wizard = begin(empty, "azure", "Cloud")
    names = entered(service)
    own = {name: names.pop(name) for name in ("service_url", "authority")}
    fill(empty, wizard, names)
    empty.wait(lambda: "hospital-archive.dicom.azurehealthcareapis.com/v2" in wizard.fields_page.derived.text())
    assert f"login.microsoftonline.com/{service.tenant}/oauth2" in wizard.fields_page.derived.text()
    show_more(empty, wizard)
    fill(empty, wizard, own)
    empty.wait(lambda: f"Address: {service.url}/v2" in wizard.fields_page.derived.text())
    steps = test_it(empty, wizard)
    assert set(steps.values()) == {StepResult.OK}
    assert list(steps)[-5:] == [
        "Token accepted",
        "Role allows searching",
        "Answers searches",
        "May store",
        "May delete",
    ]
    assert "It works" in wizard.test_page.verdict.lead
    empty.save(wizard, "Cloud")
    record = empty.app.nodes.get("Cloud")
    assert service.secret not in str(record.fields)
    assert "url" not in record.fields


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({"tenant": "nobody.example"}, "Token given", ("tenant", "does not exist")),
        ({"client_secret": "the-secret-id"}, "Token given", ("secret", "not the secret's id")),
        ({"client_id": "nobody"}, "Token given", ("client id", "registration")),
    ],
)
def test_what_was_entered_wrong_is_told(
    empty: Hands, service: AzureService, changes: dict[str, str], step: str, words: tuple[str, ...]
) -> None:
    wizard = filled(empty, "Cloud", entered(service, **changes))
    steps = test_it(empty, wizard)
    assert steps[step] is StepResult.FAILED
    empty.wait(lambda: all(word in empty.read(wizard) for word in words))
    assert f"“{step}” failed." in wizard.test_page.verdict.lead


def test_an_expired_secret_a_wrong_version_and_a_proxys_page_are_told(empty: Hands, service: AzureService) -> None:
    wizard = filled(empty, "Cloud", entered(service))
    service.client.secrets = {service.secret: 0.0}
    assert test_it(empty, wizard)["Token given"] is StepResult.FAILED
    empty.wait(lambda: "has expired" in empty.read(wizard))
    service.client.secrets = dict.fromkeys(service.client.secrets)

    def again() -> dict[str, StepResult]:
        empty.click(wizard.test_page.again)
        empty.wait(lambda: not wizard.test_page.running)
        return {step.name: step.result for step in wizard.test_page.list.steps}

    service.versions = ("v1",)
    assert again()["Version known"] is StepResult.FAILED
    empty.wait(lambda: "Choose v1 as version" in empty.read(wizard))
    service.versions = ("v2",)
    service.proxy_page = True
    assert again()["Token given"] is StepResult.FAILED
    empty.wait(lambda: "a proxy, a login page or another program" in empty.read(wizard))
    service.proxy_page = False
    assert set(again().values()) == {StepResult.OK}


def test_both_certificates_are_trusted_by_a_click_each(empty: Hands, tmp_path: Path) -> None:
    (tmp_path / "certificates").mkdir()
    shown = Authority(tmp_path / "certificates").issue(signed_by=None)
    with AzureService(tmp_path / "azure", tls=speaking(shown)) as service:
        wizard = filled(empty, "Cloud", entered(service))
        steps = test_it(empty, wizard)
        for name in ("Certificate trusted", "Sign-in reached"):
            assert steps[name] is StepResult.FAILED
            empty.wait(lambda: "self-signed" in empty.read(wizard))
            empty.click(wizard.test_page.pin)
            empty.wait(lambda: not wizard.test_page.running)
            steps = {step.name: step.result for step in wizard.test_page.list.steps}
        assert set(steps.values()) == {StepResult.OK}
        assert not wizard.test_page.pin.isVisible()
        empty.save(wizard, "Cloud")
        fields = empty.app.nodes.get("Cloud").fields
        assert fields["pinned_certificate"] == fields["oauth_pinned_certificate"]


def test_a_node_that_was_added_is_changed_later(empty: Hands, service: AzureService) -> None:
    empty.go("nodes")
    wizard = begin(empty, "azure", "Cloud")
    show_more(empty, wizard)
    fill(empty, wizard, entered(service))
    test_it(empty, wizard)
    empty.save(wizard, "Cloud")
    nodes = empty.window.nodes
    at = nodes.model.row_of("Cloud")
    assert at is not None
    nodes.table.selectRow(at)
    empty.wait(lambda: nodes.heading.text() == "Cloud")
    empty.wait(lambda: f"{service.url}/v2" in empty.read(empty.window))
    service.client.secrets = {"a.New~secret": None}
    empty.click(nodes.edit)
    empty.wait(lambda: bool(empty.window.findChildren(AddNode)))
    change = next(found for found in empty.window.findChildren(AddNode) if found.isVisible())
    form = change.fields_page.form
    assert form is not None
    assert form.values()["workspace"] == "hospital"
    empty.wait(lambda: f"Address: {service.url}/v2" in change.fields_page.derived.text())
    steps = test_it(empty, change)
    assert steps["Token given"] is StepResult.FAILED, "the old secret is kept, and no longer good"
    empty.click(change.back)
    fill(empty, change, {"client_secret": "a.New~secret"})
    assert set(test_it(empty, change).values()) == {StepResult.OK}
    empty.save(change, "Cloud")
    assert empty.app.nodes.secret("Cloud", "client_secret") == "a.New~secret"
