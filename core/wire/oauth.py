"""Bearer tokens by OAuth2 client credentials (RFC 6749 section 4.4): fetched, kept in memory, renewed in time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from core.model import clock
from core.model.errors import FerryError, TransportError, TransportFault
from core.wire.abort import Abort
from core.wire.oauth_endpoint import ClientLogin, TokenEndpoint

__all__ = ["ClientLogin", "TokenEndpoint", "TokenSource"]

log = logging.getLogger(__name__)

LATEST = 600.0  # seconds before its end when a token is renewed at the latest
SOON_AGAIN = 5.0  # seconds for which a failure is remembered that may pass by itself
LATER_AGAIN = 20.0  # the same for one that a person has to mend; shorter than the time between two probes
_LOOK = 0.05  # seconds between two looks at the abort switch while another thread fetches


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and the seconds of the source's clock when it is due for renewal and when it ends."""

    value: str = field(repr=False)
    due: float
    ends: float


class TokenSource:
    """The token of one node. Thread-safe; at most one request to the token endpoint is on its way at any time.

    A token is renewed at half its life, at the latest ten minutes before it ends. While it is still valid, other
    threads go on with it meanwhile, and a renewal that fails is no failure yet. A failure without a valid token is
    given to all who ask within some seconds, so that a dead endpoint is not asked by every worker.

    Parameters
    ----------
    endpoint : TokenEndpoint
        Closed by `close`.
    elapsed : Callable[[], float]
        Seconds that never go back; by default those of this computer's start or of its clock, whichever has gone
        on further, so that a sleeping computer's token grows old too.
    """

    def __init__(self, endpoint: TokenEndpoint, *, elapsed: Callable[[], float] | None = None) -> None:
        self._endpoint = endpoint
        self._clock = elapsed or _Elapsed()
        self._changed = threading.Condition(threading.Lock())
        self._fetching = False
        self._token: _Token | None = None
        self._failure: FerryError | None = None
        self._failed_until = 0.0

    def __repr__(self) -> str:
        return f"TokenSource({self._endpoint.where})"

    def header(self, abort: Abort | None = None) -> str:
        """The value of ``Authorization`` for a request now: "Bearer …".

        Raises
        ------
        AnswerError
            No token can be had; its code begins with "oauth-", its sentence says what to correct.
        TransportError
            ``ABORTED`` only.
        """
        with self._changed:
            while True:
                now = self._clock()
                token = self._token
                if token is not None and now < token.due:
                    return _bearer(token)
                valid = token is not None and now < token.ends
                if token is not None and valid and (self._fetching or now < self._failed_until):
                    return _bearer(token)
                if not self._fetching:
                    self._raise_what_is_remembered(now)
                    self._fetching = True
                    break
                self._wait(abort)
        try:
            return _bearer(self._fetch(abort))
        except FerryError as error:
            if token is None or not valid or _aborted(error):
                raise
            log.warning("the token of %s could not be renewed and is used on: %s", self._endpoint.node, error.code)
            return _bearer(token)

    def renew(self, rejected: str, abort: Abort | None = None) -> str:
        """The header after an answer 401 to a request that was sent with `rejected`.

        Fetches only where `rejected` is still the current token; else somebody renewed it meanwhile.

        Raises
        ------
        AnswerError, TransportError
            As `header`.
        """
        with self._changed:
            if self._token is not None and _bearer(self._token) == rejected:
                self._token = None
        return self.header(abort)

    def reach(self) -> TransportError | None:
        """Why the endpoint can't be reached, its certificate included; None where it can. No secret is sent."""
        return self._endpoint.reach()

    def forget(self) -> None:
        """Drop the token and what failed last, so that the next request asks the endpoint anew (a person's test)."""
        with self._changed:
            self._token = None
            self._failure = None
            self._failed_until = 0.0

    def seconds_left(self) -> float | None:
        """Until the present token ends; None where there is none."""
        with self._changed:
            return None if self._token is None else max(0.0, self._token.ends - self._clock())

    def close(self) -> None:
        """Drop the token and the connections; may be called twice."""
        self.forget()
        self._endpoint.close()

    # ------------------------------------------------------------------------------------------------------

    def _raise_what_is_remembered(self, now: float) -> None:
        if self._failure is not None and now < self._failed_until:
            # Each thread gets an error of its own: a traceback grows where one object is raised by several.
            raise self._endpoint.again(self._failure)

    def _wait(self, abort: Abort | None) -> None:
        self._changed.wait(_LOOK if abort is not None else None)
        if abort is not None:
            abort.check()

    def _fetch(self, abort: Abort | None) -> _Token:
        """Ask the endpoint, as the only thread that does; `_fetching` is set already."""
        asked = self._clock()
        token: _Token | None = None
        failure: FerryError | None = None
        try:
            granted = self._endpoint.ask(abort=abort)
            # Its life began at the latest when the request was answered; counting from the question is careful.
            token = _Token(granted.value, asked + renewal_after(granted.lifetime), asked + granted.lifetime)
            return token
        except FerryError as error:
            failure = error
            raise
        finally:
            with self._changed:
                self._fetching = False
                if token is not None:
                    self._token, self._failure, self._failed_until = token, None, 0.0
                elif failure is not None and not _aborted(failure):
                    self._failure = failure
                    self._failed_until = self._clock() + self._endpoint.rest_after(failure, SOON_AGAIN, LATER_AGAIN)
                self._changed.notify_all()


def renewal_after(lifetime: float) -> float:
    """Seconds after which a token that lives for `lifetime` seconds is renewed.

    Half its life, or ten minutes before it ends where that is earlier. Of one that lives for little more than these
    ten minutes at least a quarter is used, and of a shorter one the half.
    """
    if lifetime <= LATEST:
        return lifetime / 2
    return min(lifetime / 2, max(lifetime - LATEST, lifetime / 4))


def _bearer(token: _Token) -> str:
    return f"Bearer {token.value}"


def _aborted(error: FerryError) -> bool:
    return isinstance(error, TransportError) and error.fault is TransportFault.ABORTED


class _Elapsed:
    """Seconds since it was made: between any two looks what the steady clock or that of the day says, if more.

    The steady one stands still while some systems sleep; the other one may be set back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steady = clock.monotonic()
        self._day = clock.time()
        self._passed = 0.0

    def __call__(self) -> float:
        with self._lock:
            steady, day = clock.monotonic(), clock.time()
            self._passed += max(steady - self._steady, day - self._day, 0.0)
            self._steady, self._day = steady, day
            return self._passed
