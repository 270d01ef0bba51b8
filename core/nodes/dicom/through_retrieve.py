"""Images that come here by a C-MOVE which another node commands in our place: `Read`.

The node between stores nothing on the way: had it to fetch an image first and to remove it afterwards, nobody could
tell whether somebody else wanted the same image there meanwhile. So the images come to this computer, which the
DICOM node has to know as a destination.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from core.model.errors import ConfigurationError, FerryError
from core.model.study import InstanceRef
from core.nodes.base import Arrivals, Landing, Node, OpenContext
from core.nodes.dicom.fetching import Deliver, Moving
from core.nodes.dicom.fields import DicomFields
from core.nodes.dicom.retrieve import DicomRetrieve
from core.nodes.dicom.through_base import MOVE_TIMEOUT, ThroughBase
from core.nodes.intermediary import RemoteEntity
from core.wire.abort import Abort
from core.wire.dimse.peer import Peer
from core.wire.dimse.retrieval import Retrieval, Wanted

_FIRST_LOOK, _LONGEST_PAUSE = 0.05, 0.5  # seconds between two looks at the job


class ThroughRetrieve(ThroughBase, DicomRetrieve):
    """`Read` and `ReadAhead` of a DICOM node that is reached through another one."""

    def __init__(self, fields: DicomFields, peer: Peer, context: OpenContext, via: Node, entity: RemoteEntity) -> None:
        super().__init__(fields, peer, context, via, entity)
        self._gets = False

    def _move_here(self, asked: Sequence[InstanceRef], deliver: Deliver, abort: Abort | None) -> dict[str, FerryError]:
        landing = self.context.landing()
        if landing is None:
            raise ConfigurationError(
                f"Through “{self.via.name}”, {self.name} can send its images here by C-MOVE only, and nothing here "
                "takes them in.",
                "Add a “This computer” node, keep the program running, and let the PACS administrator enter its AE "
                f"title, address and port. Or let {self.name} send to the destination itself (“By the server itself”).",
                code="no-landing",
            )
        missing = {one.sop_uid: one for one in asked}
        originator = self.entity.calling_aet()
        with landing.expect(list(missing), sender=self.fields.aet, originator=originator) as arrivals:
            reasons = _MovingThere(self, landing, arrivals, deliver, missing).ask_for(asked, abort)
        if missing:
            self._see_what_is_gone(list(missing.values()), reasons, abort)
        return {uid: reasons[uid] for uid in missing if uid in reasons}


class _MovingThere(Moving):
    """By jobs of the node between; what arrives is handed on while they are at work."""

    def __init__(
        self,
        node: ThroughRetrieve,
        landing: Landing,
        arrivals: Arrivals,
        deliver: Deliver,
        missing: dict[str, InstanceRef],
    ) -> None:
        super().__init__(node, landing, arrivals, deliver, missing)
        self._entity = node.entity

    def ask_for(self, asked: Sequence[InstanceRef], abort: Abort | None) -> dict[str, FerryError]:
        self._abort = abort
        self.in_turn(asked)
        return self.reasons(asked)

    def retrieve(self, wanted: Wanted) -> Retrieval:
        job = self._entity.move([wanted], self._landing.aet, timeout=MOVE_TIMEOUT)
        try:
            ended = self._follow(job)
        except FerryError:
            # A job that goes on would send what nobody takes in any more; ending it may take a while.
            threading.Thread(target=self._cancel, args=(job,), name=f"cancel {job}", daemon=True).start()
            raise
        finally:
            self._hand_on()  # what has arrived is here, however it ended
        self._wait_for_late(wanted.sop_uids, ended)
        return ended

    def _follow(self, job: str) -> Retrieval:
        pause = _FIRST_LOOK
        while (ended := self._entity.move_ended(job)) is None:
            here = self._asked - len(self.missing)
            if self._arrivals.wait(here + 1, pause) > here:
                self._hand_on()
            if self._abort is not None:
                self._abort.check()
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        return ended

    def _cancel(self, job: str) -> None:
        with contextlib.suppress(FerryError):  # it ends by itself then
            self._entity.move_cancel(job)
