"""Third-party C-MOVE commanded by another node in our place: `Push` and `PushResume`."""

from __future__ import annotations

from collections.abc import Sequence

from core.model.study import InstanceRef
from core.nodes.base import PushStatus
from core.nodes.dicom.push import ByMove, plan
from core.nodes.dicom.through_base import MOVE_TIMEOUT, ThroughBase


class ThroughPush(ThroughBase, ByMove):
    """`Push` of a DICOM node that is reached through another one, whose jobs outlive this program."""

    def push(self, instances: Sequence[InstanceRef], target: str, *, whole: bool = False) -> str:
        """A whole study by one request at STUDY level, else images by lists of their UIDs."""
        wanted = [one for one, _count in plan(instances, whole=whole, most=self.most_uids)]
        return self.entity.move(wanted, target, timeout=max(MOVE_TIMEOUT, self.fields.answer_timeout))

    def push_status(self, job: str) -> PushStatus:
        return self.entity.move_status(job)

    def push_cancel(self, job: str) -> bool:
        return self.entity.move_cancel(job)

    def push_resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        return self.entity.move_resume(instances, target)
