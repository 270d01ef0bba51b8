"""The fields of an Azure node: what the portal's names make, in each cloud, and what is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.model.fields import explain, form_fields, secret_fields
from core.nodes.base import OpenContext
from core.nodes.dicomweb.azure_fields import AzureFields
from core.nodes.dicomweb.azure_kind import AzureKind
from core.nodes.dicomweb.fields import Transcoding

NAMES = {"tenant": "Hospital.onmicrosoft.com", "client_id": "5d2c9f4e", "workspace": "Hospital", "service": "Archive"}


def fields(**changes: Any) -> AzureFields:
    return AzureFields(**{**NAMES, **changes})


def problem(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        fields(**changes)
    return explain(caught.value, AzureFields).sentence


@pytest.mark.parametrize(
    ("cloud", "host", "authority", "audience"),
    [
        (
            "public",
            "hospital-archive.dicom.azurehealthcareapis.com",
            "login.microsoftonline.com",
            "dicom.healthcareapis.azure.com",
        ),
        (
            "us-government",
            "hospital-archive.dicom.azurehealthcareapis.us",
            "login.microsoftonline.us",
            "dicom.healthcareapis.azure.us",
        ),
        (
            "china",
            "hospital-archive.dicom.azurehealthcareapis.cn",
            "login.partner.microsoftonline.cn",
            "dicom.healthcareapis.azure.cn",
        ),
    ],
)
def test_all_addresses_follow_from_the_names(cloud: str, host: str, authority: str, audience: str) -> None:
    made = fields(cloud=cloud)
    assert made.url == f"https://{host}/v2"
    assert made.oauth_url == f"https://{authority}/hospital.onmicrosoft.com/oauth2/v2.0/token"
    assert made.scope == f"https://{audience}/.default"
    assert fields(cloud=cloud, api_version="v1").url == f"https://{host}/v1"


def test_own_addresses_take_their_place() -> None:
    made = fields(
        service_url="https://dicom.hospital.lan/azure/",
        authority="https://login.hospital.lan/",
        own_scope="api://ferry/.default",
    )
    assert made.url == "https://dicom.hospital.lan/azure/v2"
    assert made.oauth_url == "https://login.hospital.lan/hospital.onmicrosoft.com/oauth2/v2.0/token"
    assert made.scope == "api://ferry/.default"


def test_what_is_derived_is_neither_shown_nor_saved() -> None:
    shown = [f.name for f in form_fields(AzureFields)]
    assert shown[:4] == ["tenant", "client_id", "client_secret", "workspace"]
    assert not {"url", "oauth_url", "scope", "username", "password", "token", "header_name"} & set(shown)
    assert secret_fields(AzureFields) == ("client_secret",)
    saved = fields().model_dump(mode="json", exclude_defaults=True)
    assert set(saved) == set(NAMES)
    assert AzureFields.model_validate(saved) == fields()


def test_implicit_vr_is_re_encoded_unless_somebody_says_no() -> None:
    assert fields().transcoding is Transcoding.EXPLICIT
    assert fields(transcoding="never").transcoding is Transcoding.NEVER


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tenant": "https://login.microsoftonline.com/abc"}, ("Tenant (--tenant)", "0f5a1c9e")),
        ({"tenant": ""}, ("Tenant (--tenant)",)),
        ({"client_id": ""}, ("Client ID (--client-id)", "Application (client) ID")),
        ({"client_id": "a b"}, ("Client ID (--client-id)", "blanks")),
        (
            {"workspace": "https://hospital-archive.dicom.azurehealthcareapis.com"},
            ("Workspace", "the service “archive”"),
        ),
        ({"service": "a_b"}, ("DICOM service (--service)", "letters, digits and hyphens")),
        ({"workspace": "w" * 40, "service": "s" * 40}, ("more letters",)),
        ({"api_version": "v3"}, ("Version (--api-version)", "v1", "v2")),
        ({"cloud": "germany"}, ("Cloud (--cloud)",)),
        ({"service_url": "https://x.example/v2"}, ("Service URL", "--api-version")),
        ({"service_url": "https://x.example/v2/studies"}, ("Service URL", "--api-version")),
        ({"service_url": "https://me:secret@x.example"}, ("Service URL",)),
        ({"authority": "http://login.example"}, ("Authority", "unencrypted")),
        ({"oauth_pinned_certificate": "12"}, ("Sign-in's certificate", "64")),
        ({"username": "me"}, ("username",)),
        ({"url": "x", "no_such": 1}, ("no_such",)),
    ],
)
def test_what_is_wrong_is_told_by_its_title(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    told = problem(**changes)
    assert all(word in told for word in words), told
    assert "secret@" not in told
    assert "oauth-url" not in told, "what is derived is no matter of the person's"


def test_a_loopback_service_may_be_without_encryption() -> None:
    made = fields(service_url="http://127.0.0.1:8080", authority="http://localhost:8081")
    assert made.url == "http://127.0.0.1:8080/v2"
    assert not AzureKind().warnings(made, has_secret=True)


def test_a_service_without_encryption_elsewhere_is_warned_of() -> None:
    told = " ".join(AzureKind().warnings(fields(service_url="http://cloud.example"), has_secret=True))
    assert "login would travel unencrypted" in told


def test_a_node_is_opened_without_its_secret_and_says_so_when_it_is_used() -> None:
    node = AzureKind().open(fields(service_url="http://127.0.0.1:9"), OpenContext("Cloud", lambda name: None))
    with pytest.raises(Exception, match="no client secret"):
        node.probe()
    node.close()
    assert node.place == "localhost:9/v2"
