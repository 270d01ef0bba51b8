"""What an Orthanc says went wrong between it and a modality, in the words of DIMSE."""

from __future__ import annotations

import re

from core.model.errors import AnswerError, TransportFault
from core.nodes.intermediary import BeyondError
from core.wire.dimse.status import Service, dimse_answer, dimse_error

_STATUS = re.compile(r"DIMSE status (?:0x)?([0-9a-f]{4})\b", re.IGNORECASE)
_NETWORK_PROTOCOL = 9
_NO_CONTEXT = 2015
_MISSING = {Service.STORE: "association-no-context", Service.ACTION: "action-not-offered"}  # by what was asked
_NO_SERVICE = frozenset({2016, 2017, 2045})  # C-FIND, C-MOVE, C-GET

#: What DCMTK's words stand for, looked for in this order.
_FAULTS = (
    ("secure transport", TransportFault.TLS, "can't make a secure connection to “{node}”"),
    ("unknown host", TransportFault.NAME, "does not find the host name under which it knows “{node}”"),
    ("timeout", TransportFault.TIMEOUT, "got no answer from “{node}” in time"),
    ("timed out", TransportFault.TIMEOUT, "got no answer from “{node}” in time"),
    ("refused", TransportFault.REFUSED, "can't reach “{node}”: nothing listens at the address that it knows"),
    ("initialization error", TransportFault.REFUSED, "can't reach “{node}” at the address that it knows"),
    ("unrecognized pdu", TransportFault.PROTOCOL, "finds no DICOM at the address under which it knows “{node}”"),
)


def status_in(text: str) -> int | None:
    """The DIMSE status that an error's text names."""
    found = _STATUS.search(text)
    return int(found[1], 16) if found else None


def modality_error(
    service: Service, code: int | None, text: str, *, node: str, server: str
) -> AnswerError | BeyondError | None:
    """The error that Orthanc describes, if it is one of the modality and not of Orthanc itself.

    Parameters
    ----------
    service : Service
        What was asked of the modality.
    code : int | None
        ``OrthancStatus`` of the answer, or ``ErrorCode`` of the job.
    text : str
        Its ``Details``, or ``ErrorDetails``.
    node, server : str
        Names of the modality's node, and of Orthanc.
    """
    status = status_in(text)
    if status is not None:
        return dimse_error(service, status, node=node, comment=text)
    low = text.lower()
    if code == _NO_CONTEXT or "no valid presentation context" in low:
        return dimse_answer(_MISSING.get(service, "association-no-service"), node=node, detail=text)
    if code in _NO_SERVICE:
        return dimse_answer("association-no-service", node=node, detail=text)
    if code != _NETWORK_PROTOCOL:
        return None
    if "association rejected" in low:
        return dimse_answer("association-rejected", node=node, detail=text)
    unsent = "connecting to aet" in low
    for words, fault, said in _FAULTS:
        if words in low:
            return _beyond(fault, said, text, node, server, unsent)
    return _beyond(TransportFault.CUT, "was cut off from “{node}”", text, node, server, unsent)


def _beyond(fault: TransportFault, said: str, text: str, node: str, server: str, unsent: bool) -> BeyondError:
    return BeyondError(
        fault,
        f"“{server}” {said.replace('{node}', node)}.",
        f"Check that “{node}” runs, and its address among the modalities of “{server}”.",
        detail=text,
        request_sent=not unsent,
    )
