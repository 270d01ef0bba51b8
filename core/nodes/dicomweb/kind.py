"""The node kind "dicomweb": how a node is opened from its declared fields."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from core.model.errors import ConfigurationError
from core.model.node import NodeFields
from core.nodes.base import Node, NodeKind, OpenContext
from core.nodes.dicomweb.access import DicomwebAccess
from core.nodes.dicomweb.fields import DicomwebFields
from core.nodes.dicomweb.node import DicomwebNode
from core.nodes.web.opening import login_headers, open_pool, plain_http_warnings, proxy_of, tls_settings
from core.wire.http import system_proxy
from core.wire.oauth import TokenEndpoint, TokenSource
from core.wire.tls import TlsSettings


class DicomwebKind(NodeKind):
    """A DICOMweb service by QIDO-RS, WADO-RS and STOW-RS (PS3.18)."""

    name: ClassVar[str] = "dicomweb"
    title: ClassVar[str] = "DICOMweb service"
    summary: ClassVar[str] = "A PACS, archive or cloud that speaks DICOMweb: QIDO-RS, WADO-RS, STOW-RS."
    icon: ClassVar[str] = "cloud"
    Fields: ClassVar[type[NodeFields]] = DicomwebFields

    def open(self, fields: NodeFields, context: OpenContext) -> Node:
        """Open without talking to it yet.

        Raises
        ------
        ConfigurationError
            A certificate or key file can't be read, or something of the login is missing.
        """
        assert isinstance(fields, DicomwebFields)
        return open_node(fields, context, tokens_of(fields, context))

    def address(self, fields: NodeFields) -> str:
        assert isinstance(fields, DicomwebFields)
        return fields.url if len(fields.url) <= 80 else fields.url[:79] + "…"

    def warnings(self, fields: NodeFields, *, has_secret: bool) -> list[str]:
        assert isinstance(fields, DicomwebFields)
        has_login = bool(has_secret or fields.username or fields.header_name or fields.oauth_url)
        return plain_http_warnings(fields, has_login=has_login)


def open_node(
    fields: DicomwebFields,
    context: OpenContext,
    tokens: TokenSource | None,
    *,
    access: type[DicomwebAccess] = DicomwebAccess,
    node: type[DicomwebNode] = DicomwebNode,
) -> DicomwebNode:
    """The node of these fields; `tokens` where it logs in by tokens that are renewed.

    `access` and `node` are those of a kind that is a preset of this one.
    """
    tls = tls_settings(fields, context)
    proxy = proxy_of(fields)
    headers = _headers(fields, context, tokens)
    pool = open_pool(fields, headers=headers, tls=tls, proxy=proxy)
    made = access(pool, context.name, tokens, bearer=headers.get("Authorization", "").startswith("Bearer "))
    return node(context.name, fields, made, tls=tls, proxied=bool(proxy), profile=context.profile)


def tokens_of(fields: DicomwebFields, context: OpenContext) -> TokenSource | None:
    """OAuth2 client credentials, where a token service is named.

    Raises
    ------
    ConfigurationError
        The client secret is missing, or the authority's file can't be read.
    """
    if not fields.oauth_url:
        return None
    endpoint = TokenEndpoint(
        fields.oauth_url,
        node=context.name,
        client_id=fields.client_id,
        secret=context.secret("client_secret") or "",
        scope=fields.scope,
        audience=fields.audience,
        resource=fields.resource,
        login=fields.client_login,
        tls=TlsSettings(
            ca_file=Path(fields.oauth_ca_file).expanduser() if fields.oauth_ca_file else None,
            pinned_sha256=fields.oauth_pinned_certificate,
        ),
        proxy=system_proxy(fields.oauth_url) if fields.trust_env else None,
        connect_timeout=fields.connect_timeout,
        idle_timeout=min(fields.idle_timeout, 30.0),
    )
    return TokenSource(endpoint)


def _headers(fields: DicomwebFields, context: OpenContext, tokens: TokenSource | None) -> dict[str, str]:
    headers = login_headers(fields, context)
    token = context.secret("token")
    if tokens is not None:
        headers.pop("Authorization", None)
    elif token:
        if not token.isascii() or not token.isprintable():
            raise ConfigurationError(
                "The bearer token has characters that a token can't have.", "Copy it again, all of it.", code="fields"
            )
        headers["Authorization"] = "Bearer " + token.removeprefix("Bearer ").strip()
    return headers
