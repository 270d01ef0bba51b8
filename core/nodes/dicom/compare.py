"""Whether a DICOM node holds this very image: DIMSE tells no digests, so it is fetched and compared."""

from __future__ import annotations

from core.model.errors import FerryError, TransportError, TransportFault
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Body
from core.nodes.dicom.retrieve import DicomRetrieve
from core.nodes.local.same import are_same, read_whole
from core.wire.abort import Abort


class DicomCompare(DicomRetrieve):
    """`CompareByFetching` of a DICOM node."""

    def holds_same(self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None) -> bool:
        """By C-GET or C-MOVE: every attribute and all pixels, whatever the lengths of sequences are written like.

        Raises
        ------
        TransportError
            ``ABORTED``; and what `body` raises.
        """
        ours = read_whole(body)
        try:
            with self.open(instance, abort=abort) as held:
                theirs = read_whole(held)
        except FerryError as error:
            if isinstance(error, TransportError) and error.fault is TransportFault.ABORTED:
                raise
            return False  # it can't be fetched, so it can't be told
        return ours is not None and theirs is not None and are_same(ours, theirs)
