"""Archives in memory: they give storage commitment, move studies by themselves, can't list, fill up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from core.model.errors import FerryError
from core.model.node import NodeFields
from core.model.outcome import Failure, FailureClass
from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.base import Acknowledgement, Body, DiskLevel, Node, PushState, PushStatus
from core.wire.http import Abort
from tests.support.memory_node import MemoryNode
from tests.support.waiting import PATIENCE

COMMITMENT_CLASSES = {"commitment-0112": FailureClass.ASK, "commitment-0122": FailureClass.PERMANENT}


class CommittingNode(MemoryNode):
    """Gives storage commitment.

    Attributes
    ----------
    transactions : list[list[str]]
        The SOP Instance UIDs of each request, in their order.
    on_commit : Callable[[list[str]], dict[str, str]]
        Gives the reasons of a request, or raises.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.transactions: list[list[str]] = []
        self.on_commit: Callable[[list[str]], dict[str, str]] = lambda uids: dict.fromkeys(uids, "")

    def commit(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> dict[str, str]:
        uids = [one.sop_uid for one in instances]
        with self.lock:
            self.transactions.append(uids)
        return self.on_commit(uids)

    def failure(self, error: FerryError, side: str) -> Failure:
        found = super().failure(error, side)
        return replace(found, cls=COMMITMENT_CLASSES.get(error.code, found.cls))


class BlindNode(Node):
    """Takes images and commits itself to them, but can't say what it holds."""

    def __init__(self, inner: CommittingNode) -> None:
        self.name = inner.name
        self.fields = NodeFields()
        self.inner = inner

    @property
    def place(self) -> str:
        return self.name

    def probe(self) -> None:
        return

    def close(self) -> None:
        return

    def failure(self, error: FerryError, side: str) -> Failure:
        return self.inner.failure(error, side)

    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        return self.inner.store(study, instance, body, abort=abort)

    def replace(self, study: StudyInfo, instance: InstanceRef) -> None:
        self.inner.replace(study, instance)

    def commit(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> dict[str, str]:
        return self.inner.commit(study, instances, abort=abort)


class UnsureNode(CommittingNode):
    """Has to be asked what it holds, and never knows."""

    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        return [Holding(one.sop_uid, Presence.UNKNOWN) for one in instances]


class MovingNode(MemoryNode):
    """Sends whole studies by itself, as a PACS does when it is asked by C-MOVE.

    Attributes
    ----------
    targets : dict[str, MemoryNode]
        The destinations that it knows, by AE title (their names here).
    moves : list[tuple[int, bool]]
        Of each request the number of instances asked for, and whether it was for the whole study.
    at_once, most_at_once : int
        Requests under way now, and the most that ever were.
    on_move : Callable[[InstanceRef], bool]
        Called before each instance; False loses it.
    ends : PushStatus
        What it says at the end.
    left_running : str
        A job of an earlier run that is still at work.
    """

    pushes_studies = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.targets: dict[str, MemoryNode] = {}
        self.moves: list[tuple[int, bool]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.on_move: Callable[[InstanceRef], bool] = lambda _i: True
        self.ends = PushStatus(PushState.DONE, 1.0)
        self.cancelled: list[str] = []
        self.left_running = ""
        self._jobs: dict[str, PushStatus] = {}

    def push_target(self, destination: Node) -> str:
        return destination.name if destination.name in self.targets else ""

    def push(self, instances: Sequence[InstanceRef], target: str, *, whole: bool = False) -> str:
        wanted = [i.sop_uid for i in instances]
        if whole:
            studies = {i.study_uid for i in instances}
            wanted = [uid for uid, (ref, _d) in self.held.items() if ref.study_uid in studies]
        with self.lock:
            self.moves.append((len(instances), whole))
            job = f"move-{len(self.moves)}"
            self._jobs[job] = PushStatus(PushState.RUNNING)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        threading.Thread(target=self._move, args=(job, wanted, self.targets[target]), daemon=True).start()
        return job

    def _move(self, job: str, wanted: list[str], target: MemoryNode) -> None:
        try:
            for uid in wanted:
                if job in self.cancelled:
                    return
                if uid in self.held and self.on_move(self.held[uid][0]):
                    ref, data = self.held[uid]
                    with target.lock:
                        target.stores.append(uid)
                        target.held.setdefault(uid, (replace(ref), data))
        finally:
            with self.lock:
                self.at_once -= 1
            self._jobs[job] = self.ends

    def push_status(self, job: str) -> PushStatus:
        return self._jobs.get(job, PushStatus(PushState.GONE))

    def push_cancel(self, job: str) -> bool:
        self.cancelled.append(job)
        return True


class ResumingNode(MovingNode):
    """Its jobs outlive the program and can be found again."""

    def push_resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        return self.left_running

    def begin_other(self, uids: Sequence[str], target: str, until: threading.Event) -> None:
        """A job that an earlier run of the program had begun; it moves its images when `until` is set."""
        self.left_running = "other"
        self._jobs["other"] = PushStatus(PushState.RUNNING)
        self.at_once += 1

        def work() -> None:
            until.wait(PATIENCE)
            self._move("other", list(uids), self.targets[target])
            self.left_running = ""

        threading.Thread(target=work, daemon=True).start()


class FillingNode(MemoryNode):
    """Tells how full it is."""

    level = DiskLevel(0, 1000)

    def disk_use(self) -> DiskLevel:
        return self.level
