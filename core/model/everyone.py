"""“MRI: all modalities”: a destination that stands for every node that a server of ours sends to, kept current."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from core.model.errors import ConfigurationError
from core.model.remotes import RemoteKind

KINDS = (RemoteKind.MODALITY, RemoteKind.PEER)
_SIGN = ": all "  # no name of a node has a colon in it


@dataclass(frozen=True, slots=True)
class Everyone:
    """All that a server knows of one kind.

    Attributes
    ----------
    server : str
        Name of the node.
    kind : RemoteKind
    """

    server: str
    kind: RemoteKind

    def __str__(self) -> str:
        return f"{self.server}{_SIGN}{self.kind.many}"

    @classmethod
    def parse(cls, name: str) -> Everyone | None:
        """None for the name of a node."""
        server, sign, many = name.partition(_SIGN)
        kind = next((k for k in KINDS if k.many == many.strip().lower()), None)
        return cls(server.strip(), kind) if sign and kind is not None else None


@dataclass(frozen=True, slots=True)
class Expanded:
    """The nodes that destinations stand for now.

    Attributes
    ----------
    names : tuple[str, ...]
        Registered nodes, each once.
    titles : Mapping[str, str]
        AE titles by the nodes that stand in a server's list of modalities: what came from one of them is not sent
        back to it.
    to_come : tuple[str, ...]
        Nodes that are registered when a job starts: modalities that are none here yet.
    left_out : str
        Whom nothing is sent to although it is on a list, and what to do about it; sentences.
    """

    names: tuple[str, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    to_come: tuple[str, ...] = ()
    left_out: str = ""


def registered(names: Iterable[str]) -> list[str]:
    """The registered nodes that names of destinations speak of: for “MRI: all modalities” it is MRI."""
    found = ((everyone.server if (everyone := Everyone.parse(name)) else name) for name in names)
    return list(dict.fromkeys(found))


class Expand(Protocol):
    """Tells the nodes that destinations stand for; may ask servers, and register nodes where `register` says so."""

    def __call__(self, destinations: Iterable[str], sources: Iterable[str], *, register: bool) -> Expanded: ...


def as_named(destinations: Iterable[str], sources: Iterable[str], *, register: bool) -> Expanded:
    """`Expand` where every destination is a node."""
    return Expanded(tuple(destinations))


def nobody(destinations: Iterable[str], now: Expanded) -> ConfigurationError:
    """Why a job can't start whose destinations stand for no node at all."""
    return ConfigurationError(
        f"“{', '.join(destinations)}”: there is none that anything could be sent to.",
        now.left_out or "Add one on the nodes page, “Sends to”, or choose another destination.",
        code="nobody",
    )
