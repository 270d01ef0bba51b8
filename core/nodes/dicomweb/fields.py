"""The declared fields of a DICOMweb node: where its services are, how it lets us in, and how it is sent to."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ValidationInfo, field_validator, model_validator

from core.model.fields import FieldType, declared
from core.nodes.web.fields import WebFields, checked_fingerprint, checked_url
from core.wire.host import is_loopback
from core.wire.oauth import ClientLogin

EXAMPLE = "write it as https://host/dicom-web"
_RESOURCES = ("/studies", "/instances", "/series")


class Transcoding(StrEnum):
    """What becomes of an image in an encoding that the service may refuse."""

    NEVER = "never"
    EXPLICIT = "explicit"
    NATIVE = "native"


class DicomwebFields(WebFields):
    """A DICOMweb service (PS3.18): QIDO-RS, WADO-RS and STOW-RS below one address."""

    url: str = declared(
        title="Address",
        help="Of the DICOMweb services: what stands before “/studies”. For Orthanc it ends with /dicom-web.",
        placeholder="https://pacs.hospital.lan/dicom-web",
    )
    username: str = declared(
        "",
        title="User name",
        help="Of the service's own users. Empty: no login by name.",
        unless="oauth_url",
        group="Login",
    )
    password: str = declared("", title="Password", type=FieldType.SECRET, unless="oauth_url", group="Login")
    token: str = declared(
        "",
        title="Bearer token",
        help="A token that was given to you for this service; kept in the keyring. It takes the place of a user name.",
        type=FieldType.SECRET,
        unless="oauth_url",
        advanced=True,
        group="Login",
    )
    oauth_url: str = declared(
        "",
        title="Token address (OAuth2)",
        help="Where this program gets a token of its own (client credentials), and a new one before it expires.",
        placeholder="https://login.example.org/oauth2/token",
        advanced=True,
        group="Login",
    )
    client_id: str = declared(
        "",
        title="Client ID",
        help="By which the token service knows this program.",
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    client_secret: str = declared(
        "",
        title="Client secret",
        help="What proves it to the token service; kept in the keyring.",
        type=FieldType.SECRET,
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    scope: str = declared(
        "",
        title="Scope",
        help="What the token is to be good for, as the service's administrator names it. Often empty.",
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    audience: str = declared(
        "",
        title="Audience",
        help="Some token services want the audience of the token, or its resource, instead of a scope.",
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    resource: str = declared(
        "",
        title="Resource",
        help="Only where the token service asks for it (such as AD FS).",
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    client_login: ClientLogin = declared(
        ClientLogin.POST,
        title="Client ID and secret go",
        help="In the request as most token services want it, or as the user name and password of the request.",
        labels={ClientLogin.POST.value: "in the request", ClientLogin.BASIC.value: "as a login (Basic)"},
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    oauth_ca_file: str = declared(
        "",
        title="Token service's authority",
        help="File (PEM) with the certificates that the token service's own is signed by. Empty: those that this "
        "computer knows.",
        type=FieldType.FILE,
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    oauth_pinned_certificate: str = declared(
        "",
        title="Token service's certificate",
        help="SHA-256 fingerprint of exactly the certificate to trust, for a token service of the hospital's own "
        "whose certificate is self-signed. The test shows it.",
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    lend_to: tuple[str, ...] = declared(
        (),
        title="Lend our token to",
        help="Orthanc servers that may send here by themselves with our token: a fresh one goes along with each order "
        "to send, over https only. Careful: who runs such a server could use the token until it ends. Off: they send "
        "through this computer.",
        type=FieldType.NODES,
        among="intermediary",
        empty="No Orthanc server is registered yet.",
        needs="oauth_url",
        advanced=True,
        group="Login",
    )
    transcoding: Transcoding = declared(
        Transcoding.NEVER,
        title="Encoding",
        help="Some services take only explicit VR, or no compressed images. What is re-encoded loses nothing, and it "
        "is recorded with the image.",
        labels={
            Transcoding.NEVER.value: "Send every image as it is",
            Transcoding.EXPLICIT.value: "Implicit VR and deflated images as Explicit VR Little Endian",
            Transcoding.NATIVE.value: "These, and images compressed without loss, as Explicit VR Little Endian",
        },
        advanced=True,
        group="Sending and listing",
    )
    batch_bytes: int = declared(
        512,
        title="One request brings at most",
        help="Small images of a study are sent together up to this size; a larger image is sent by itself. "
        "0: every image by itself.",
        unit="kB",
        ge=0,
        le=262_144,
        advanced=True,
        group="Sending and listing",
    )
    batch_count: int = declared(
        50,
        title="… and at most",
        help="So many images are sent together.",
        unit="images",
        ge=1,
        le=1000,
        advanced=True,
        group="Sending and listing",
    )
    query_limit: int = declared(
        0,
        title="Answers at most",
        help="So many answers does it give to one question before it cuts off. 0: not known; it is found out.",
        unit="answers",
        ge=0,
        le=1_000_000,
        advanced=True,
        group="Sending and listing",
    )

    stable_after: float = declared(
        60.0,
        title="Complete after",
        help="A study (or series) counts as complete once no image has come for so long. For jobs that follow: the "
        "studies of yesterday and today are looked at every few seconds.",
        unit="s",
        ge=1,
        le=86400,
        advanced=True,
        group="Sending and listing",
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return checked_url(value, example=EXAMPLE, pages=_RESOURCES)

    @field_validator("oauth_url")
    @classmethod
    def _is_a_safe_address(cls, value: str) -> str:
        if not value:
            return value
        checked = checked_url(value, example="write it as https://host/path")
        if checked.startswith("http:") and not is_loopback(checked.split("/")[2].rsplit(":", 1)[0].strip("[]")):
            raise ValueError("the client secret must not travel unencrypted: a token address begins with https://")
        return checked

    @field_validator("oauth_pinned_certificate")
    @classmethod
    def _is_the_token_services_fingerprint(cls, value: str) -> str:
        return checked_fingerprint(value)

    @field_validator("client_id", "scope", "audience", "resource")
    @classmethod
    def _has_a_token_service(cls, value: str, info: ValidationInfo) -> str:
        if value and "oauth_url" in info.data and not info.data["oauth_url"]:
            raise ValueError("it needs the address of the token service (--oauth-url) with it")
        return value

    @model_validator(mode="after")
    def _token_service_needs_a_client(self) -> DicomwebFields:
        if self.oauth_url and not self.client_id:
            raise ValueError("the token service (--oauth-url) needs a client ID (--client-id)")
        return self
