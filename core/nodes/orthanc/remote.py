"""An application entity that an Orthanc talks to in our place (``/modalities/{name}/…``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from core.model.errors import AnswerError, ConfigurationError, NotSupportedError, TransportError
from core.model.study import InstanceRef
from core.nodes.base import Body, DicomAddress, PushStatus
from core.nodes.intermediary import KnownThere
from core.nodes.orthanc.answers import JsonObject, error_body, number, text
from core.nodes.orthanc.configuration import Modality, ServerConfiguration
from core.nodes.orthanc.modalities import known_modality
from core.nodes.orthanc.remote_errors import modality_error
from core.nodes.orthanc.remote_find import RemoteFind
from core.nodes.orthanc.remote_move import RemoteMoves
from core.nodes.orthanc.rest import OrthancRest, shown
from core.wire.abort import Abort
from core.wire.dimse.retrieval import Retrieval, Wanted
from core.wire.dimse.status import Meaning, Service, dimse_answer, store_status
from core.wire.found import Answer, Found
from core.wire.http import Answer as HttpAnswer
from core.wire.status import answer_error

_MARGIN = 30.0  # seconds that Orthanc gets beyond what its own time-out gives the modality
_TO_ACCEPT = 60  # seconds until the modality has to have taken a request for storage commitment
_FIRST_LOOK, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two looks for a report

#: Orthanc's names of encodings. Those with code extensions (Japanese, Korean, Chinese) it only reads.
_CODECS = {
    "Utf8": "utf-8",
    "Latin1": "iso8859-1",
    "Latin2": "iso8859-2",
    "Latin3": "iso8859-3",
    "Latin4": "iso8859-4",
    "Latin5": "iso8859-9",
    "Cyrillic": "iso8859-5",
    "Windows1251": "cp1251",
    "Arabic": "iso8859-6",
    "Greek": "iso8859-7",
    "Hebrew": "iso8859-8",
    "Thai": "tis-620",
}


class RemoteModality:
    """`RemoteEntity` behind an Orthanc.

    Parameters
    ----------
    rest : OrthancRest
    host : str
        The server's own host, which "localhost" among its modalities stands for.
    address : DicomAddress
        The entity's, as this computer knows it.
    node : str
        The name of the node that it is here, for messages.
    known_as : str
        Its name among the modalities; empty for the one with its AE title.
    """

    def __init__(self, rest: OrthancRest, host: str, address: DicomAddress, *, node: str, known_as: str) -> None:
        self.rest = rest
        self.node = node
        self._host = host
        self._address = address
        self._wanted = known_as
        self._lock = threading.Lock()
        self._modality: Modality | None = None
        self._codec: str | None = None
        self._finds = RemoteFind(self)
        self._moves = RemoteMoves(self)

    # --- which one it is ---

    def known(self) -> KnownThere:
        modality = self.modality(anew=True)
        there = DicomAddress(modality.aet, modality.host, modality.port)
        same = known_modality([modality], self._address, self._host) is not None
        return KnownThere(modality.name, there, modality.tls, same)

    def calling_aet(self) -> str:
        return self.modality().local_aet or self.rest.capabilities().aet

    def modality(self, *, anew: bool = False) -> Modality:
        """What the server knows of it; asked once."""
        with self._lock:
            if self._modality is None or anew:
                self._modality = self._looked_up()
            return self._modality

    def _looked_up(self) -> Modality:
        known = ServerConfiguration(self.rest).modalities()
        server = self.rest.node
        if self._wanted:
            for modality in known:
                if modality.name == self._wanted:
                    return modality
            raise ConfigurationError(
                f"“{server}” knows no modality named “{self._wanted}”.",
                f"Add it to the modalities of “{server}”, or correct its name there (--known-as).",
                code="known-as",
            )
        alike = [m for m in known if m.aet.strip() == self._address.aet]
        if not alike:
            raise ConfigurationError(
                f"“{server}” knows no modality with the AE title {self._address.aet}.",
                f"Add it to the modalities of “{server}”: AE title, host and port.",
                code="known-as",
            )
        surely = alike[0] if len(alike) == 1 else known_modality(alike, self._address, self._host)
        if surely is None:
            raise ConfigurationError(
                f"“{server}” knows several modalities with the AE title {self._address.aet}: "
                f"{', '.join(m.name for m in alike)}.",
                "Enter which one it is (--known-as).",
                code="known-as",
            )
        return surely

    def loses_letters(self, text: str) -> bool:
        """Orthanc keeps answers in its ``DefaultEncoding`` and drops what that has no letters for."""
        codec = self._encoding()
        try:
            text.encode(codec)
        except UnicodeEncodeError:
            return True
        return False

    def _encoding(self) -> str:
        with self._lock:
            if self._codec is None:
                answer = self.rest.fetch("GET", "/tools/default-encoding")
                said = answer.body.decode("ascii", "replace").strip() if answer.status == 200 else ""
                self._codec = _CODECS.get(said, "ascii")
            return self._codec

    # --- services ---

    def echo(self, *, timeout: float, abort: Abort | None = None) -> None:
        self.command(Service.ECHO, "echo", {"Timeout": seconds(timeout)}, wait=timeout, abort=abort)

    def find(
        self,
        keys: Mapping[str, str],
        *,
        most: int,
        keep: Callable[[Answer], bool],
        character_set: str,
        timeout: float,
        abort: Abort | None = None,
    ) -> Found:
        return self._finds.find(keys, most, keep, character_set, timeout, abort)

    def move(self, wanted: Sequence[Wanted], target: str, *, timeout: float) -> str:
        return self._moves.start(wanted, target, timeout)

    def move_status(self, job: str) -> PushStatus:
        return self._moves.status(job)

    def move_ended(self, job: str) -> Retrieval | None:
        return self._moves.ended(job)

    def move_cancel(self, job: str) -> bool:
        return self._moves.cancel(job)

    def move_resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        return self._moves.resume(instances, target)

    def store(self, sop_uid: str, body: Body, *, timeout: float, abort: Abort | None = None) -> int:
        """``store-straight`` (since Orthanc 1.6.1): it sends what it is given, and stores nothing itself."""
        path = self._path("store-straight")
        try:
            answer = self.rest.pool.fetch(
                "POST", path, body=body, content_type="application/dicom", abort=abort, idle_timeout=timeout + _MARGIN
            )
        except TransportError:
            self.rest.forget()
            raise
        try:
            found = self._judged(Service.STORE, path, answer)
        except AnswerError as error:
            if error.code.startswith("store-") and store_status(error.status).meaning is Meaning.DUPLICATE:
                return error.status
            raise
        if answer.early or text(found, "SOPInstanceUID") != sop_uid:
            detail = f"{path}: {shown(answer.headers, answer.body)}"
            raise answer_error("unexpected", node=self.rest.node, status=answer.status, detail=detail)
        return 0x0000

    def ask_commitment(self, references: Sequence[tuple[str, str]], *, abort: Abort | None = None) -> str:
        """``storage-commitment`` (since Orthanc 1.6.0)."""
        payload = {"DicomInstances": [list(pair) for pair in references], "Timeout": _TO_ACCEPT}
        found = self.command(Service.ACTION, "storage-commitment", payload, wait=_TO_ACCEPT, abort=abort)
        transaction = text(found, "ID")
        if not transaction:
            self.rest.unexpected(self._path("storage-commitment"), "no transaction was begun")
        return transaction

    def commitment(self, transaction: str, *, timeout: float, abort: Abort | None = None) -> dict[str, int]:
        """``/storage-commitment/{id}``, looked at until the report is there."""
        report = self._report(transaction, timeout, abort)
        reasons = {uid: 0 for uid, _ in _named(report.get("Success"))}
        return reasons | {uid: reason or 0x0110 for uid, reason in _named(report.get("Failures"))}

    def _report(self, transaction: str, timeout: float, abort: Abort | None) -> JsonObject:
        path = f"/storage-commitment/{quote(transaction, safe='')}"
        deadline, pause = time.monotonic() + timeout, _FIRST_LOOK
        while True:
            answer = self.rest.fetch("GET", path, abort=abort)
            if self.rest.says_absent(path, answer):
                detail = f"“{self.rest.node}” no longer knows the transaction {transaction}"
                raise dimse_answer("commitment-no-report", node=self.node, detail=detail)
            report = self.rest.parsed(path, answer)
            if not isinstance(report, dict) or text(report, "Status") not in ("Pending", "Success", "Failure"):
                self.rest.unexpected(path, "not a report on storage commitment")
            if text(report, "Status") != "Pending":
                return report
            if time.monotonic() >= deadline:
                detail = f"“{self.rest.node}” has had no report on {transaction} within {timeout:g} s"
                raise dimse_answer("commitment-no-report", node=self.node, detail=detail)
            _pause(pause, abort)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def close(self) -> None:
        self._finds.close()

    # --- requests ---

    def command(
        self, service: Service, name: str, payload: JsonObject, *, wait: float, abort: Abort | None = None
    ) -> JsonObject:
        """One command for the modality and its answer, an object.

        Parameters
        ----------
        wait : float
            Seconds that the modality may take; Orthanc says nothing meanwhile.

        Raises
        ------
        ConfigurationError
            The server no longer knows the modality, or is too old for the command.
        AnswerError, BeyondError
            The modality refused, or could not be reached.
        """
        path = self._path(name)
        answer = self.rest.fetch("POST", path, payload=payload, abort=abort, idle_timeout=wait + _MARGIN)
        return self._judged(service, path, answer)

    def _judged(self, service: Service, path: str, answer: HttpAnswer) -> JsonObject:
        if answer.status == 200:
            found = self.rest.parsed(path, answer)
            return found if isinstance(found, dict) else self.rest.unexpected(path, "not an object")
        described = error_body(answer.body)
        if self.rest.says_absent(path, answer):
            with self._lock:
                self._modality = None
            self.modality()  # raises where it is gone from the server's settings
            raise NotSupportedError(
                f"“{self.rest.node}” is too old to do this for “{self.node}”.",
                "Install a newer Orthanc there, or reach the node directly.",
                detail=shown(answer.headers, answer.body),
            )
        if described is not None:
            said = text(described, "Details") or text(described, "Message")
            error = modality_error(
                service, number(described, "OrthancStatus"), said, node=self.node, server=self.rest.node
            )
            if error is not None:
                raise error
        self.rest.refuse(path, answer.status, answer.headers, answer.body)

    def _path(self, name: str) -> str:
        return f"/modalities/{quote(self.modality().name, safe='')}/{name}"


def seconds(value: float) -> int:
    """A time-out as Orthanc takes it: whole seconds, 0 being none at all."""
    return max(1, round(value))


def _named(listed: object) -> list[tuple[str, int | None]]:
    """The images of one list of a report, with the failure reason where there is one."""
    if not isinstance(listed, list):
        return []
    items: list[dict[str, Any]] = [item for item in listed if isinstance(item, dict)]
    return [(text(item, "SOPInstanceUID"), number(item, "FailureReason")) for item in items]


def _pause(length: float, abort: Abort | None) -> None:
    end = time.monotonic() + length
    while (left := end - time.monotonic()) > 0:
        if abort is not None:
            abort.check()
        time.sleep(min(left, 0.1))
