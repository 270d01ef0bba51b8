"""Sending images to a DICOM node by C-STORE, as they are: `Write`."""

from __future__ import annotations

from core.model.errors import NotSupportedError
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Acknowledgement, Body
from core.nodes.dicom.base import DicomBase
from core.wire.abort import Abort
from core.wire.dimse.file_meta import FileHead, NotAFileError, split_head
from core.wire.dimse.status import Meaning, Service, dimse_error, store_status
from core.wire.dimse.store import NoContext, StoreAnswer
from core.wire.status import answer_error, words


class DicomStore(DicomBase):
    """`Write` of a DICOM node: the data set goes out byte for byte as it comes in, without being decoded."""

    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        """C-STORE (PS3.4 Annex B) over an association that is kept for the next image.

        Raises
        ------
        AnswerError
            ``store-…`` by the status; ``association-no-context`` where the node takes no such images; ``bad-dicom``
            where the body is no DICOM file.
        TransportError
            No answer: unless `request_sent` is false, the node has to be asked before it is sent again.
        """
        try:
            head = split_head(body)
        except NotAFileError as error:
            raise answer_error("bad-dicom", node=self.name, detail=str(error)) from error
        sop_class = instance.sop_class or head.sop_class
        if not sop_class:
            raise answer_error("bad-dicom", node=self.name, detail="its SOP class is not told")
        try:
            answer = self.associations.store(
                sop_class, instance.sop_uid, head.transfer_syntax, head.data_set, abort=abort
            )  # fmt: skip
        except NoContext as refused:
            if not self.fields.reencode:
                raise
            return self._store_reencoded(sop_class, instance, head, refused, abort)
        return self._acknowledgement(instance, answer)

    def _store_reencoded(
        self, sop_class: str, instance: InstanceRef, head: FileHead, refused: NoContext, abort: Abort | None
    ) -> Acknowledgement:
        """In an encoding that the node takes, where that is possible without loss. Nothing was sent until now."""
        from core.nodes.local.reencode import TARGETS, NotReencodableError, reencoded

        others = [syntax for syntax in TARGETS if syntax != head.transfer_syntax]
        accepted = self.associations.accepted(sop_class, others, abort=abort)
        if not accepted:
            raise refused
        try:
            found = reencoded(head, sop_class, instance.sop_uid, accepted[0])
        except NotReencodableError as error:
            refused.detail = f"{refused.detail}; not re-encoded: {error}"
            raise refused from error
        answer = self.associations.store(
            sop_class, instance.sop_uid, found.transfer_syntax, found.data_set, abort=abort
        )  # fmt: skip
        return self._acknowledgement(instance, answer, found.note)

    def replace(self, study: StudyInfo, instance: InstanceRef) -> None:
        """Not by DIMSE: there is no service that removes an image.

        Raises
        ------
        NotSupportedError
        """
        raise NotSupportedError(
            f"{self.name} can't be told to remove an image, so what it holds can't be replaced.",
            "Remove the image there, or transfer without replacing.",
            code="no-delete",
        )

    def _acknowledgement(self, instance: InstanceRef, answer: StoreAnswer, note: str = "") -> Acknowledgement:
        """What a status means (PS3.4 Table B.2-1)."""
        row = store_status(answer.status)
        said = f"{answer.status:04X}" + (f" {answer.comment}" if answer.comment else "")
        if row.meaning in (Meaning.DONE, Meaning.WARNING):
            warning = words(row.sentence, self.name) if row.meaning is Meaning.WARNING else ""
            return Acknowledgement(True, instance.sop_uid, said, " ".join(t for t in (note, warning) if t))
        if row.meaning is Meaning.DUPLICATE:
            return Acknowledgement(False, instance.sop_uid, said, note)
        raise dimse_error(Service.STORE, answer.status, node=self.name, comment=answer.comment)
