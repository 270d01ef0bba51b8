"""This computer as a DICOM node: its store, and the listening side that fills it and gives from it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from core.model.diagnosis import DiagnosisStep, Standing
from core.model.errors import ConfigurationError
from core.model.gateway import IntakeLevel
from core.model.study import StudyInfo
from core.nodes.base import Arrivals, DicomAddress, Dimse, Node, OpenContext, Reports
from core.nodes.local.faults import speaking
from core.nodes.this_computer.addresses import is_own_host, own_address
from core.nodes.this_computer.diagnosis import diagnose
from core.nodes.this_computer.fields import ThisComputerFields
from core.nodes.this_computer.known_callers import KnownCallers
from core.nodes.this_computer.landing import LandingPlace
from core.nodes.this_computer.receiving import Receiver
from core.nodes.this_computer.refusals import Refusals
from core.nodes.this_computer.services import services_of
from core.nodes.this_computer.serving import Service
from core.nodes.this_computer.standing import standing
from core.nodes.this_computer.storage_scp import StorageScp
from core.nodes.this_computer.store import Store
from core.wire.certificate import fingerprint
from core.wire.tls_server import ServerTls, server_context

_END = "-----END CERTIFICATE-----"


class ThisComputerNode(Store):
    """Store, and Diagnose, Stands, Dimse, Listen, Intake, Landing and Identity. Thread-safe."""

    def __init__(self, fields: ThisComputerFields, context: OpenContext) -> None:
        super().__init__(fields, context)
        self._context = context
        self._key_password = context.secret
        self._scp: StorageScp | None = None
        self._listening = threading.Lock()
        self._landing: LandingPlace | None = None
        self._known = KnownCallers(context.peers)
        self._facts: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str:
        if self._folder is not None:
            return f"spool:{self._folder.absolute()}"
        return f"{self.fields.aet}@localhost:{self.fields.port}"

    def close(self) -> None:
        self.stop_listening()
        super().close()

    # Listen ---------------------------------------------------------------------------------------------

    def listen(self) -> None:
        with self._listening:
            if self._scp is not None and self._scp.is_listening:
                return
            self._stop()
            tls = self.server_tls()
            self.landing.clear()
            receiver = Receiver(self.spool, self.name, lambda: self.fields.watermark, self.landing)
            self._scp = StorageScp(
                self.name, self.fields, receiver, self.services(), self.spool.catalogue.syntaxes_held, tls, self._known,
                Refusals(self.refusals_file),
            )  # fmt: skip

    def stop_listening(self) -> None:
        with self._listening:
            self._stop()

    def _stop(self) -> None:
        scp, self._scp = self._scp, None
        if scp is not None:
            scp.stop()

    @property
    def is_listening(self) -> bool:
        scp = self._scp
        return scp is not None and scp.is_listening

    def services(self) -> Mapping[str, Service]:
        """What is offered to callers besides Storage and Verification, by abstract syntax."""
        return services_of(self._context, self.fields.aet, lambda: self.spool, self.landing, self._known)

    def registered_callers(self) -> tuple[str, ...]:
        """Registered nodes that may call without an entry of their own, by name."""
        return tuple(peer.name for peer in self._context.peers()) if self.fields.known_nodes else ()

    def server_tls(self) -> ssl.SSLContext | None:
        """How callers' connections are secured; raises `ConfigurationError` where a file of it can't be used."""
        f = self.fields
        if not f.tls:
            return None
        return server_context(
            ServerTls(
                Path(f.certificate),
                Path(f.certificate_key) if f.certificate_key else None,
                self._key_password("key_password"),
                Path(f.caller_ca_file) if f.caller_ca_file else None,
            )
        )

    def own_fingerprint(self) -> str:
        """SHA-256 of the certificate that is shown to callers; raises `ConfigurationError`."""
        path = Path(self.fields.certificate)
        try:
            text = path.read_text(encoding="ascii", errors="ignore")
            begin = text.index("-----BEGIN CERTIFICATE-----")
            return fingerprint(ssl.PEM_cert_to_DER_cert(text[begin : text.index(_END, begin) + len(_END)]))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"There is no usable certificate in {path}.", "Choose a file in PEM form.", detail=str(error)
            ) from error

    # Intake ---------------------------------------------------------------------------------------------

    def intake(self) -> IntakeLevel:
        with speaking(self.name):
            studies, instances, size = self.spool.catalogue.totals()
            last = self.spool.catalogue.last_received()
            free = self.spool.free()
        received = None if last is None else datetime.fromtimestamp(last).astimezone()
        watermark = self.fields.watermark
        return IntakeLevel(studies, instances, size, free - watermark, watermark, received, self.is_listening)

    # Landing --------------------------------------------------------------------------------------------

    @property
    def aet(self) -> str:
        return self.fields.aet

    @property
    def landing(self) -> LandingPlace:
        """What is on its way through."""
        with self._opening:
            if self._landing is None:
                self._landing = LandingPlace(self.folder / "landing")
            return self._landing

    def expect(
        self, sop_uids: Collection[str], *, sender: str = "", originator: str = ""
    ) -> AbstractContextManager[Arrivals]:
        return self.landing.expect(sop_uids, sender=sender, originator=originator)

    def expect_report(self, transaction_uid: str) -> AbstractContextManager[Reports]:
        return self.landing.expect_report(transaction_uid)

    # Dimse ----------------------------------------------------------------------------------------------

    def dicom_address(self) -> DicomAddress:
        return DicomAddress(self.fields.aet, self.fields.bind or own_address(), self.fields.port)

    # Identity -------------------------------------------------------------------------------------------

    def same_storage(self, other: Node, study: StudyInfo) -> bool:
        """True for another name of this very store, called by DICOM or looked into as a folder."""
        if isinstance(other, Store):
            with speaking(self.name):
                return other.spool is self.spool
        if isinstance(other, Dimse):
            address = other.dicom_address()
            return address.port == self.fields.port and is_own_host(address.host)
        path = getattr(other.fields, "path", "")
        if not path:
            return False
        with speaking(self.name):
            ours, theirs = self.spool.folder, Path(path).resolve()
            return ours == theirs or ours.is_relative_to(theirs) or theirs.is_relative_to(ours)

    # Diagnose -------------------------------------------------------------------------------------------

    def diagnose(self) -> Iterator[DiagnosisStep]:
        facts: dict[str, str] = {}
        yield from diagnose(self, facts)
        self._facts = tuple(facts.items())

    def facts(self) -> tuple[tuple[str, str], ...]:
        return self._facts

    # Stands ---------------------------------------------------------------------------------------------

    @property
    def refusals_file(self) -> Path:
        """Where the callers that were turned away last are kept."""
        return self.folder / "refused.json"

    def standing(self) -> Standing:
        return standing(self)
