"""Whom an association is opened with, and the bounds within which it must answer."""

from __future__ import annotations

from dataclasses import dataclass

from core.wire.tls import TlsSettings


@dataclass(frozen=True, slots=True)
class Peer:
    """Another application entity, and who we say we are to it.

    Attributes
    ----------
    name : str
        The node's name, for sentences.
    host, port
        Where it listens.
    called_aet, calling_aet : str
        Its AE title and ours (PS3.5, VR AE: at most 16 characters).
    tls : TlsSettings | None
        None for a connection in the clear (PS3.15 Annex B otherwise).
    connect_timeout : float
        Seconds for name, TCP and TLS.
    association_timeout : float
        Seconds until an association request, a release or an abort is answered (ARTIM, PS3.8 section 9.1.5).
    answer_timeout : float
        Seconds of silence while a response is awaited; each message that arrives starts it anew.
    idle_timeout : float
        Seconds in which at least one byte must move while a message is sent or received.
    max_pdu : int
        Longest PDU that we take, in bytes (PS3.8 Annex D.1); 0 for any.
    """

    name: str
    host: str
    port: int
    called_aet: str
    calling_aet: str
    tls: TlsSettings | None = None
    connect_timeout: float = 10.0
    association_timeout: float = 30.0
    answer_timeout: float = 60.0
    idle_timeout: float = 30.0
    max_pdu: int = 131072
