"""Secrets: passwords and keys in the operating system's keyring, never in a file of ours."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar, cast

from core.credentials import credential
from core.logs import conceal
from core.model.errors import SecretError

T = TypeVar("T")

PASSWORD = "password"
"""The field whose environment variable needs no field name behind the node's."""

LONGEST = 1280
"""Characters of a secret that the Windows Credential Manager takes: CRED_MAX_CREDENTIAL_BLOB_SIZE is 2,560 bytes, of
UTF-16. The other keyrings have no limit that a password or a key would reach."""

_TRUSTED = (
    "keyring.backends.SecretService",
    "keyring.backends.libsecret",
    "keyring.backends.kwallet",
    "keyring.backends.Windows",
    "keyring.backends.macOS",
)
_HEADLESS_SECONDS = 10.0
_DESKTOP_SECONDS = 120.0


class Backend(Protocol):
    """What is used of a keyring backend (`keyring.backend.KeyringBackend`)."""

    def get_password(self, service: str, username: str) -> str | None: ...
    def set_password(self, service: str, username: str, password: str) -> None: ...
    def delete_password(self, service: str, username: str) -> None: ...


class Kept(StrEnum):
    """Where `Secrets.put` put a secret."""

    KEYRING = "keyring"
    SESSION = "session"  # in memory only: gone when the program ends


@dataclass(frozen=True, slots=True)
class SecretsStatus:
    """Whether this computer has a keyring that secrets can be kept in, and what to do when not."""

    available: bool
    backend: str
    sentence: str
    next_step: str = ""


def variable_name(node: str, field: str = PASSWORD) -> str:
    """Environment variable that gives a secret: ``DICOM_FERRY_SECRET_<NODE>``, ``_<FIELD>`` behind it for others.

    Capitals; everything but letters and digits becomes an underscore.
    """
    name = f"DICOM_FERRY_SECRET_{_capitals(node)}"
    return name if field == PASSWORD else f"{name}_{_capitals(field)}"


def _capitals(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text.upper())


