"""What other jobs still want of a source: nobody's only copy is deleted because one job has brought it on."""

from __future__ import annotations

from dataclasses import dataclass

from core.ledger.ledger import Ledger
from core.model.job import JobState, Trigger
from core.model.study import StudyInfo
from core.nodes.base import Follow, Intake, Node

LOOK_AGAIN = 5.0  # seconds until others are asked again


@dataclass(frozen=True, slots=True)
class _Seen:
    """How far a source's change log was when a study was complete, and by which proof that was asked."""

    proof: float | None
    cursor: int


class Others:
    """The other jobs that take from a source which this one empties.

    Looked at only where the source is a store of this computer's own (`Intake`): several jobs bring on what a
    modality sends once. A server that images are moved from is another matter: there it is as a person ordered.

    Attributes
    ----------
    waits_for : dict[int, str]
        Studies that stay for the sake of another job: its name, by the study's key.
    """

    def __init__(self, ledger: Ledger, job_id: int, source: Node) -> None:
        self.waits_for: dict[int, str] = {}
        self._ledger = ledger
        self._job_id = job_id
        self._source = source
        self._seen: dict[int, _Seen] = {}

    def want(self, study_id: int, study: StudyInfo) -> bool:
        """Whether another job has not proved what it wants of this study, or may not have seen it yet.

        One that follows has seen it once it has read the change log beyond the moment when the study was complete.
        """
        if not isinstance(self._source, Intake):
            return False
        others = self._ledger.others_on(self._source.name, self._job_id)
        if not others:
            self._let_go(study_id)
            return False
        followers = [other for other in others if other.follow]
        if followers and isinstance(self._source, Follow):
            if not self._source.stable(Trigger.STUDY, study.ref):
                self.waits_for[study_id] = ""
                return True  # it goes on growing: those that wait for it to be complete haven't seen it
            needed = self._needed(study_id, self._source)
            for other in followers:
                behind = other.cursor is None or other.cursor < needed
                if behind or not other.inventoried:
                    self.waits_for[study_id] = other.name if other.state is not JobState.RUNNING else ""
                    return True
        for other in others:
            if self._ledger.awaits(other.id, other.pass_number, self._source.name, study.study_uid):
                self.waits_for[study_id] = other.name
                return True
        self._let_go(study_id)
        return False

    def _needed(self, study_id: int, source: Follow) -> int:
        proof = self._ledger.last_proof(study_id)
        seen = self._seen.get(study_id)
        if seen is None or seen.proof != proof:
            seen = self._seen[study_id] = _Seen(proof, source.cursor())
        return seen.cursor

    def _let_go(self, study_id: int) -> None:
        self._seen.pop(study_id, None)
        self.waits_for.pop(study_id, None)

    @property
    def note(self) -> str:
        """For whom studies stay that this job has brought on, in a sentence; empty where for nobody."""
        names = sorted({name for name in list(self.waits_for.values()) if name})  # studies settle meanwhile
        if not names:
            return ""
        has = "has" if len(names) == 1 else "have"
        return f"Confirmed studies stay at {self._source.name} until {' and '.join(names)} {has} them, too."
