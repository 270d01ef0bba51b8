"""The rows of the nodes page: each node with what was seen of it last."""

from __future__ import annotations

from dataclasses import dataclass

from core.model.diagnosis import Profile
from core.model.events import NodeChanged, NodeHealth
from core.model.node import NodeRecord
from gui import words
from gui.models.keyed import Field
from gui.theme import Tone

LISTENING: dict[NodeHealth, tuple[str, Tone]] = {
    NodeHealth.WORKS: ("Listening", Tone.GREEN),
    NodeHealth.DOWN: ("Not listening", Tone.RED),
}


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A row of the list.

    Attributes
    ----------
    listens : bool
        Others call it, as long as an engine runs.
    engine_runs : bool
    sends : bool
        A server that sends to others by itself, and keeps lists of them.
    """

    record: NodeRecord
    kind: str
    icon: str
    address: str
    profile: Profile | None
    health: NodeChanged | None
    listens: bool = False
    engine_runs: bool = False
    sends: bool = False

    @property
    def whereabouts(self) -> str:
        return self.address if self.kind == self.record.name else f"{self.kind} · {self.address}"

    @property
    def is_down(self) -> bool:
        return self.health is not None and self.health.health is NodeHealth.DOWN

    @property
    def verdict(self) -> tuple[str, Tone]:
        """What was seen last: the engine's own experience when it is newer than the diagnosis."""
        known = self.health.health if self.health is not None else NodeHealth.UNKNOWN
        if known is NodeHealth.DOWN:
            return (LISTENING if self.listens else words.HEALTH_WORDS)[NodeHealth.DOWN]
        if self.profile is not None and not self.profile.works and not self._heard_since(self.profile):
            return ("Doesn't work", Tone.RED)
        if self.listens:
            heard = known is NodeHealth.WORKS or (self.profile is not None and self.profile.fact("listening") == "yes")
            return LISTENING[NodeHealth.WORKS] if heard and self.engine_runs else ("Not listening now", Tone.GREY)
        return ("Works", Tone.GREEN) if self.profile is not None else words.HEALTH_WORDS[known]

    def _heard_since(self, profile: Profile) -> bool:
        """Whether the engine saw it work after this diagnosis."""
        if not self.listens or self.health is None or self.health.since is None:
            return False
        return words.local(self.health.since) > words.local(profile.at)

    @property
    def when(self) -> str:
        if self.health is not None and self.health.health is NodeHealth.DOWN:
            again = "tried again" if self.listens else "probing"
            return f"since {words.clock(self.health.since)}, {again}" if self.health.since else again
        return words.ago(self.profile.at) if self.profile is not None else ""


FIELDS: tuple[Field[NodeLine], ...] = (
    Field(
        "Node",
        lambda n: n.record.name,
        second=lambda n: n.whereabouts,
        tip=lambda n: n.address,
        icon=lambda n: n.icon,
    ),
    Field("State", lambda n: n.verdict[0], second=lambda n: n.when, tone=lambda n: n.verdict[1]),
)


def kind_words(title: str, profile: Profile | None) -> str:
    """ "Orthanc 1.12.7", "DICOM"."""
    version = profile.fact("version") if profile is not None else ""
    return f"{title.removesuffix(' server').removesuffix(' node')} {version}".strip()
