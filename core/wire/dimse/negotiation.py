"""What an association request proposes and what its answer grants (PS3.8 sections 9.3.2 to 9.3.4, PS3.7 Annex D)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context

from core.model.errors import ConfigurationError
from core.model.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from core.wire.dimse.errors import ProtocolViolation
from core.wire.dimse.peer import Peer

_UserInformation = (
    MaximumLengthNotification
    | ImplementationClassUIDNotification
    | ImplementationVersionNameNotification
    | SCP_SCU_RoleSelectionNegotiation
)
MOST_CONTEXTS = 128  # identifiers are the odd numbers of one byte (PS3.8 section 9.3.2.2)
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_SMALLEST_PDU = 8  # a fragment of two bytes
#: What the decoding of a malformed answer can raise.
_MALFORMED = (
    ValueError, LookupError, struct.error, TypeError, AttributeError, AssertionError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proposed:
    """One presentation context to ask for.

    Attributes
    ----------
    abstract_syntax : str
        A SOP Class UID.
    transfer_syntaxes : tuple[str, ...]
        The peer chooses one of them.
    scp : bool
        We take the role of the SCP in it (SCP/SCU role selection, PS3.7 Annex D.3.3.4), as C-GET needs.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scp: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context; `scp` tells whether the peer granted us the role of the SCP."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    scp: bool = False


class Refusal(StrEnum):
    """Why a context was not accepted (PS3.8 Table 9-18)."""

    USER = "the application rejects it"
    NO_REASON = "no reason given"
    ABSTRACT_SYNTAX = "this SOP class is not supported"
    TRANSFER_SYNTAX = "this transfer syntax is not supported"
    FOREIGN_SYNTAX = "it answered with a transfer syntax that was not proposed"
    NO_ANSWER = "it was left out of the answer"


_RESULTS = {
    1: Refusal.USER,
    2: Refusal.NO_REASON,
    3: Refusal.ABSTRACT_SYNTAX,
    4: Refusal.TRANSFER_SYNTAX,
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the peer granted.

    Attributes
    ----------
    contexts : tuple[Context, ...]
        The accepted ones, in the order proposed.
    refused : dict[Proposed, Refusal]
    max_pdu : int
        Longest P-DATA PDU that the peer takes, counted as in PS3.8 Annex D.1; 0 for any.
    implementation : str
        Implementation version name of the peer, for diagnosis; may be empty.
    """

    contexts: tuple[Context, ...]
    refused: dict[Proposed, Refusal]
    max_pdu: int
    implementation: str


def context_id(position: int) -> int:
    """Presentation context identifier of the proposal at this position, counted from 0."""
    return 2 * position + 1


def request(peer: Peer, contexts: Sequence[Proposed]) -> bytes:
    """The encoded A-ASSOCIATE-RQ.

    Raises
    ------
    ConfigurationError
        None or more than 128 contexts, or an AE title or UID that can't be encoded.
    """
    if not 0 < len(contexts) <= MOST_CONTEXTS:
        raise ConfigurationError(f"An association carries 1 to {MOST_CONTEXTS} contexts, not {len(contexts)}.")
    asked = A_ASSOCIATE()
    try:
        asked.application_context_name = _APPLICATION_CONTEXT
        asked.calling_ae_title = peer.calling_aet
        asked.called_ae_title = peer.called_aet
        asked.presentation_context_definition_list = [
            _presentation_context(position, proposed) for position, proposed in enumerate(contexts)
        ]
        asked.user_information = [*_user_information(peer.max_pdu, contexts)]
        encoded: bytes = A_ASSOCIATE_RQ(asked).encode()
    except _MALFORMED as error:
        raise ConfigurationError(
            "The association request can't be written: an AE title or a UID is out of the ordinary.",
            "Check the AE titles of the node.",
            detail=str(error),
        ) from error
    return encoded


def _presentation_context(position: int, proposed: Proposed) -> PresentationContext:
    made = build_context(proposed.abstract_syntax, list(proposed.transfer_syntaxes))
    made.context_id = context_id(position)
    return made


def _user_information(max_pdu: int, contexts: Sequence[Proposed]) -> list[_UserInformation]:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu
    uid = ImplementationClassUIDNotification()
    uid.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    items: list[_UserInformation] = [length, uid, version]
    as_scu = {proposed.abstract_syntax for proposed in contexts if not proposed.scp}
    for sop_class in dict.fromkeys(proposed.abstract_syntax for proposed in contexts if proposed.scp):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = sop_class
        role.scu_role = sop_class in as_scu
        role.scp_role = True
        items.append(role)
    return items


def agreement(encoded: bytes, contexts: Sequence[Proposed], where: str) -> Agreement:
    """What an A-ASSOCIATE-AC (whole PDU) grants of what was proposed.

    Raises
    ------
    ProtocolViolation
        It can't be decoded, or allows no PDU that could carry anything.
    """
    answer = A_ASSOCIATE_AC()
    try:
        answer.decode(encoded)
        results = {item.context_id: item for item in reversed(answer.presentation_context)}
        user = answer.user_information
        max_pdu = (user.maximum_length if user is not None else 0) or 0
        roles = {str(uid): bool(item.scp_role) for uid, item in user.role_selection.items()} if user is not None else {}
        implementation = str(user.implementation_version_name or "") if user is not None else ""
        accepted: list[Context] = []
        refused: dict[Proposed, Refusal] = {}
        for position, proposed in enumerate(contexts):
            item = results.get(context_id(position))
            if item is None:
                refused[proposed] = Refusal.NO_ANSWER
            elif item.result != 0:
                refused[proposed] = _RESULTS.get(item.result or 2, Refusal.NO_REASON)
            elif (granted := str(item.transfer_syntax)) in proposed.transfer_syntaxes:
                role = proposed.scp and roles.get(proposed.abstract_syntax, False)
                accepted.append(Context(context_id(position), proposed.abstract_syntax, granted, role))
            else:
                refused[proposed] = Refusal.FOREIGN_SYNTAX
    except _MALFORMED as error:
        raise ProtocolViolation(where, "its acceptance of the association is malformed", detail=str(error)) from error
    if 0 < max_pdu < _SMALLEST_PDU:
        raise ProtocolViolation(where, f"it allows PDUs of {max_pdu} bytes only")
    return Agreement(tuple(accepted), refused, max_pdu, implementation)
