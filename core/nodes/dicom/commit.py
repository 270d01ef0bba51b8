"""Asking a DICOM node to take over images for good: `Commit`, by storage commitment (PS3.4 Annex J)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from uuid import uuid4

from core.model.errors import TransportError, TransportFault
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Reports
from core.nodes.dicom.asking import DicomFind, images_in
from core.nodes.search.answers import image_keys
from core.wire.abort import Abort
from core.wire.dimse.commitment import COMMITMENT_CONTEXTS, CommitmentReport, CommitmentRequest, report_of
from core.wire.dimse.status import Service, dimse_answer, status_row
from core.wire.status import words

_LINGER = 2.0  # seconds for which the association is held where the report may come on another one as well
_LOOK = 0.1  # seconds between two looks at the other way by which it may come
_ALONE = 1.0


class DicomCommit(DicomFind):
    """`Commit` of a DICOM node."""

    def commit(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> dict[str, str]:
        """One transaction with a UID of its own; its report is awaited on this association or on one opened to us.

        Returns
        -------
        dict[str, str]
            By SOP Instance UID: empty where the node took it over, else code and sentence of the reason.

        Raises
        ------
        AnswerError
            ``commitment-no-report`` when none came in time, ``action-…`` when the request was not taken.
        TransportError
            The node could not be asked.
        """
        if not instances:
            return {}
        classes = self._kinds_of(study, instances, abort)
        report = self._report(tuple(classes.items()), abort) if classes else None
        return {one.sop_uid: self._reason(one.sop_uid, classes, report) for one in instances}

    def _report(self, instances: Sequence[tuple[str, str]], abort: Abort | None) -> CommitmentReport:
        transaction_uid = f"2.25.{uuid4().int}"
        deadline = time.monotonic() + self.fields.commitment_timeout
        landing = self.context.landing()
        patient = replace(self.peer, answer_timeout=max(self.peer.answer_timeout, self.fields.commitment_timeout + 1))
        with ExitStack() as reporting:
            reports = None
            if landing is not None:
                reports = reporting.enter_context(landing.expect_report(transaction_uid))
            with self.associate(COMMITMENT_CONTEXTS, peer=patient, abort=abort) as association:
                request = CommitmentRequest(association, transaction_uid)
                request.ask((sop_class, sop_uid) for sop_uid, sop_class in instances)
                held = deadline if reports is None else min(deadline, time.monotonic() + _LINGER)
                report = _on_this_association(request, reports, held, abort)
            if report is None and reports is not None:
                report = _on_another(reports, max(0.0, deadline - time.monotonic()), abort)
        if report is None or report.transaction_uid != transaction_uid:
            raise dimse_answer("commitment-no-report", node=self.name, detail=_how(reports, self.fields.calling_aet))
        return report

    def _kinds_of(self, study: StudyInfo, instances: Sequence[InstanceRef], abort: Abort | None) -> dict[str, str]:
        """SOP Class UID of each image by its UID; the node is asked for those that the source did not tell."""
        known = {one.sop_uid: one.sop_class for one in instances if one.sop_class}
        unknown: dict[tuple[str, str], set[str]] = {}
        for one in instances:
            if not one.sop_class:
                unknown.setdefault((one.study_uid or study.study_uid, one.series_uid), set()).add(one.sop_uid)
        if unknown:
            with self.asking(abort) as ask:
                for (study_uid, series_uid), uids in unknown.items():
                    for image in images_in(ask(image_keys(study_uid, series_uid)), study_uid, series_uid):
                        if image["SOPInstanceUID"] in uids and image.get("SOPClassUID"):
                            known[image["SOPInstanceUID"]] = image["SOPClassUID"]
        return known

    def _reason(self, sop_uid: str, classes: dict[str, str], report: CommitmentReport | None) -> str:
        """Why an image is not committed, beginning with the reason's code in the table of statuses."""
        if report is None or sop_uid not in classes:
            return f"commitment-0112 {self.name} does not list the image, so it could not be asked to keep it."
        if sop_uid in report.failed:
            reason = report.failed[sop_uid]
            row = status_row(Service.COMMITMENT, reason)
            return f"{row.code} {words(row.sentence, self.name)} Failure Reason {reason:04X}H."
        if sop_uid in report.committed:
            return ""
        not_named = dimse_answer("commitment-not-named", node=self.name)
        return f"{not_named.code} {not_named.sentence}"


def _on_this_association(
    request: CommitmentRequest, reports: Reports | None, until: float, abort: Abort | None
) -> CommitmentReport | None:
    """Wait for the report here, looking for it on the other way too. That the association ends is no failure."""
    while (left := until - time.monotonic()) > 0:
        try:
            if request.wait(min(left, _LOOK if reports is not None else _ALONE)):
                return request.report
        except TransportError as error:
            if error.fault is TransportFault.ABORTED:
                raise
            return None
        if reports is not None and (found := _on_another(reports, 0.0, abort)) is not None:
            return found
    return request.report


def _on_another(reports: Reports, seconds: float, abort: Abort | None) -> CommitmentReport | None:
    """The report of an association that the node opened to us."""
    found = reports.wait(seconds, abort=abort)
    if found is None:
        return None
    _event_type, information = found
    try:
        return report_of(information)
    except ValueError:
        return None


def _how(reports: Reports | None, aet: str) -> str:
    """How it could have come, for the details."""
    if reports is None:
        return "This computer does not listen for DICOM, so a report could only come on the association of the request."
    return f"Waited for on the association of the request, and on new ones to this computer (asked for as {aet})."
