"""What goes wrong between two application entities, with the sentences for it (PS3.8 sections 9.3.4 and 9.3.8)."""

from __future__ import annotations

from core.model.errors import AnswerError, TransportError, TransportFault

_ASK = "Ask the PACS administrator"

#: PS3.8 Table 9-21: (source, reason) → code, what was said, what to do.
_REJECTIONS: dict[tuple[int, int], tuple[str, str, str]] = {
    (1, 1): ("association-refused", "gave no reason", f"{_ASK} whether this AE title and computer are registered."),
    (1, 2): ("association-application", "does not know the DICOM application context", "Check host and port."),
    (1, 3): (
        "association-calling-aet",
        "does not know this computer's AE title",
        f"{_ASK} to register our AE title and address, or correct the calling AE title of the node.",
    ),
    (1, 7): (
        "association-called-aet",
        "does not answer to the AE title that it was called by",
        "Correct the called AE title of the node; upper and lower case matter.",
    ),
    (2, 1): ("association-refused", "gave no reason", f"{_ASK} whether this AE title and computer are registered."),
    (2, 2): ("association-protocol", "does not speak this version of the protocol", "Check host and port."),
    (3, 1): ("association-congestion", "is busy for the moment", "Sending goes on by itself."),
    (3, 2): (
        "association-limit",
        "has as many associations open as it allows",
        "Sending goes on by itself with fewer associations.",
    ),
}
_CONGESTION = {(3, 1), (3, 2)}

_ABORT_REASONS = {
    0: "no reason given",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


class AssociationRejected(AnswerError):  # noqa: N818 - the standard's word
    """The peer answered the association request with A-ASSOCIATE-RJ (PS3.8 section 9.3.4); nothing else was sent.

    Attributes
    ----------
    result : int
        1 rejected permanently, 2 rejected for now.
    source : int
        1 the application, 2 the protocol's association part, 3 its presentation part.
    reason : int
        See PS3.8 Table 9-21; its meaning depends on `source`.
    """

    def __init__(self, where: str, called_aet: str, result: int, source: int, reason: int) -> None:
        code, said, step = _REJECTIONS.get(
            (source, reason), ("association-refused", "gave an unknown reason", f"{_ASK}; the details tell the reason.")
        )
        super().__init__(
            0,
            f"{called_aet} at {where} refused the association: it {said}.",
            step,
            detail=f"A-ASSOCIATE-RJ: result {result}, source {source}, reason {reason}",
            code=code,
        )
        self.result = result
        self.source = source
        self.reason = reason

    @property
    def is_congestion(self) -> bool:
        """Whether fewer associations at once can help: temporary congestion, or the peer's limit is exceeded."""
        return (self.source, self.reason) in _CONGESTION

    @property
    def is_transient(self) -> bool:
        """Whether the peer said that asking later may succeed."""
        return self.result == 2 or self.is_congestion


class AssociationAborted(TransportError):  # noqa: N818 - the standard's word
    """The peer sent A-ABORT (PS3.8 section 9.3.8).

    Attributes
    ----------
    source : int
        0 the application, 2 the protocol's machinery.
    reason : int
        For source 2; see PS3.8 Table 9-26.
    """

    def __init__(self, where: str, source: int, reason: int) -> None:
        why = _ABORT_REASONS.get(reason, "unknown reason") if source == 2 else "by its application"
        super().__init__(
            TransportFault.CUT,
            f"{where} aborted the association.",
            "It is tried again by itself. If this lasts, look at the server's log.",
            detail=f"A-ABORT: source {source}, reason {reason} ({why})",
        )
        self.source = source
        self.reason = reason


class ProtocolViolation(TransportError):  # noqa: N818 - the standard's word
    """What came breaks the rules of PS3.7 or PS3.8; the association is aborted for it.

    Attributes
    ----------
    abort_reason : int
        What our A-ABORT says (PS3.8 Table 9-26).
    """

    def __init__(self, where: str, what: str, *, abort_reason: int = 6, detail: str = "") -> None:
        super().__init__(
            TransportFault.PROTOCOL,
            f"What {where} answered is not valid DICOM: {what}.",
            "Check that host and port are those of its DICOM service.",
            detail=detail,
        )
        self.abort_reason = abort_reason


class AssociationReleased(TransportError):  # noqa: N818 - the standard's word
    """The peer ended the association in an orderly way while something was still to be done (A-RELEASE-RQ)."""

    def __init__(self, where: str) -> None:
        super().__init__(
            TransportFault.CUT,
            f"{where} ended the association before all was done.",
            "It is tried again by itself. If this lasts, look at the server's log.",
            detail="A-RELEASE-RQ",
        )


class NoTurn(TransportError):  # noqa: N818 - nothing went wrong with the peer
    """All associations that a node may have were in use, by ourselves, for as long as one waits; nothing was sent."""

    def __init__(self, allowed: int, seconds: float) -> None:
        super().__init__(
            TransportFault.TIMEOUT,
            f"All {allowed} associations that this node may have were in use for {seconds:g} s.",
            "Try again later, or allow this node more associations at once.",
            request_sent=False,
        )


def closed(where: str) -> TransportError:
    """Somebody uses an association that is over; nothing was sent."""
    return TransportError(
        TransportFault.CUT, f"The association with {where} is over.", "Try again.", request_sent=False
    )


def too_slow(where: str, seconds: float, count: int) -> TransportError:
    return TransportError(
        TransportFault.TIMEOUT,
        f"{where} is too slow: {count} bytes took {seconds:.0f} s.",
        "Check the network and the server's load, then try again.",
    )


def takes_nothing(where: str, seconds: float) -> TransportError:
    return TransportError(
        TransportFault.TIMEOUT,
        f"{where} has not taken a byte for {seconds:g} s.",
        "Check whether the server hangs or is overloaded, then try again.",
    )
