"""Requests to one DICOMweb service: who we say we are, and what its answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from core.model.errors import AnswerError
from core.wire.http import Abort, Answer, ByteSource, HttpPool, Response
from core.wire.json_objects import NotJsonError, json_objects
from core.wire.multipart_body import MultipartBody
from core.wire.oauth import TokenSource
from core.wire.retry_after import retry_after
from core.wire.status import answer_error, status_error

JSON = "application/dicom+json"
MULTIPART = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Images as they are kept: without the asterisk a service may re-encode them (PS3.18 section 8.7.3.5.2)."""
_ERROR_LIMIT = 64 << 10
_DETAIL_LIMIT = 2000


class DicomwebAccess:
    """The services of one node below its address. Thread-safe.

    Parameters
    ----------
    pool : HttpPool
        Of the node's address, with the headers of a login that does not change; closed by `close`.
    node : str
        The node's name, for messages.
    tokens : TokenSource | None
        Where the login is a token that is renewed.
    bearer : bool
        The login that does not change is a token, which somebody gave to the person: it ends some day.
    """

    def __init__(self, pool: HttpPool, node: str, tokens: TokenSource | None = None, *, bearer: bool = False) -> None:
        self.pool = pool
        self.node = node
        self.tokens = tokens
        self.bearer = bearer

    def close(self) -> None:
        self.pool.close()
        if self.tokens is not None:
            self.tokens.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        accept: str = JSON,
        body: bytes | memoryview | ByteSource | None = None,
        content_type: str | None = None,
        abort: Abort | None = None,
        idempotent: bool | None = None,
        idle_timeout: float | None = None,
    ) -> Response:
        """Send a request, whatever its answer's status; after a 401 once more with a new token, where that may help.

        Raises
        ------
        TransportError
        AnswerError
            No token can be had (``oauth-…``), or there is a new one and the body can't be sent again
            (``token-renewed``).
        """
        headers = {"Accept": accept}
        bearer = ""
        if self.tokens is not None:
            headers["Authorization"] = bearer = self.tokens.header(abort)
        for once_more in (True, False):
            response = self.pool.request(
                method,
                path,
                body=body,
                content_type=content_type,
                headers=headers,
                abort=abort,
                idempotent=idempotent,
                idle_timeout=idle_timeout,
            )
            if response.status != 401 or self.tokens is None or not once_more:
                break
            response.close()
            headers["Authorization"] = self.tokens.renew(bearer, abort)
            if isinstance(body, MultipartBody) and not body.rewind():
                raise answer_error("token-renewed", node=self.node, status=401)
        return response

    def fetch(
        self,
        method: str,
        path: str,
        *,
        accept: str = JSON,
        body: bytes | memoryview | ByteSource | None = None,
        content_type: str | None = None,
        abort: Abort | None = None,
        idempotent: bool | None = None,
        limit: int = 64 << 20,
    ) -> Answer:
        """Like `request`, with the body read whole, of at most `limit` bytes."""
        response = self.request(
            method,
            path,
            accept=accept,
            body=body,
            content_type=content_type,
            abort=abort,
            idempotent=idempotent,
        )
        with response:
            content = response.read_all(limit)
        return Answer(response.status, response.headers, content, response.reason, response.early)

    def objects(self, path: str, response: Response) -> Iterator[dict[str, Any]]:
        """The objects of an answer in DICOM JSON (PS3.18 Annex F) as they come; 204 is an empty list.

        Raises
        ------
        AnswerError
            A status without success, or ``not-the-server`` where the body is no DICOM JSON.
        TransportError
        """
        if response.status == 204:
            return
        if response.status not in (200, 206):
            self.refuse(path, response)
        try:
            yield from json_objects(response)
        except NotJsonError as error:
            detail = f"{path}: {error} ({response.headers.get('content-type', 'no type')})"
            raise answer_error("not-the-server", node=self.node, status=response.status, detail=detail) from error

    def refuse(self, path: str, response: Response) -> NoReturn:
        """Raise what an answer without success means; its body is read for the details."""
        raise self.error(path, response.status, response.headers, response.read_all(_ERROR_LIMIT))

    def error(self, path: str, status: int, headers: Mapping[str, str], body: bytes) -> AnswerError:
        """The `AnswerError` for an answer without success."""
        detail = f"{status} {path}: {shown(headers, body)}"
        if status == 401 and self.tokens is not None:
            return answer_error("oauth-token-rejected", node=self.node, status=status, detail=detail)
        if status == 401 and self.bearer:
            return answer_error("bearer-token", node=self.node, status=status, detail=detail)
        location = headers.get("location", "")
        return status_error(status, node=self.node, detail=detail, retry_after=retry_after(headers), location=location)

    def unexpected(self, path: str, what: str) -> NoReturn:
        raise answer_error("unexpected", node=self.node, status=200, detail=f"{path}: {what}")


def shown(headers: Mapping[str, str], body: bytes) -> str:
    """The start of an answer as text, for "copy details"."""
    kind = headers.get("content-type", "")
    if b"\0" in body[:200]:
        return f"{len(body)} bytes ({kind or 'binary'})"
    start = body[:_DETAIL_LIMIT].decode("utf-8", "replace").strip()
    return f"{start} ({kind})" if kind else start
