"""C-STORE as a provider: a data set goes to the disk as it comes, and 0000 follows when it lasts (PS3.4 Annex B)."""

from __future__ import annotations

import errno
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from core.model.errors import LocalError
from core.nodes.this_computer.association import AcceptedAssociation
from core.nodes.this_computer.log_limit import LogLimit
from core.nodes.this_computer.negotiation import is_storage
from core.nodes.this_computer.serving import Diversion
from core.spool import disk
from core.spool.attributes import UnusableInstanceError, is_uid
from core.spool.incoming import PART_SUFFIX, IncomingFile, encode_meta
from core.spool.record import Kept
from core.spool.spool import Spool
from core.wire.dimse.association import Incoming, Message
from core.wire.dimse.command import NO_DATA_SET, number_element, text_element, with_group_length

log = logging.getLogger(__name__)

C_STORE_RQ = 0x0001
_C_STORE_RSP = 0x8001

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DIFFERS = 0xA900
"""Data Set does not match SOP Class: what is in it is not what was announced."""
NOT_UNDERSTOOD = 0xC000
OTHER_CONTENT = 0xC111
"""Ours, out of "cannot understand": other content is held under this SOP Instance UID, and is not overwritten."""
PROCESSING_FAILURE = 0x0110
INVALID_INSTANCE = 0x0117
CLASS_NOT_SUPPORTED = 0x0122

