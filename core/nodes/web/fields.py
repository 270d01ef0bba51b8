"""The declared fields of every node that is reached by HTTP: where it is, its login, encryption and limits."""

from __future__ import annotations

import ipaddress
from typing import Self
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from core.model.fields import FieldType, declared
from core.model.node import NodeFields
from core.wire.host import is_loopback


class WebFields(NodeFields):
    """A server reached by HTTP; each kind derives its own fields from these."""

    url: str = declared(
        title="Address",
        help="Address of the server's web interface, with the path behind it if a proxy adds one.",
        placeholder="https://server.hospital.lan",
    )
    username: str = declared("", title="User name", help="Of the server's own users. Empty: no login.", group="Login")
    password: str = declared("", title="Password", type=FieldType.SECRET, group="Login")
    header_name: str = declared(
        "",
        title="Extra header",
        help="Name of a header to send with each request, for an API key or token.",
        placeholder="X-Api-Key",
        pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]*$",
        advanced=True,
        group="Login",
    )
    header_value: str = declared(
        "",
        title="Extra header's value",
        help="The key or token itself; kept in the keyring.",
        type=FieldType.SECRET,
        advanced=True,
        group="Login",
    )
    ca_file: str = declared(
        "",
        title="Certificate authority",
        help="File (PEM) with the certificates of the authority that this server's certificate is signed by.",
        type=FieldType.FILE,
        advanced=True,
        group="Encryption",
    )
    pinned_certificate: str = declared(
        "",
        title="Trusted certificate",
        help="SHA-256 fingerprint of exactly the certificate to trust, for self-signed ones. The test shows it.",
        advanced=True,
        group="Encryption",
    )
    client_cert: str = declared(
        "",
        title="Own certificate",
        help="File (PEM) with the certificate that this computer shows to the server.",
        type=FieldType.FILE,
        advanced=True,
        group="Encryption",
    )
    client_key: str = declared(
        "",
        title="Own key",
        help="File (PEM) with the key of that certificate. Empty: it is in the certificate's file.",
        type=FieldType.FILE,
        needs="client_cert",
        advanced=True,
        group="Encryption",
    )
    client_key_password: str = declared(
        "",
        title="Own key's password",
        help="Only where the file of the own key is encrypted; kept in the keyring.",
        type=FieldType.SECRET,
        needs="client_cert",
        advanced=True,
        group="Encryption",
    )
    connections: int = declared(
        8,
        title="Connections at once",
        help="At most this many connections to this server at the same time.",
        ge=1,
        le=64,
        advanced=True,
        group="Limits",
    )
    connect_timeout: float = declared(
        10.0,
        title="Time to connect",
        help="So long a connection may take to come about before the server counts as down.",
        unit="s",
        ge=0.5,
        le=300,
        advanced=True,
        group="Limits",
    )
    idle_timeout: float = declared(
        60.0,
        title="Time without an answer",
        help="So long the server may be silent in the middle of a request before it counts as hung.",
        unit="s",
        ge=1,
        le=3600,
        advanced=True,
        group="Limits",
    )
    trust_env: bool = declared(
        False,
        title="Use the system's proxy",
        help="Off: this server is reached directly.",
        advanced=True,
        group="Limits",
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return checked_url(value)

    @field_validator("pinned_certificate")
    @classmethod
    def _is_a_fingerprint(cls, value: str) -> str:
        return checked_fingerprint(value)

    @model_validator(mode="after")
    def _key_needs_certificate(self) -> Self:
        if self.client_key and not self.client_cert:
            raise ValueError("an own key needs the own certificate (--client-cert) with it")
        return self

    @property
    def is_https(self) -> bool:
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.is_https else 80)

    @property
    def path(self) -> str:
        """The path below which the server's own begins; empty where it is at the root."""
        return urlsplit(self.url).path.rstrip("/")


def checked_fingerprint(value: str) -> str:
    """A SHA-256 fingerprint in small letters without colons; empty stays empty. Raises `ValueError` for others."""
    plain = value.replace(":", "").replace(" ", "").lower()
    if plain and (len(plain) != 64 or not set(plain) <= set("0123456789abcdef")):
        raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits")
    return plain


def checked_url(
    value: str, *, example: str = "write it as http://host:8042 or https://host/path", pages: tuple[str, ...] = ()
) -> str:
    """An http or https address in its normal form: no login, query or slash at its end.

    Parameters
    ----------
    example : str
        How it is written, for the message.
    pages : tuple[str, ...]
        Paths of the server's own pages for people, which an address copied from a browser may end with.

    Raises
    ------
    ValueError
        With what is wrong and an example.
    """
    if not value:
        raise ValueError(f"the address is empty; {example}")
    if any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError(f"the address has a space or a control character in it; {example}")
    if "://" not in value:
        raise ValueError(f"the address has to begin with http:// or https://; {example}")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        reason = "the port is not a number from 1 to 65535" if "ort" in str(error) else "the address can't be read"
        raise ValueError(f"{reason}; {example}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"“{parts.scheme}” is not http or https; {example}")
    if "@" in parts.netloc:
        raise ValueError(
            "no login belongs into the address; give it as user name and password (--username, --password)"
        )
    if not parts.hostname or port == 0:
        raise ValueError(
            f"{'the port is not a number from 1 to 65535' if port == 0 else 'the host is missing'}; {example}"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"nothing may follow the path (“?” or “#”); {example}")
    host = parts.hostname
    if ":" in host:
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError as error:
            raise ValueError(f"“{host}” is not an IPv6 address; {example}") from error
        host = f"[{host}]"
    elif not all(label and len(label) <= 63 for label in host.rstrip(".").split(".")) or set(host) & set(
        "\\/<>\"'`{}|^,;"
    ):
        raise ValueError(f"“{host}” is not the name of a host; {example}")
    netloc = host if port is None else f"{host}:{port}"
    path = parts.path.rstrip("/")
    for page in pages:
        if path.endswith(page):
            path = path.removesuffix(page)
            break
    return f"{parts.scheme}://{netloc}{path}"


def place_of(url: str, server: str = "") -> tuple[str, int, str]:
    """Host, port and path that tell one server from another.

    Parameters
    ----------
    server : str
        Host of the server that uses this address: its loopback is that host. Empty for this computer.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host = (parts.hostname or "").rstrip(".").lower()
    if is_loopback(host):
        host = server.rstrip(".").lower()
        if not host or is_loopback(host):
            host = "localhost"
    try:
        port = parts.port
    except ValueError:
        port = 0
    return host, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")
