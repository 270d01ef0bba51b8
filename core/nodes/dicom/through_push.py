"""Third-party C-MOVE commanded by another node in our place: `Push` and `PushResume`."""

from __future__ import annotations

from collections.abc import Sequence

from core.model.errors import NotSupportedError
from core.model.study import InstanceRef
from core.nodes.base import Dimse, Node, PushStatus
from core.nodes.dicom.push import plan
from core.nodes.dicom.through_base import MOVE_TIMEOUT, ThroughBase
from core.wire.dimse.retrieval import MOST_UIDS


class ThroughPush(ThroughBase):
    """`Push` of a DICOM node that is reached through another one, whose jobs outlive this program."""

    def push_target(self, destination: Node) -> str:
        """The AE title of a destination that takes images by C-STORE; this node has to know it under that name."""
        if not isinstance(destination, Dimse):
            return ""
        try:
            aet = destination.dicom_address().aet
        except NotSupportedError:
            return ""
        return "" if aet == self.fields.aet else aet

    @property
    def pushes_studies(self) -> bool:
        return True

    def push(self, instances: Sequence[InstanceRef], target: str, *, whole: bool = False) -> str:
        """A whole study by one request at STUDY level, else images by lists of their UIDs."""
        most = MOST_UIDS if self.takes_uid_lists else 1
        wanted = [one for one, _count in plan(instances, whole=whole, most=most)]
        return self.entity.move(wanted, target, timeout=max(MOVE_TIMEOUT, self.fields.answer_timeout))

    def push_status(self, job: str) -> PushStatus:
        return self.entity.move_status(job)

    def push_cancel(self, job: str) -> bool:
        return self.entity.move_cancel(job)

    def push_resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        return self.entity.move_resume(instances, target)