_CHUNK = 1 << 18
_LOOK_AT_DISK = 16 << 20
"""Bytes between two looks at how much room is left while a data set arrives."""
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EMFILE, errno.ENFILE)
_WINDOWS_FULL = (39, 112, 1295)  # ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL, ERROR_DISK_QUOTA_EXCEEDED
_COMMENT = 64  # characters of an Error Comment (0000,0902), VR LO


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and Error Comment of a C-STORE-RSP."""

    status: int
    comment: str = ""


class Receiver:
    """Takes C-STORE requests of all associations; thread-safe.

    Parameters
    ----------
    spool : Spool
    name : str
        The node's, for the log.
    watermark : Callable[[], int]
        Bytes that must stay free on the disk.
    diversion : Diversion | None
        What is on its way through goes there.
    """

    def __init__(self, spool: Spool, name: str, watermark: Callable[[], int], diversion: Diversion | None) -> None:
        self._spool = spool
        self._name = name
        self._watermark = watermark
        self._diversion = diversion
        self._buffers = threading.local()
        self._log = LogLimit(log)

    def store(self, association: AcceptedAssociation, message: Message) -> None:
        """Answer one C-STORE-RQ.

        Raises
        ------
        TransportError
            The association ended in the middle: nothing is kept.
        """
        command = message.command
        sop_class = str(command.get("AffectedSOPClassUID") or "")
        sop_uid = str(command.get("AffectedSOPInstanceUID") or "")
        answer = self._taken(association, message, sop_class, sop_uid)
        if message.data is not None and not message.data.ended:
            message.data.skip()
        message_id = command.get("MessageID")
        response = encoded_response(sop_class, sop_uid, int(message_id or 0), answer)
        association.send_encoded(message.context, response)

    def _taken(self, association: AcceptedAssociation, message: Message, sop_class: str, sop_uid: str) -> Answer:
        objection = self._objection(message, sop_class, sop_uid)
        if objection is not None:
            return objection
        assert message.data is not None
        try:
            if self._spool.free() < self._watermark():
                return self._full()
            diversion = self._diversion
            if diversion is not None and diversion.wants(sop_uid, association, message.command):
                return self._divert(diversion, message, sop_class, sop_uid)
            return self._keep(association, message, sop_class, sop_uid)
        except UnusableInstanceError as error:
            self._log.warning(error.code, "%s: an image from %s was refused: %s (%s)",
                              self._name, association.sender, error.sentence, error.detail)  # fmt: skip
            return Answer(DIFFERS if error.code == "uid-differs" else NOT_UNDERSTOOD, error.detail)
        except OSError as error:
            if error.errno in _FULL or getattr(error, "winerror", None) in _WINDOWS_FULL:
                return self._full()
            self._log.warning("disk", "%s: an image could not be stored: %s", self._name, type(error).__name__)
            return Answer(PROCESSING_FAILURE, "the disk refuses it")
        except LocalError as error:
            if error.code == "disk-full":
                return self._full()
            self._log.warning(error.code, "%s: an image could not be stored: %s", self._name, error)
            return Answer(PROCESSING_FAILURE, error.code)

    def _objection(self, message: Message, sop_class: str, sop_uid: str) -> Answer | None:
        if not is_storage(message.context.abstract_syntax):
            return Answer(CLASS_NOT_SUPPORTED, "not a storage context")
        if not is_uid(sop_class) or not is_uid(sop_uid):
            return Answer(INVALID_INSTANCE, "no usable SOP Class or SOP Instance UID")
        if message.data is None:
            return Answer(NOT_UNDERSTOOD, "no data set")
        return None

    def _full(self) -> Answer:
        self._log.warning("disk-full", "%s refuses images: the disk has less room left than is reserved", self._name)
        return Answer(OUT_OF_RESOURCES, "disk full")

    # where it goes --------------------------------------------------------------------------------------

    def _keep(self, association: AcceptedAssociation, message: Message, sop_class: str, sop_uid: str) -> Answer:
        with self._spool.receive(sop_class, sop_uid, message.context.transfer_syntax) as incoming:
            if not self._receive(message, incoming):
                return self._full()
            arrival = self._spool.keep(incoming, sop_class=sop_class, sop_uid=sop_uid, sender=association.sender)
        if arrival.kept is Kept.CONFLICT:
            self._log.warning(
                "conflict",
                "%s: an image from %s has a SOP Instance UID under which other content is held; it was refused",
                self._name, association.sender,
            )  # fmt: skip
            log.debug("conflict: %s", sop_uid)
            return Answer(OTHER_CONTENT, "other content is held under this SOP Instance UID")
        if self._diversion is not None:
            self._diversion.kept(sop_uid, self._spool.path(arrival.record))
        return Answer(SUCCESS)

    def _divert(self, diversion: Diversion, message: Message, sop_class: str, sop_uid: str) -> Answer:
        disk.make_folder(diversion.folder)
        name = secrets.token_hex(12)
        meta = encode_meta(sop_class, sop_uid, message.context.transfer_syntax)
        with IncomingFile(diversion.folder / (name + PART_SUFFIX), meta) as incoming:
            if not self._receive(message, incoming):
                return self._full()
            path = diversion.folder / (name + ".dcm")
            complete = incoming.complete(path, sop_class=sop_class, sop_uid=sop_uid)
            diversion.arrived(sop_uid, path, complete.digest)
            incoming.let_go()
        return Answer(SUCCESS)

    def _receive(self, message: Message, incoming: IncomingFile) -> bool:
        """Write the data set as it comes, in constant memory; False when there is no room for all of it."""
        data = message.data
        assert data is not None
        view = self._buffer()
        looked = 0
        while count := _fill(data, view):
            incoming.write(view[:count])
            if incoming.size - looked > _LOOK_AT_DISK:
                looked = incoming.size
                if self._spool.free() < self._watermark():
                    return False
        return True

    def _buffer(self) -> memoryview:
        """One for each thread, and so for each association."""
        found: memoryview | None = getattr(self._buffers, "view", None)
        if found is None:
            found = self._buffers.view = memoryview(bytearray(_CHUNK))
        return found


def _fill(data: Incoming, view: memoryview) -> int:
    """Read until `view` is full or the data set at its end: large writes, whatever the size of the PDUs."""
    got = data.readinto(view)
    while 0 < got < len(view):
        more = data.readinto(view[got:])
        if not more:
            break
        got += more
    return got


def encoded_response(sop_class: str, sop_uid: str, message_id: int, answer: Answer) -> bytes:
    """A C-STORE-RSP (PS3.7 Table 9.3-2)."""
    return with_group_length(
        b"".join(
            (
                text_element(0x0002, sop_class) if sop_class else b"",
                number_element(0x0100, _C_STORE_RSP),
                number_element(0x0120, message_id),
                number_element(0x0800, NO_DATA_SET),
                number_element(0x0900, answer.status),
                text_element(0x0902, answer.comment[:_COMMENT], pad=b" ") if answer.comment else b"",
                text_element(0x1000, sop_uid) if sop_uid else b"",
            )
        )
    )
