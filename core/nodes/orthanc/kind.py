"""The node kind "orthanc": how a node is opened from its declared fields."""

from __future__ import annotations

from typing import ClassVar

from core.model.node import NodeFields
from core.nodes.base import Node, NodeKind, OpenContext
from core.nodes.orthanc.fields import OrthancFields
from core.nodes.orthanc.node import OrthancNode
from core.nodes.orthanc.rest import OrthancRest
from core.nodes.web.opening import login_headers, open_pool, plain_http_warnings, proxy_of, tls_settings


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
        tls = tls_settings(fields, context)
        proxy = proxy_of(fields)
        headers = login_headers(fields, context)
        pool = open_pool(fields, headers=headers, tls=tls, proxy=proxy, accept_gzip=fields.gzip)
        return OrthancNode(context.name, fields, OrthancRest(pool, context.name), tls=tls, proxied=bool(proxy))

    def address(self, fields: NodeFields) -> str:
        assert isinstance(fields, OrthancFields)
        return fields.url

    def warnings(self, fields: NodeFields, *, has_secret: bool) -> list[str]:
        assert isinstance(fields, OrthancFields)
        has_login = bool(has_secret or fields.username or fields.header_name)
        found = plain_http_warnings(fields, has_login=has_login)
        if has_secret and not fields.username and not fields.header_name:
            found.append("A password is given without a user name: it is not used.")
        return found
