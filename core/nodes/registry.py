"""Where node kinds register themselves."""

from __future__ import annotations

from core.model.registry import Registry
from core.nodes.base import NodeKind

node_kinds: Registry[NodeKind] = Registry("core.nodes", "node kind")


def register(kind: NodeKind) -> NodeKind:
    return node_kinds.register(kind.name, kind)