class Secrets:
    """Secrets of nodes by node name and field. Thread-safe.

    Each node has a service name of its own, ``DICOM Ferry/<home id>/<node>``; the field is the user name.
    A secret is looked for in the environment, among the credentials that systemd hands to a service, then in the
    keyring, then in this session's memory.

    Every call to the keyring is bounded in time: it may be waiting for a person to unlock it, and where
    there is no screen nobody ever will.

    Parameters
    ----------
    home_id : str
        `Home.id`.
    backend : Backend | None
        The keyring to use instead of the system's (for tests of what a keyring may do).
    environment : Mapping[str, str] | None
        Instead of the process's own.
    timeout : float | None
        Seconds that a call may take; by default 120 where a person may be asked, else 10.
    """

    def __init__(
        self,
        home_id: str,
        *,
        backend: Backend | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._home_id = home_id
        self._given = backend
        self._environment = os.environ if environment is None else environment
        self._timeout = timeout if timeout is not None else _patience(self._environment)
        self._session: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Secrets({self._home_id!r})"

    def status(self) -> SecretsStatus:
        """Whether there is a keyring; asks no secret and unlocks nothing."""
        try:
            _backend, name = self._find()
        except SecretError as error:
            return SecretsStatus(False, "", error.sentence, error.next_step)
        return SecretsStatus(True, name, f"Passwords are kept in {name}.")

    def get(self, node: str, field: str = PASSWORD) -> str | None:
        """The secret, or None where there is none.

        Raises
        ------
        SecretError
            The keyring is locked, refuses, or doesn't answer.
        """
        value = self._from_outside(node, field) or self._from_keyring(node, field)
        if value is None:
            with self._lock:
                value = self._session.get((node, field))
        if value:
            conceal(value)
        return value or None

    def put(self, node: str, field: str, value: str) -> Kept:
        """Keep a secret: in the keyring, or in memory for this session where there is no keyring.

        Raises
        ------
        SecretError
            The secret is too long for this keyring, or the keyring is locked or refuses. Nothing was kept then.
        """
        conceal(value)
        try:
            backend, name = self._find()
            _must_fit(backend, name, value, "secret", variable_name(node, field))
        except SecretError as error:
            if error.code != "no-keyring":
                raise
            with self._lock:
                self._session[node, field] = value
            return Kept.SESSION
        self._ask(lambda: backend.set_password(self.service(node), field, value), node, field)
        with self._lock:
            self._session.pop((node, field), None)
        return Kept.KEYRING

    def check_fit(self, node: str, secrets: Mapping[str, str], titles: Mapping[str, str]) -> None:
        """Refuse secrets that this computer's keyring has no room for, before any of them is kept.

        Parameters
        ----------
        secrets, titles : Mapping[str, str]
            By field; a title as the form shows it.

        Raises
        ------
        SecretError
            Naming the first one that is too long.
        """
        longest = max((len(value) for value in secrets.values()), default=0)
        if longest <= LONGEST // 2:
            return  # whatever the keyring: it isn't even looked for
        try:
            backend, name = self._find()
        except SecretError as error:
            if error.code == "no-keyring":
                return
            raise
        for field, value in secrets.items():
            _must_fit(backend, name, value, titles.get(field, field).lower(), variable_name(node, field))

    def remove(self, node: str, fields: Iterable[str] = (PASSWORD,)) -> None:
        """Forget these secrets of a node; those that were never kept don't matter.

        Raises
        ------
        SecretError
            The keyring is locked or refuses.
        """
        fields = tuple(fields)
        with self._lock:
            for field in fields:
                self._session.pop((node, field), None)
        try:
            backend, _name = self._find()
        except SecretError as error:
            if error.code == "no-keyring":
                return
            raise
        service = self.service(node)

        def delete(field: str) -> None:
            if backend.get_password(service, field) is not None:
                backend.delete_password(service, field)

        for field in fields:
            self._ask(lambda field=field: delete(field), node, field)  # type: ignore[misc]

    def from_environment(self, node: str, field: str = PASSWORD) -> bool:
        """Whether the environment or a credential gives this secret, so that the keyring isn't asked."""
        return bool(self._from_outside(node, field))

    def service(self, node: str) -> str:
        """Name under which the keyring shows a node's secrets."""
        return f"DICOM Ferry/{self._home_id}/{node}"

    def _from_outside(self, node: str, field: str) -> str | None:
        variable = variable_name(node, field)
        return self._environment.get(variable) or credential(variable, self._environment)

    def _from_keyring(self, node: str, field: str) -> str | None:
        try:
            backend, _name = self._find()
        except SecretError as error:
            if error.code == "no-keyring":
                return None
            raise
        return self._ask(lambda: backend.get_password(self.service(node), field), node, field)

    def _find(self) -> tuple[Backend, str]:
        if self._given is not None:
            return self._given, "the keyring"
        # Looking for a keyring talks to the session bus, which may be dead: bounded as well.
        return _bounded(_system_backend, self._timeout, "", "")

    def _ask(self, call: Callable[[], T], node: str, field: str) -> T:
        return _bounded(call, self._timeout, node, field)


def _must_fit(backend: Backend, name: str, value: str, what: str, variable: str) -> None:
    units = len(value.encode("utf-16-le", "surrogatepass")) // 2
    if type(backend).__module__ == "keyring.backends.Windows" and units > LONGEST:
        raise SecretError(
            f"This {what} is too long: it has {units:,} characters, and {name} takes at most {LONGEST:,}.",
            f"Ask for a shorter one, or give it in the environment variable {variable} instead.",
            code="secret-too-long",
        )


def _patience(environment: Mapping[str, str]) -> float:
    """Seconds to wait for the keyring: long only where somebody can see its question."""
    if sys.platform in ("win32", "darwin") or environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"):
        return _DESKTOP_SECONDS
    return _HEADLESS_SECONDS


def _system_backend() -> tuple[Backend, str]:
    """The system's own keyring. Files in plain text or behind a fixed password are refused, whoever set them up.

    Raises
    ------
    SecretError
        With the code "no-keyring".
    """
    keyring = importlib.import_module("keyring")
    try:
        chosen = keyring.get_keyring()
    except Exception as error:  # whatever the backend that somebody named in keyring's settings raises
        raise SecretError(
            "The keyring that is set up on this computer can't be used.",
            _no_keyring_step(),
            detail=f"{type(error).__name__}: {error}",
            code="no-keyring",
        ) from error
    candidates = [chosen, *getattr(chosen, "backends", ())]  # the chainer holds several, best first
    for backend in candidates:
        if type(backend).__module__ in _TRUSTED:
            return cast(Backend, backend), _plain_name(type(backend).__module__)
    module = type(chosen).__module__
    if module.startswith("keyring.backends"):
        raise SecretError(
            "This computer has no keyring to keep passwords in.",
            _no_keyring_step(),
            detail=f"keyring backend: {module}",
            code="no-keyring",
        )
    raise SecretError(
        "The keyring that is set up on this computer is not the system's own, so no password is put there.",
        _no_keyring_step(),
        detail=f"keyring backend: {module}",
        code="no-keyring",
    )


def _no_keyring_step() -> str:
    if sys.platform.startswith("linux"):
        return (
            "Install and unlock one (gnome-keyring or KWallet), or give each password in an environment variable "
            "named DICOM_FERRY_SECRET_<NODE>."
        )
    return "Give each password in an environment variable named DICOM_FERRY_SECRET_<NODE>."


def _plain_name(module: str) -> str:
    return {
        "keyring.backends.SecretService": "the desktop's keyring (Secret Service)",
        "keyring.backends.libsecret": "the desktop's keyring (Secret Service)",
        "keyring.backends.kwallet": "KWallet",
        "keyring.backends.Windows": "the Windows Credential Manager",
        "keyring.backends.macOS": "the macOS Keychain",
    }[module]


def _bounded(call: Callable[[], T], seconds: float, node: str, field: str) -> T:
    """Run a call to the keyring in a thread of its own, for at most so many seconds.

    A call that never ends stays behind in a daemon thread: there is no way to take back the system's question.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread, which judges it
            future.set_exception(error)

    threading.Thread(target=run, name="keyring", daemon=True).start()
    instead = f", or set the environment variable {variable_name(node, field)} instead" if node else ""
    try:
        return future.result(seconds)
    except SecretError:
        raise
    except TimeoutError as error:
        raise SecretError(
            f"The keyring of this computer didn't answer within {seconds:.0f} seconds; it may wait to be unlocked.",
            f"Unlock it (by logging in on the desktop){instead}.",
            detail=repr(error),
            code="keyring-silent",
        ) from error
    except Exception as error:
        raise _explained(error, instead) from error


def _explained(error: Exception, instead: str) -> SecretError:
    """What a backend's exception means for a person. Backends let their bus libraries' types through."""
    name = type(error).__name__
    detail = f"{name}: {error}"
    if name in ("KeyringLocked", "InitError", "LockedException", "PromptDismissedException"):
        return SecretError(
            "The keyring of this computer is locked.",
            f"Unlock it (by logging in on the desktop, or in its own program){instead}.",
            detail=detail,
            code="keyring-locked",
        )
    if name in ("NoKeyringError", "SecretServiceNotAvailableException"):
        return SecretError(
            "This computer has no keyring to keep passwords in.", _no_keyring_step(), detail=detail, code="no-keyring"
        )
    return SecretError(
        "The keyring of this computer refused.",
        f"Allow DICOM Ferry to use it{instead}.",
        detail=detail,
        code="keyring-refused",
    )
