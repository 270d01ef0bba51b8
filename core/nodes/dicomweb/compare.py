"""Whether a DICOMweb service holds this very image: it tells no digests, so it is fetched and compared."""

from __future__ import annotations

from core.model.errors import FerryError, TransportError, TransportFault
from core.model.loading import load_pydicom
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Body
from core.nodes.dicomweb.read import DicomwebRead
from core.wire.abort import Abort


class DicomwebCompare(DicomwebRead):
    """`CompareByFetching` of a DICOMweb service."""

    def holds_same(self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None) -> bool:
        """By WADO-RS: every attribute and all pixels.

        Raises
        ------
        TransportError
            ``ABORTED``; and what `body` raises.
        """
        load_pydicom()
        from core.nodes.local.same import are_same, read_whole

        ours = read_whole(body)
        try:
            with self.open(instance, abort=abort) as held:
                theirs = read_whole(held)
        except FerryError as error:
            if isinstance(error, TransportError) and error.fault is TransportFault.ABORTED:
                raise
            return False  # it can't be fetched, so it can't be told
        return ours is not None and theirs is not None and are_same(ours, theirs)
