"""The sentences for what goes wrong on a connection, whatever is spoken over it."""

from __future__ import annotations

import errno

from core.model.errors import TransportError, TransportFault

_NO_ROUTE = {
    getattr(errno, name)
    for name in ("EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN", "EADDRNOTAVAIL", "EACCES", "EPERM")
    if hasattr(errno, name)
} | {10013, 10049, 10050, 10051, 10064, 10065}  # the same in Winsock's numbers
TIMED_OUT = {errno.ETIMEDOUT, 10060}


def place(host: str, port: int) -> str:
    """ "host:port" as people write it, IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def aborted() -> TransportError:
    return TransportError(TransportFault.ABORTED, "The transfer was stopped here.")


def name_unknown(host: str, error: Exception) -> TransportError:
    return TransportError(
        TransportFault.NAME,
        f"The name {host} was not found.",
        "Check the spelling of the address and this computer's network connection.",
        detail=str(error),
        request_sent=False,
    )


def name_slow(host: str, seconds: float) -> TransportError:
    return TransportError(
        TransportFault.NAME,
        f"The name {host} could not be looked up within {seconds:g} s.",
        "Check this computer's network connection and name server.",
        request_sent=False,
    )


def connect_timed_out(where: str, seconds: float, detail: str = "") -> TransportError:
    return TransportError(
        TransportFault.TIMEOUT,
        f"{where} did not take the connection within {seconds:g} s.",
        "Check the address, and whether a firewall lies between.",
        detail=detail,
        request_sent=False,
    )


def connect_failed(where: str, error: OSError, seconds: float) -> TransportError:
    """What the system said when it could not connect."""
    number = error.errno or 0
    if number in TIMED_OUT:
        return connect_timed_out(where, seconds, str(error))
    if number in _NO_ROUTE:
        sentence = f"There is no way from this computer to {where}."
        step = "Check the network or VPN connection, the address and the firewall."
    else:
        sentence = f"Nothing answers at {where}: the connection was refused."
        step = "Check that the server is running and that host and port are right."
    return TransportError(TransportFault.REFUSED, sentence, step, detail=str(error), request_sent=False)


def silent(where: str, seconds: float) -> TransportError:
    return TransportError(
        TransportFault.TIMEOUT,
        f"{where} has been silent for {seconds:g} s.",
        "Check whether the server hangs or is overloaded, then try again.",
    )


def cut(where: str, what: str, error: Exception | None = None) -> TransportError:
    """`what` says when: "before it answered", "in the middle of its answer"."""
    return TransportError(
        TransportFault.CUT,
        f"{where} closed the connection {what}.",
        "Check that the server is still running, then try again.",
        detail=str(error) if error else "",
    )


def no_http(where: str, what: str, detail: str = "") -> TransportError:
    """The other side broke the rules of HTTP; `what` names the rule."""
    return TransportError(
        TransportFault.PROTOCOL,
        f"What {where} answered is not valid HTTP: {what}.",
        "Check that host and port are those of the server's web interface.",
        detail=detail,
    )


def busy(where: str, limit: int, seconds: float) -> TransportError:
    return TransportError(
        TransportFault.TIMEOUT,
        f"All {limit} connections to {where} were in use for {seconds:g} s.",
        "Try again later, or allow this node more connections at once.",
        request_sent=False,
    )
