"""What goes wrong, as types: each has a sentence for a person, a next step, and the raw detail beside it."""

from __future__ import annotations

from enum import StrEnum


class FerryError(Exception):
    """Base of all errors that a person may get to see.

    Attributes
    ----------
    sentence : str
        One plain sentence: what happened. Never holds patient data or credentials.
    next_step : str
        What the person can do now; may be empty.
    detail : str
        The raw answer or exception text, for "copy details"; may hold whatever the server said.
    code : str
        A short stable word for policies, reports and tests (for example ``"unreachable"``).
    exit_status : int
        Exit status of the command line when this error ends the run.
    """

    exit_status = 1

    def __init__(self, sentence: str, next_step: str = "", *, detail: str = "", code: str = "error") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next_step = next_step
        self.detail = detail
        self.code = code

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}".strip()


class ConfigurationError(FerryError):
    """The command, a node's or a job's fields, or the set-up of this computer is wrong: nothing was started."""

    exit_status = 2


class NotSupportedError(ConfigurationError):
    """A node lacks a capability that the job needs."""


class TransportFault(StrEnum):
    """How a connection failed; `resources/status_policy.toml` has a row for each."""

    NAME = "name"  # the host name was not found
    REFUSED = "refused"  # nothing listens there, or no route
    TIMEOUT = "timeout"  # connecting, or silence for longer than the idle time-out
    TLS = "tls"  # certificate or handshake refused
    CUT = "cut"  # closed or reset in mid-request or mid-answer
    PROTOCOL = "protocol"  # what came back is not HTTP (or not DICOM), or is out of all bounds
    ABORTED = "aborted"  # we closed it ourselves (cancel)
    PROXY = "proxy"  # the proxy refused to connect


class TransportError(FerryError):
    """No usable answer came back. Whether the other side acted on the request is unknown.

    Attributes
    ----------
    fault : TransportFault
    request_sent : bool
        False when certainly not a byte of the request reached the other side.
    """

    def __init__(
        self,
        fault: TransportFault,
        sentence: str,
        next_step: str = "",
        *,
        detail: str = "",
        request_sent: bool = True,
    ) -> None:
        super().__init__(sentence, next_step, detail=detail, code=fault.value)
        self.fault = fault
        self.request_sent = request_sent


class AnswerError(FerryError):
    """The server answered, but not with what was asked for.

    Attributes
    ----------
    status : int
        The HTTP status, or the DIMSE status for a DICOM node.
    retry_after : float | None
        Seconds that the server asked us to wait (HTTP ``Retry-After``), if it did.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        next_step: str = "",
        *,
        detail: str = "",
        code: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(sentence, next_step, detail=detail, code=code or f"http-{status}")
        self.status = status
        self.retry_after = retry_after


class LedgerError(FerryError):
    """The ledger can't be opened, read or written; nothing that depends on it goes on."""

    exit_status = 2


class SecretError(ConfigurationError):
    """A secret is missing, or the keyring is missing, locked or refuses."""


class LocalError(FerryError):
    """This computer is in the way: disk full, no permission, path too long, file locked."""
