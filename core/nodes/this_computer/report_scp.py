"""Reports of storage commitment on associations that a peer opens for them (N-EVENT-REPORT, PS3.4 section J.3.3)."""

from __future__ import annotations

import logging
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from core.nodes.this_computer.landing import LandingPlace
from core.nodes.this_computer.requests import N_EVENT_REPORT_RQ, NO_SUCH_SERVICE, SUCCESS, read_all, response_to
from core.nodes.this_computer.serving import Served, ServedMessage

log = logging.getLogger(__name__)

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"

_LARGEST_REPORT = 64 << 20  # bytes: some 400,000 instances
_PROCESSING_FAILURE = 0x0110
_RESOURCE_LIMITATION = 0x0213


class ReportService:
    """Takes in reports for those who wait for them.

    A report that nobody waits for (too late, or of a transaction that is none of ours) is answered as received all
    the same: it changes nothing here, and a peer that is refused may repeat it for days.
    """

    transfer_syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    caller_is_scp = True

    def __init__(self, landing: LandingPlace) -> None:
        self._landing = landing

    def serve(self, association: Served, message: ServedMessage) -> None:
        """Answer one request; see `Service`."""
        command = message.command
        encoded = read_all(message.data, _LARGEST_REPORT)
        if command.get("CommandField") != N_EVENT_REPORT_RQ:
            association.send(message.context, response_to(message, NO_SUCH_SERVICE))
            return
        status = self._take(command.get("EventTypeID"), encoded, message.context.transfer_syntax, association)
        response = response_to(message, status)
        response.AffectedSOPInstanceUID = command.get("AffectedSOPInstanceUID") or ""
        response.EventTypeID = command.get("EventTypeID") or 0
        association.send(message.context, response)

    def _take(self, event_type: object, encoded: bytes | None, transfer_syntax: str, association: Served) -> int:
        if encoded is None:
            return _RESOURCE_LIMITATION
        information = _decoded(encoded, transfer_syntax)
        if information is None or not isinstance(event_type, int):
            log.warning("%s sent a storage commitment report that can't be read", association.calling_aet)
            return _PROCESSING_FAILURE
        if not self._landing.reported(event_type, information):
            log.info("%s sent a storage commitment report that nobody waits for", association.calling_aet)
        return SUCCESS


def _decoded(encoded: bytes, transfer_syntax: str) -> Dataset | None:
    """The event information; None where these bytes are none."""
    implicit = transfer_syntax == ImplicitVRLittleEndian
    try:
        found = read_dataset(BytesIO(encoded), is_implicit_VR=implicit, is_little_endian=True)
        if not str(found.get("TransactionUID") or ""):
            return None
        for keyword in ("ReferencedSOPSequence", "FailedSOPSequence"):
            for item in found.get(keyword) or ():
                item.get("ReferencedSOPInstanceUID")
    except Exception as error:  # noqa: BLE001 - pydicom raises a dozen kinds for garbage
        log.debug("a storage commitment report: %r", error)
        return None
    return found
