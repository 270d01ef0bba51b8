"""The declared fields of an Azure DICOM service: names from the Azure portal, from which all addresses follow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from core.model.fields import Declared, FieldType, declared
from core.nodes.dicomweb.fields import DicomwebFields, Transcoding
from core.nodes.web.fields import checked_url
from core.wire.host import is_loopback
from core.wire.oauth import ClientLogin

_TENANT = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z.-]{0,251}[0-9A-Za-z])?")
_NAME = re.compile(r"[0-9a-z](?:[0-9a-z-]*[0-9a-z])?", re.IGNORECASE)
_UNKNOWN = "https://azure.invalid"  # stands for an address as long as its parts don't make one


class Cloud(StrEnum):
    """Which of Microsoft's clouds."""

    PUBLIC = "public"
    US_GOVERNMENT = "us-government"
    CHINA = "china"


class ApiVersion(StrEnum):
    """Version of the service's interface: a part of its address."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class _Addresses:
    """Where things are in one cloud.

    Attributes
    ----------
    authority : str
        Of Microsoft Entra ID.
    domain : str
        Ends the service's host name.
    audience : str
        Whom tokens are for.
    """

    authority: str
    domain: str
    audience: str


_CLOUDS = {
    Cloud.PUBLIC: _Addresses(
        "https://login.microsoftonline.com",
        "dicom.azurehealthcareapis.com",
        "https://dicom.healthcareapis.azure.com",
    ),
    Cloud.US_GOVERNMENT: _Addresses(
        "https://login.microsoftonline.us", "dicom.azurehealthcareapis.us", "https://dicom.healthcareapis.azure.us"
    ),
    Cloud.CHINA: _Addresses(
        "https://login.partner.microsoftonline.cn",
        "dicom.azurehealthcareapis.cn",
        "https://dicom.healthcareapis.azure.cn",
    ),
}
_DERIVED = ("url", "oauth_url", "scope")


class AzureNames(Declared):
    """What the portal calls the service and the application; shown before all that a DICOMweb node has."""

    tenant: str = declared(
        title="Tenant",
        help="“Directory (tenant) ID” on the overview page of the application's registration, or the tenant's domain.",
        placeholder="0f5a1c9e-6d1b-4a57-9a43-2b7c53a8e1d2",
        group="Login",
    )
    client_id: str = declared(
        title="Client ID",
        help="“Application (client) ID” on the same page.",
        placeholder="5d2c9f4e-0b7a-4a3e-9c61-7f0f3c1b2a10",
        group="Login",
    )
    client_secret: str = declared(
        "",
        title="Client secret",
        help="The secret's value (not its ID), from “Certificates & secrets”; kept in the keyring.",
        type=FieldType.SECRET,
        group="Login",
    )
    workspace: str = declared(
        title="Workspace",
        help="Name of the Azure Health Data Services workspace.",
        placeholder="hospital",
        group="Service",
    )
    service: str = declared(
        title="DICOM service",
        help="Name of the DICOM service in that workspace.",
        placeholder="archive",
        group="Service",
    )
    cloud: Cloud = declared(
        Cloud.PUBLIC,
        title="Cloud",
        help="Where the tenant and the service are.",
        labels={
            Cloud.PUBLIC.value: "Azure",
            Cloud.US_GOVERNMENT.value: "Azure Government (USA)",
            Cloud.CHINA.value: "Azure in China (21Vianet)",
        },
        group="Service",
    )
    api_version: ApiVersion = declared(
        ApiVersion.V2,
        title="Version",
        help="v2, unless the service is an old one.",
        labels={"v1": "v1", "v2": "v2"},
        beside=True,
        group="Service",
    )
    service_url: str = declared(
        "",
        title="Service URL",
        help="Only where the service is reached by another address than its names make, such as through a private "
        "link or a proxy. Without the version.",
        placeholder="https://hospital-archive.dicom.azurehealthcareapis.com",
        advanced=True,
        group="Service",
    )
    authority: str = declared(
        "",
        title="Authority",
        help="Only where tokens come from another address than the cloud's own: what stands before the tenant.",
        placeholder="https://login.microsoftonline.com",
        advanced=True,
        group="Login",
    )
    own_scope: str = declared(
        "",
        title="Scope",
        help="Only where tokens are for another audience than the cloud's DICOM services.",
        placeholder="https://dicom.healthcareapis.azure.com/.default",
        advanced=True,
        group="Login",
    )


class AzureFields(DicomwebFields, AzureNames):
    """The DICOM service of Azure Health Data Services: a DICOMweb node whose addresses follow from its names.

    Attributes
    ----------
    url, oauth_url, scope : str
        Derived: address of the services, of the token endpoint, and what its tokens are for.
    """

    client_id: str = AzureNames.model_fields["client_id"]  # type: ignore[assignment]
    client_secret: str = AzureNames.model_fields["client_secret"]  # type: ignore[assignment]
    url: str = declared(_UNKNOWN, title="Address", hidden=True)
    oauth_url: str = declared(_UNKNOWN, title="Token address", hidden=True)
    scope: str = declared("", title="Derived scope", hidden=True)
    username: str = declared("", title="User name", hidden=True)
    password: str = declared("", title="Password", type=FieldType.SECRET, hidden=True)
    token: str = declared("", title="Bearer token", type=FieldType.SECRET, hidden=True)
    header_name: str = declared("", title="Extra header", hidden=True)
    header_value: str = declared("", title="Extra header's value", type=FieldType.SECRET, hidden=True)
    audience: str = declared("", title="Audience", hidden=True)
    resource: str = declared("", title="Resource", hidden=True)
    client_login: ClientLogin = declared(ClientLogin.POST, title="Client ID and secret go", hidden=True)
    client_cert: str = declared("", title="Own certificate", hidden=True)
    client_key: str = declared("", title="Own key", hidden=True)
    client_key_password: str = declared("", title="Own key's password", type=FieldType.SECRET, hidden=True)
    query_limit: int = declared(0, title="Answers at most", hidden=True)
    trust_env: bool = declared(
        True,
        title="Use the system's proxy",
        help="On: where this computer's settings name a proxy to the internet, it is used. Off: directly.",
        advanced=True,
        group="Limits",
    )
    oauth_ca_file: str = declared(
        "",
        title="Sign-in's authority",
        help="File (PEM) with the authority's certificates, where a proxy of the hospital stands before the sign-in "
        "and shows a certificate of its own.",
        type=FieldType.FILE,
        advanced=True,
        group="Encryption",
    )
    oauth_pinned_certificate: str = declared(
        "",
        title="Sign-in's certificate",
        help="SHA-256 fingerprint of exactly the certificate to trust there. The test shows it.",
        advanced=True,
        group="Encryption",
    )
    transcoding: Transcoding = declared(
        Transcoding.EXPLICIT,
        title="Encoding",
        help="The service takes only explicit VR. What is re-encoded loses nothing, and it is recorded with the image.",
        labels={
            Transcoding.NEVER.value: "Send every image as it is; the service refuses those in implicit VR",
            Transcoding.EXPLICIT.value: "Implicit VR, big endian and deflated images as Explicit VR Little Endian",
            Transcoding.NATIVE.value: "These, and images compressed without loss, as Explicit VR Little Endian",
        },
        advanced=True,
        group="Sending and listing",
    )

    @model_validator(mode="before")
    @classmethod
    def _addresses_follow_from_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        own = {name: info for name, info in cls.model_fields.items() if info.exclude}
        for name in own:
            if given.get(name, own[name].default) != own[name].default and name not in _DERIVED:
                raise ValueError(f"there is no field “{name}” in an Azure node")
        return {**{name: value for name, value in given.items() if name not in own}, **_derived(given)}

    @field_validator("tenant")
    @classmethod
    def _is_a_tenant(cls, value: str) -> str:
        if _TENANT.fullmatch(value) is None:
            raise ValueError(
                "a tenant is an ID such as 0f5a1c9e-6d1b-4a57-9a43-2b7c53a8e1d2, or a domain such as "
                "hospital.onmicrosoft.com"
            )
        return value.lower()

    @field_validator("client_id")
    @classmethod
    def _is_a_client_id(cls, value: str) -> str:
        if not value or any(c.isspace() or not c.isprintable() for c in value):
            raise ValueError("it is the “Application (client) ID” of the registration, without blanks")
        return value

    @field_validator("workspace", "service")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if _NAME.fullmatch(value) is None:
            raise ValueError(
                "a name has letters, digits and hyphens only, as the portal shows it; of the service URL "
                "https://hospital-archive.dicom… the workspace is “hospital” and the service “archive”"
            )
        return value.lower()

    @field_validator("service_url")
    @classmethod
    def _is_a_service_url(cls, value: str) -> str:
        if not value:
            return value
        checked = checked_url(value, example="write it as https://workspace-service.dicom.azurehealthcareapis.com")
        if re.search(r"/v\d+[^/]*(/studies)?$", checked):
            raise ValueError("the version is chosen by itself (--api-version): leave it away here")
        return checked

    @field_validator("authority")
    @classmethod
    def _is_an_authority(cls, value: str) -> str:
        if not value:
            return value
        checked = checked_url(value, example="write it as https://login.microsoftonline.com")
        if not _safe(checked):
            raise ValueError("the client secret must not travel unencrypted: the authority begins with https://")
        return checked

    @model_validator(mode="after")
    def _makes_a_host(self) -> Self:
        if not self.service_url and len(f"{self.workspace}-{self.service}") > 63:
            raise ValueError("workspace and service together have more letters than the name of a host can have")
        return self


def _derived(given: Mapping[str, Any]) -> dict[str, str]:
    """The addresses that these names make; harmless ones where they make none, of which their own checks tell."""

    def name(field: str) -> str:
        return str(given.get(field) or "").strip()

    try:
        cloud = _CLOUDS[Cloud(name("cloud") or Cloud.PUBLIC)]
        version = ApiVersion(name("api_version") or ApiVersion.V2).value
    except ValueError:
        return dict.fromkeys(("url", "oauth_url"), _UNKNOWN) | {"scope": ""}
    base, authority, tenant = name("service_url"), name("authority"), name("tenant").lower()
    if not base and _NAME.fullmatch(name("workspace")) and _NAME.fullmatch(name("service")):
        base = f"https://{name('workspace')}-{name('service')}.{cloud.domain}".lower()
    login = _checked(authority or cloud.authority)
    endpoint = f"{login if _safe(login) else _UNKNOWN}/{tenant}/oauth2/v2.0/token"
    return {
        "url": f"{_checked(base)}/{version}",
        "oauth_url": endpoint if _TENANT.fullmatch(tenant) else _UNKNOWN,
        "scope": name("own_scope") or f"{cloud.audience}/.default",
    }


def _safe(url: str) -> bool:
    """Whether a secret may go there: encrypted, or no further than this computer."""
    return url.startswith("https:") or is_loopback(urlsplit(url).hostname or "")


def _checked(url: str) -> str:
    try:
        return checked_url(url)
    except ValueError:
        return _UNKNOWN
