"""Nodes as saved: a kind, a name and the kind's declared fields. Secrets are not part of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from core.model.fields import Declared, declared

NodeName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]


class NodeFields(Declared):
    """Base of every node kind's fields."""

    connections: int = declared(
        4,
        title="Connections at once",
        help="At most this many connections or associations to this node at the same time.",
        ge=1,
        le=64,
        advanced=True,
        group="Limits",
    )


class NodeRecord(BaseModel):
    """A registered node.

    Attributes
    ----------
    name : str
        Unique, shown everywhere, at most 64 characters.
    kind : str
        Name of the node kind ("orthanc", "folder").
    fields : dict
        The kind's fields as JSON values, without secrets.
    """

    model_config = ConfigDict(frozen=True)

    name: NodeName
    kind: str
    fields: dict[str, JsonValue] = Field(default_factory=dict)
