"""Asking one Orthanc by its REST API: JSON in and out, errors as types, and doubt about every 404."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from core.model.errors import AnswerError, TransportError
from core.nodes.orthanc.answers import (
    JsonObject,
    UnexpectedShapeError,
    code_of,
    error_body,
    identifiers,
    text,
)
from core.nodes.orthanc.capabilities import Capabilities, read_capabilities
from core.nodes.orthanc.identifiers import ListSieve
from core.wire.http import Abort, Answer, HttpPool
from core.wire.retry_after import retry_after
from core.wire.status import answer_error, status_error

JSON_LIMIT = 64 << 20  # bytes: a list of a million identifiers, or a page of details, is below that
_ERROR_LIMIT = 64 << 10
_DETAIL_LIMIT = 2000
_AWAY = frozenset({502, 503, 504})


class OrthancRest:
    """The REST API of one server. Thread-safe.

    Parameters
    ----------
    pool : HttpPool
        Of the server's address; closed by `close`.
    node : str
        The node's name, for messages.

    Attributes
    ----------
    keeps_digests : bool | None
        Whether the server keeps MD5s of its files, as seen last; None while nothing was seen.
    large_series : set[str]
        Series that were seen to hold much more than was asked for: a hint for cheaper questions, never a fact.
    """

    def __init__(self, pool: HttpPool, node: str) -> None:
        self.pool = pool
        self.node = node
        self._lock = threading.Lock()
        self._capabilities: Capabilities | None = None
        self.keeps_digests: bool | None = None
        self.large_series: set[str] = set()

    def close(self) -> None:
        self.pool.close()

    # --- what the server is ---

    def capabilities(self, *, abort: Abort | None = None) -> Capabilities:
        """What it can do: asked once, and again after it was out of reach (it may have been replaced)."""
        known = self._capabilities
        if known is not None:
            return known
        with self._lock:
            if self._capabilities is None:
                self._capabilities = read_capabilities(self.system(abort=abort))
            return self._capabilities

    def forget(self) -> None:
        """It was out of reach: what comes back may be another version."""
        self._capabilities = None
        self.keeps_digests = None

    def system(self, *, abort: Abort | None = None) -> JsonObject:
        """``GET /system``, surely of an Orthanc; raises `AnswerError` ``not-the-server`` for anything else."""
        found = self.get_object("/system", abort=abort)
        if not text(found, "Version") or "DicomAet" not in found:
            raise answer_error("not-the-server", node=self.node, status=200, detail="GET /system is not Orthanc's")
        return found

    # --- requests ---

    def fetch(
        self,
        method: str,
        path: str,
        *,
        payload: object = None,
        body: bytes | None = None,
        abort: Abort | None = None,
        idempotent: bool | None = None,
        idle_timeout: float | None = None,
        sieve: ListSieve | None = None,
    ) -> Answer:
        """One request and its whole answer, whatever its status.

        Parameters
        ----------
        sieve
            It takes long lists of identifiers out; `parsed` needs the same one then.
        """
        content_type = ""
        if payload is not None:
            body = json.dumps(payload, separators=(",", ":")).encode()
            content_type = "application/json"
        elif body is not None:
            content_type = "text/plain"
        elif method in ("POST", "PUT"):
            body = b""
        try:
            answer = self.pool.fetch(
                method,
                path,
                body=body,
                content_type=content_type,
                abort=abort,
                idempotent=idempotent,
                idle_timeout=idle_timeout,
                limit=JSON_LIMIT,
                sieve=sieve,
            )
        except TransportError:
            self.forget()
            raise
        if answer.status in _AWAY:
            self.forget()
        return answer

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The parsed JSON of an answer with a status of success; raises `AnswerError` for any other."""
        return self.parsed(path, self.fetch(method, path, **options))

    def get_object(self, path: str, *, abort: Abort | None = None) -> JsonObject:
        """A JSON object; raises `AnswerError`, with the code ``gone`` when it surely isn't there."""
        found = self.json("GET", path, abort=abort)
        if not isinstance(found, dict):
            self.unexpected(path, f"a {type(found).__name__} where an object was expected")
        return found

    def get_identifiers(self, path: str, *, abort: Abort | None = None) -> Sequence[str]:
        """A JSON list of Orthanc identifiers."""
        sieve = ListSieve()
        found = self.parsed(path, self.fetch("GET", path, abort=abort, sieve=sieve), sieve)
        try:
            return identifiers(found)
        except UnexpectedShapeError as error:
            self.unexpected(path, str(error))

    def post_list(
        self, path: str, payload: object, *, abort: Abort | None = None, sieve: ListSieve | None = None
    ) -> list[JsonObject]:
        """The objects that answer a question put by POST (``/tools/find``, ``/tools/bulk-content``)."""
        answer = self.fetch("POST", path, payload=payload, abort=abort, idempotent=True, sieve=sieve)
        return self.resources(path, self.parsed(path, answer, sieve))

    def resources(self, path: str, found: object) -> list[JsonObject]:
        """A list of resources, each with its ``ID``; raises `AnswerError` ``unexpected`` for anything else."""
        if not isinstance(found, list) or not all(
            isinstance(item, dict) and isinstance(item.get("ID"), str) for item in found
        ):
            self.unexpected(path, "not a list of resources")
        return found

    def pipeline(self, paths: Sequence[str], *, abort: Abort | None = None) -> list[Answer]:
        """Many small GETs on one connection; answers in the order asked."""
        try:
            return self.pool.pipeline(paths, abort=abort, limit=JSON_LIMIT)
        except TransportError:
            self.forget()
            raise

    # --- what answers mean ---

    def parsed(self, path: str, answer: Answer, sieve: ListSieve | None = None) -> Any:
        """The JSON of an answer; anything but JSON with a status of success raises `AnswerError`.

        Parameters
        ----------
        sieve : ListSieve | None
            The one that the answer went through: long lists of identifiers in it are `IdentifierList`, no `list`.
        """
        if answer.status not in (200, 201, 202):
            self.refuse(path, answer.status, answer.headers, answer.body)
        try:
            return json.loads(answer.body) if sieve is None else sieve.loads(answer.body)
        except ValueError as error:
            raise answer_error(
                "not-the-server",
                node=self.node,
                status=answer.status,
                detail=f"{path}: {shown(answer.headers, answer.body)}",
            ) from error

    def refuse(self, path: str, status: int, headers: Mapping[str, str], body: bytes) -> NoReturn:
        """Raise what an answer without success means. ``gone`` only where it is surely this Orthanc that says so."""
        error = self.error(path, status, headers, body)
        if status == 404 and error.code == "not-found" and not body and self.surely_absent(path):
            raise answer_error("gone", node=self.node, status=404, detail=error.detail)
        raise error

    def error(self, path: str, status: int, headers: Mapping[str, str], body: bytes) -> AnswerError:
        """The `AnswerError` for an answer without success, without asking further."""
        described = error_body(body)
        code = code_of(status, described)
        if code == "gone" and described is not None and not same_path(described, path):
            code = None  # an Orthanc, but at another path than we think
        detail = f"{status} {path}: {shown(headers, body)}"
        wait = retry_after(headers)
        if code is not None:
            return answer_error(code, node=self.node, status=status, detail=detail, retry_after=wait)
        location = headers.get("location", "")
        return status_error(status, node=self.node, detail=detail, retry_after=wait, location=location)

    def unexpected(self, path: str, what: str) -> NoReturn:
        raise answer_error("unexpected", node=self.node, status=200, detail=f"{path}: {what}")

    def says_absent(self, path: str, answer: Answer) -> bool:
        """Whether this very answer is Orthanc's own word that the resource isn't there."""
        if answer.status != 404:
            return False
        described = error_body(answer.body)
        return described is not None and code_of(404, described) == "gone" and same_path(described, path)

    def surely_absent(self, path: str, *, abort: Abort | None = None) -> bool:
        """Whether a resource is absent, asked so that nothing but this Orthanc can have said it.

        ``GET /studies/{id}`` and ``DELETE`` answer 404 with an empty body, as a proxy might; the sibling
        ``/metadata`` gives Orthanc's own error body. Where the server describes no errors at all
        (``HttpDescribeErrors`` off), the same question about a resource that it lists has to be answered.
        """
        parts = path.partition("?")[0].split("/")
        if len(parts) < 3 or parts[1] not in ("patients", "studies", "series", "instances"):
            return False
        sibling = f"/{parts[1]}/{parts[2]}/metadata"
        answer = self.fetch("GET", sibling, abort=abort)
        if self.says_absent(sibling, answer):
            return True
        if answer.status != 404 or answer.body:
            return False
        there = self.get_identifiers(f"/{parts[1]}?since=0&limit=1", abort=abort)
        if not there:
            return True
        control = self.fetch("GET", f"/{parts[1]}/{there[0]}/metadata", abort=abort)
        return control.status == 200 and control.body.lstrip()[:1] in (b"[", b"{") and there[0] != parts[2]


def same_path(described: JsonObject, path: str) -> bool:
    """Whether Orthanc's error speaks of the path that we asked for, and not of one below another base."""
    return text(described, "Uri").rstrip("/") in ("", path.partition("?")[0].rstrip("/"))


def shown(headers: Mapping[str, str], body: bytes) -> str:
    """The start of an answer as text, for "copy details"."""
    kind = headers.get("content-type", "")
    if body[128:132] == b"DICM" or b"\0" in body[:200]:
        return f"{len(body)} bytes ({kind or 'binary'})"
    start = body[:_DETAIL_LIMIT].decode("utf-8", "replace").strip()
    return f"{start} ({kind})" if kind else start
