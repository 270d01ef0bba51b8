"""The node kind "orthanc": how a node is opened from its declared fields."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import ClassVar

from core.model.errors import ConfigurationError
from core.model.node import NodeFields
from core.nodes.base import Node, NodeKind, OpenContext
from core.nodes.orthanc.fields import OrthancFields
from core.nodes.orthanc.node import OrthancNode
from core.nodes.orthanc.rest import OrthancRest
from core.wire.host import is_loopback
from core.wire.http import HttpPool, system_proxy
from core.wire.tls import TlsSettings


class OrthancKind(NodeKind):
    """An Orthanc server by its REST API."""

    name: ClassVar[str] = "orthanc"
    title: ClassVar[str] = "Orthanc server"
    summary: ClassVar[str] = "An Orthanc server, reached by its web interface (REST API)."
    icon: ClassVar[str] = "orthanc"
    Fields: ClassVar[type[NodeFields]] = OrthancFields
    traits: ClassVar[frozenset[str]] = frozenset({"intermediary"})

    def open(self, fields: NodeFields, context: OpenContext) -> Node:
        """Open without talking to it yet.

        Raises
        ------
        ConfigurationError
            A certificate or key file can't be read, or a header's name has no value.
        """
        assert isinstance(fields, OrthancFields)
        tls = TlsSettings(
            ca_file=_path(fields.ca_file),
            client_cert=_path(fields.client_cert),
            client_key=_path(fields.client_key),
            client_key_password=context.secret("client_key_password") if fields.client_cert else None,
            pinned_sha256=fields.pinned_certificate,
        )
        proxy = system_proxy(fields.url) if fields.trust_env else None
        pool = HttpPool(
            fields.url,
            headers=_headers(fields, context),
            tls=tls,
            connect_timeout=fields.connect_timeout,
            idle_timeout=fields.idle_timeout,
            limit=fields.connections,
            proxy=proxy,
            accept_gzip=fields.gzip,
        )
        return OrthancNode(context.name, fields, OrthancRest(pool, context.name), tls=tls, proxied=bool(proxy))

    def address(self, fields: NodeFields) -> str:
        assert isinstance(fields, OrthancFields)
        return fields.url

    def warnings(self, fields: NodeFields, *, has_secret: bool) -> list[str]:
        assert isinstance(fields, OrthancFields)
        found = []
        if not fields.is_https and not is_loopback(fields.host):
            if has_secret or fields.username or fields.header_name:
                found.append(
                    f"The login would travel unencrypted to {fields.host}: anybody in between can read it. "
                    "Use https if the server offers it."
                )
            found.append(f"Images and patient data would travel unencrypted to {fields.host}.")
        if has_secret and not fields.username and not fields.header_name:
            found.append("A password is given without a user name: it is not used.")
        return found


def _path(value: str) -> Path | None:
    return Path(value).expanduser() if value else None


def _headers(fields: OrthancFields, context: OpenContext) -> dict[str, str]:
    headers: dict[str, str] = {}
    if fields.username:
        if ":" in fields.username:
            raise ConfigurationError(
                "A user name can't have a colon in it.", "Correct the user name of the node.", code="fields"
            )
        login = f"{fields.username}:{context.secret('password') or ''}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
    if fields.header_name:
        value = context.secret("header_value")
        if not value:
            raise ConfigurationError(
                f"The header {fields.header_name} has no value.",
                "Enter the value of the extra header, or leave its name empty.",
                code="fields",
            )
        headers[fields.header_name] = value
    return headers
