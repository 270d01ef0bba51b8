"""Opening the program's own Azure node on the loopback service, and what a person would enter for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.model.diagnosis import DiagnosisStep
from core.nodes.base import OpenContext
from core.nodes.dicomweb.azure_kind import AzureKind
from core.nodes.dicomweb.azure_node import AzureNode
from tests.support.azure_service import AzureService

KIND = AzureKind()


def azure_fields(service: AzureService, **changes: Any) -> dict[str, Any]:
    """The fields of a node on this service, without its secret."""
    given = {
        "tenant": service.tenant,
        "client_id": service.client.client_id,
        "workspace": "hospital",
        "service": "archive",
        "service_url": service.url,
        "authority": service.authority,
        "connect_timeout": 5,
        "idle_timeout": 10,
    }
    return {**given, **changes}


@contextmanager
def azure_node(
    service: AzureService, *, name: str = "Cloud", secret: str | None = None, **changes: Any
) -> Iterator[AzureNode]:
    """An opened node of the service; `secret` instead of the one that it knows."""
    known = {"client_secret": service.secret if secret is None else secret}
    node = KIND.open(KIND.Fields(**azure_fields(service, **changes)), OpenContext(name, known.get))
    assert isinstance(node, AzureNode)
    try:
        yield node
    finally:
        node.close()


def steps_of(node: AzureNode) -> dict[str, DiagnosisStep]:
    return {step.name: step for step in node.diagnose()}
