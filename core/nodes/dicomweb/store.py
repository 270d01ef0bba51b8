"""Sending images to a DICOMweb service by STOW-RS, one or many with a request: `Write` and `WriteMany`."""

from __future__ import annotations

from collections.abc import Sequence

from core.model.errors import FerryError, NotSupportedError, TransportError, TransportFault
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Acknowledgement, BatchLimits, Body, DeleteState
from core.nodes.dicomweb.delete import DicomwebDelete
from core.nodes.dicomweb.fields import Transcoding
from core.nodes.dicomweb.stow import Outcome, StowAnswer, outcome_of, read_answer, silent
from core.wire.abort import Abort
from core.wire.http import Answer
from core.wire.multipart_body import MultipartBody
from core.wire.status import answer_error

_PATH = "/studies"
_ANSWER_LIMIT = 16 << 20  # bytes: a few kilobytes for each image
_SUCCESS = frozenset({200, 201, 202, 204})
_ABOUT_IMAGES = frozenset({400, 409})
_TOO_LARGE = 413
_LATELY = 8


class DicomwebStore(DicomwebDelete):
    """`Write` and `WriteMany` of a DICOMweb service: ``POST /studies`` (PS3.18 section 10.5)."""

    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        """One image, as a stream where it is one.

        Raises
        ------
        AnswerError
            ``stow-…`` by the Failure Reason; ``stow-silent`` where the answer doesn't name the image; by the HTTP
            status where it says nothing of images.
        TransportError
            No answer: unless `request_sent` is false, the service has to be asked before it is sent again.
        """
        outcome = self._send([(instance, body)], abort)[0]
        if isinstance(outcome, FerryError):
            raise outcome
        return outcome

    @property
    def batch_limits(self) -> BatchLimits:
        return BatchLimits(self.fields.batch_count, self.fields.batch_bytes * 1000)

    def store_many(
        self, study: StudyInfo, images: Sequence[tuple[InstanceRef, bytes | memoryview]], *, abort: Abort | None = None
    ) -> list[Acknowledgement | FerryError]:
        """Several images with one request; in smaller parts where that is too large for the service."""
        return self._send(list(images), abort)

    def replace(self, study: StudyInfo, instance: InstanceRef) -> None:
        """Delete what is held under this SOP Instance UID, where the service offers that.

        Raises
        ------
        NotSupportedError
        """
        here = InstanceRef(instance.sop_uid, instance.series_uid, instance.study_uid or study.study_uid)
        for outcome in self.delete(study, [here]):
            if outcome.state is DeleteState.REFUSED:
                raise NotSupportedError(
                    f"{self.name} did not delete an image, so what it holds can't be replaced ({outcome.answer}).",
                    "Remove the image there, or transfer without replacing.",
                    code="no-delete",
                )

    # --- sending ---

    def _send(self, images: Sequence[tuple[InstanceRef, Body]], abort: Abort | None) -> list[Outcome]:
        made = [self._encoded(instance, body) for instance, body in images]
        uids = [instance.sop_uid for instance, _ in images]
        found = self._post(uids, [body for body, _ in made], abort)
        stored = [one for (one, _), said in zip(images, found, strict=True) if isinstance(said, Acknowledgement)]
        for (body, _), uid, said in zip(made, uids, found, strict=True):
            if isinstance(said, Acknowledgement) and said.stored and isinstance(body, (bytes, memoryview)):
                self.reading_back.stored(uid, len(body))
        if stored:
            self.stored_lately = (*self.stored_lately[-_LATELY:], *stored[-_LATELY:])
        return [_with_note(outcome, note) for outcome, (_, note) in zip(found, made, strict=True)]

    def _post(self, uids: Sequence[str], bodies: Sequence[Body], abort: Abort | None) -> list[Outcome]:
        request = MultipartBody(bodies)
        try:
            answer = self.access.fetch(
                "POST",
                _PATH,
                body=request.whole(),
                content_type=request.content_type,
                abort=abort,
                limit=_ANSWER_LIMIT,
            )
        except FerryError as error:
            return [error] * len(uids)
        if answer.status == _TOO_LARGE and len(uids) > 1:
            middle = len(uids) // 2
            return [
                *self._post(uids[:middle], bodies[:middle], abort),
                *self._post(uids[middle:], bodies[middle:], abort),
            ]
        return self._outcomes(uids, bodies, answer, abort)

    def _outcomes(
        self, uids: Sequence[str], bodies: Sequence[Body], answer: Answer, abort: Abort | None
    ) -> list[Outcome]:
        said = read_answer(answer.body)
        if said is None:
            return [self._without_data_set(answer)] * len(uids)
        if answer.early and answer.status in _SUCCESS:
            return [self._too_early()] * len(uids)
        found = {uid: outcome_of(uid, said, answer, self.name) for uid in uids}
        left = [at for at, uid in enumerate(uids) if found[uid] is None]
        if left and answer.status in _ABOUT_IMAGES:
            for at in left:
                # Refused as a whole because of one of them: which one is found out by sending each by itself.
                alone = len(uids) == 1
                found[uids[at]] = (
                    self._refused(answer, said) if alone else self._post([uids[at]], [bodies[at]], abort)[0]
                )
        return [found[uid] or self._unnamed(answer) for uid in uids]

    def _without_data_set(self, answer: Answer) -> FerryError:
        """An answer that says nothing of images: by its status, or by what it is instead."""
        if answer.status not in _SUCCESS:
            return self.access.error(_PATH, answer.status, answer.headers, answer.body)
        if answer.early:
            return self._too_early()
        if answer.status == 204 or not answer.body.strip():
            return silent(self.name, answer)
        error = self.access.error(_PATH, answer.status, answer.headers, answer.body)
        return answer_error("not-the-server", node=self.name, status=answer.status, detail=error.detail)

    def _unnamed(self, answer: Answer) -> FerryError:
        if answer.status in _SUCCESS:
            return silent(self.name, answer)
        return self.access.error(_PATH, answer.status, answer.headers, answer.body)

    def _refused(self, answer: Answer, said: StowAnswer) -> FerryError:
        """An answer with a data set that doesn't name the only image: it could not be read as one."""
        error = self.access.error(_PATH, answer.status, answer.headers, answer.body)
        if answer.status == 400 and said.says_nothing:
            return answer_error("bad-dicom", node=self.name, status=400, detail=error.detail)
        return error

    def _too_early(self) -> TransportError:
        return TransportError(
            TransportFault.CUT,
            f"{self.name} answered before it had the whole image, so it can't have stored it.",
            "It is tried again; if it stays so, look for a proxy in front of the server.",
        )

    def _encoded(self, instance: InstanceRef, body: Body) -> tuple[Body, str]:
        """What is sent, and in a sentence what was done to it where it had to be re-encoded."""
        if self.fields.transcoding is Transcoding.NEVER:
            return body, ""
        from core.nodes.dicomweb.transcoding import encoded

        return encoded(instance, body, decompress=self.fields.transcoding is Transcoding.NATIVE, node=self.name)


def _with_note(outcome: Outcome, note: str) -> Outcome:
    if not note or isinstance(outcome, FerryError):
        return outcome
    warning = " ".join(text for text in (note, outcome.warning) if text)
    return Acknowledgement(outcome.stored, outcome.ref, outcome.answer, warning)
