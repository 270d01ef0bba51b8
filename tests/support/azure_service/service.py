"""The service: sign-in and DICOM side by side, each on a port of its own, with versioned paths and rights."""

from __future__ import annotations

import ssl
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from core.model import clock as program_clock
from tests.support.azure_service import retrieve, search, store
from tests.support.azure_service.faults import Fault, FaultKind, Faults
from tests.support.azure_service.listener import Cut, Listener, Request
from tests.support.azure_service.shelf import UID, Shelf
from tests.support.azure_service.sign_in import AUDIENCE, OWNER, READER, Client, SignIn

TENANT = "0f5a1c9e-6d1b-4a57-9a43-2b7c53a8e1d2"
LIMIT = 4 << 30  # bytes of a request: "No single DICOM file or combination of files might exceed this limit"
PROXY_PAGE = (
    "<!DOCTYPE html><html><head><title>Access denied</title></head>"
    "<body><h1>Web filter of the hospital</h1><p>Please sign in to the proxy.</p></body></html>"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it was answered, and when by the service's clock."""

    method: str
    path: str
    status: int
    operation: str
    at: float


class AzureService:
    """Runs from its making until `close`; also a context manager.

    Parameters
    ----------
    folder
        Where instances are kept; a temporary one by default.
    tls
        A server's context: both addresses are https then.
    clock
        Seconds, for the lives of tokens and secrets, outages and the index; by default the program's own clock,
        which a test can let run.
    seed, fault_rate
        Random faults: which, and what share of requests.

    Attributes
    ----------
    authority : str
        What stands before ``/{tenant}/oauth2/v2.0/token``.
    url : str
        What stands before ``/v2``.
    liar : bool
        Answers "stored" and stores nothing.
    proxy_page : bool
        Something in front of it answers everything with a page.
    request_limit : int
        Bytes that a request may bring.
    """

    scope = f"{AUDIENCE}/.default"
    tenant = TENANT

    def __init__(
        self,
        folder: Path | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        client: Client | None = None,
        clock: Callable[[], float] = program_clock.time,
        seed: int = 0,
        fault_rate: float = 0.0,
    ) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="azure-") if folder is None else None
        self.client = client or Client()
        self.clock = clock
        self.faults = Faults(clock, seed=seed, rate=fault_rate)
        self.sign_in = SignIn(self.tenant, self.client, clock)
        self.shelf = Shelf(folder or Path(self._own.name if self._own else ""), clock)
        self.request_limit = LIMIT
        self.liar = False
        self.proxy_page = False
        self.versions = ("v1", "v2")
        self.seen: deque[Seen] = deque(maxlen=100_000)
        self._lock = threading.Lock()
        self._login = Listener(self._signs_in, tls)
        self._dicom = Listener(self._serves, tls)

    @property
    def authority(self) -> str:
        return self._login.url

    @property
    def url(self) -> str:
        return self._dicom.url

    @property
    def token_url(self) -> str:
        return f"{self.authority}/{self.tenant}/oauth2/v2.0/token"

    @property
    def secret(self) -> str:
        return next(iter(self.client.secrets))

    def held(self) -> set[str]:
        """SOP Instance UIDs of all that is stored, searchable or not."""
        return {held.key[2] for held in self.shelf.find()}

    def expire_tokens(self) -> None:
        """All tokens given so far end now."""
        self.sign_in.revoke_all()

    def count(self, operation: str, status: int | None = None) -> int:
        """How many requests of a kind were answered (with this status); 0 stands for a cut connection."""
        with self._lock:
            return sum(1 for s in self.seen if s.operation == operation and status in (None, s.status))

    def close(self) -> None:
        """Stop; raises when something went wrong inside the service itself."""
        try:
            self._login.close()
        finally:
            try:
                self._dicom.close()
            finally:
                if self._own is not None:
                    self._own.cleanup()

    def __enter__(self) -> AzureService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------------------

    def _signs_in(self, request: Request) -> None:
        self._guarded(request, "token", lambda fault: self.sign_in.answer(request))

    def _serves(self, request: Request) -> None:
        operation = _operation(request)
        self._guarded(request, operation, lambda fault: self._authorised(request, operation, fault))

    def _guarded(self, request: Request, operation: str, serve: Callable[[Fault | None], None]) -> None:
        """Let it go wrong where a fault is due, and record how it was answered."""
        fault = self.faults.of(operation)
        try:
            if self.proxy_page or (fault is not None and fault.kind is FaultKind.HTML):
                request.answer(200, PROXY_PAGE, "text/html; charset=utf-8")
            elif fault is not None and fault.kind is FaultKind.RESET_AT_ONCE:
                raise Cut
            elif fault is not None and fault.kind is FaultKind.STATUS:
                headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                request.answer(fault.status, "", headers=headers)
            else:
                serve(fault)
        finally:
            with self._lock:
                self.seen.append(Seen(request.command, request.path, request.answered, operation, self.clock()))

    def _authorised(self, request: Request, operation: str, fault: Fault | None) -> None:
        if not request.parts or request.parts[0] not in self.versions:
            supported = {"api-supported-versions": ", ".join(self.versions)}
            request.answer(404, "", headers=supported)
            return
        role = self.sign_in.role_of(request.headers.get("Authorization", ""))
        if role is None:
            request.answer(401, "", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        elif role != OWNER and not (role == READER and operation in ("search", "retrieve")):
            request.answer(403, "")
        elif fault is not None and fault.kind is FaultKind.ANSWER_LOST:
            self._unanswered(request)
        else:
            self._route(request, fault)

    def _unanswered(self, request: Request) -> None:
        """Do it, and cut the connection instead of the answer."""
        request.answer_json = lambda *_, **__: None  # type: ignore[method-assign]
        request.answer = lambda *_, **__: None  # type: ignore[method-assign]
        self._route(request, None)
        raise Cut

    def _route(self, request: Request, fault: Fault | None) -> None:
        """PS3.18 Table 10.1-1, as far as the service offers it."""
        parts = request.parts[1:]
        names, key = parts[0::2], tuple(parts[1::2])
        if names[:1] == ["studies"] and request.command == "POST" and len(parts) <= 2:
            store.answer(self, request, key[0] if key else "", fault)
        elif not all(UID.fullmatch(uid) for uid in key if uid != "metadata"):
            request.answer(400, "The identifier is not valid.")
        elif request.command == "GET" and parts[-1:] == ["metadata"] and _resource(parts[:-1]):
            retrieve.metadata(self, request, tuple(parts[1:-1:2]))
        elif request.command == "GET" and (level := _searched(parts)):
            search.answer(self, request, level, tuple(parts[1::2]))
        elif request.command == "GET" and _resource(parts):
            retrieve.answer(self, request, key)
        elif request.command == "DELETE" and _resource(parts):
            gone = self.shelf.delete(*key)
            request.answer(204 if gone else 404, "" if gone else "The specified instance cannot be found.")
        else:
            request.answer(404, "")


_NAMES = ["studies", "series", "instances"]


def _resource(parts: list[str]) -> bool:
    """Whether this is the path of a study, series or instance."""
    return len(parts) in (2, 4, 6) and parts[0::2] == _NAMES[: len(parts) // 2]


def _searched(parts: list[str]) -> str:
    """The level that a path searches at; empty where it is none of a search."""
    level = {"studies": "study", "series": "series", "instances": "instance"}.get(parts[-1] if parts else "", "")
    above = parts[:-1]
    if not level or not (not above or (_resource(above) and parts[0] == "studies")):
        return ""
    return level


def _operation(request: Request) -> str:
    parts = request.parts[1:]
    if request.command == "GET":
        return "search" if _searched(parts) else "retrieve"
    return {"POST": "store", "DELETE": "delete"}.get(request.command, "other")
