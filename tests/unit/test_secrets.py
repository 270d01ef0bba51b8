"""Secrets: the order in which they are looked for, what a keyring may do, and that none is ever shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import keyring
import keyring.backend
import keyring.errors
import pytest
from keyring.backends import chainer, fail, null

from core.model.errors import SecretError
from core.secrets import LONGEST, Kept, Secrets, variable_name


class MemoryKeyring:
    """A keyring in memory that may be told to go wrong."""

    def __init__(self, error: Exception | None = None) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.error = error

    def get_password(self, service: str, username: str) -> str | None:
        if self.error:
            raise self.error
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.error:
            raise self.error
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.error:
            raise self.error
        del self.kept[service, username]


class PlaintextKeyring(keyring.backend.KeyringBackend):
    """As those of `keyrings.alt`: a file that anybody may read."""

    priority = 0.1  # type: ignore[assignment]  # never chosen by itself, in whatever process this is loaded

    def get_password(self, service: str, username: str) -> str | None:
        raise AssertionError("a keyring in plain text was asked")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError("a secret was put into plain text")


@pytest.fixture
def use_backend() -> Iterator[Callable[[keyring.backend.KeyringBackend], None]]:
    """Makes a backend the one that is set up on this computer."""
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def test_kept_read_and_removed() -> None:
    ring = MemoryKeyring()
    secrets = Secrets("0a1b2c3d", backend=ring, environment={})
    assert secrets.get("PACS") is None
    assert secrets.put("PACS", "password", "pässwörd") is Kept.KEYRING
    assert secrets.put("PACS", "header_value", "key") is Kept.KEYRING
    assert secrets.get("PACS") == "pässwörd"
    assert set(ring.kept) == {
        ("DICOM Ferry/0a1b2c3d/PACS", "password"),
        ("DICOM Ferry/0a1b2c3d/PACS", "header_value"),
    }
    secrets.remove("PACS", ("password", "header_value", "client_key_password"))
    assert not ring.kept


def test_two_homes_don_t_mix() -> None:
    ring = MemoryKeyring()
    Secrets("one", backend=ring, environment={}).put("PACS", "password", "first")
    assert Secrets("two", backend=ring, environment={}).get("PACS") is None


def test_the_environment_comes_first() -> None:
    ring = MemoryKeyring()
    environment = {"DICOM_FERRY_SECRET_PACS_WEST": "from outside", "DICOM_FERRY_SECRET_PACS_WEST_HEADER_VALUE": "key"}
    secrets = Secrets("x", backend=ring, environment=environment)
    secrets.put("PACS west", "password", "kept")
    assert secrets.get("PACS west") == "from outside"
    assert secrets.get("PACS west", "header_value") == "key"
    assert secrets.from_environment("PACS west")
    assert not secrets.from_environment("other")


def test_the_environment_needs_no_keyring_that_works() -> None:
    secrets = Secrets("x", backend=MemoryKeyring(keyring.errors.KeyringLocked()), environment={variable_name("A"): "s"})
    assert secrets.get("A") == "s"


@pytest.mark.parametrize(
    ("node", "field", "name"),
    [
        ("pacs", "password", "DICOM_FERRY_SECRET_PACS"),
        ("PACS West-2 (new)", "password", "DICOM_FERRY_SECRET_PACS_WEST_2__NEW_"),
        ("pacs", "header_value", "DICOM_FERRY_SECRET_PACS_HEADER_VALUE"),
    ],
)
def test_names_of_variables(node: str, field: str, name: str) -> None:
    assert variable_name(node, field) == name


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (keyring.errors.KeyringLocked("locked"), "keyring-locked", "locked"),
        (keyring.errors.InitError("dismissed"), "keyring-locked", "locked"),
        (keyring.errors.PasswordSetError("denied"), "keyring-refused", "refused"),
        (PermissionError("denied"), "keyring-refused", "refused"),
        (keyring.errors.NoKeyringError(), "no-keyring", "no keyring"),
    ],
)
def test_what_goes_wrong_is_a_sentence_with_a_way_out(error: Exception, code: str, sentence: str) -> None:
    secrets = Secrets("x", backend=MemoryKeyring(error), environment={})
    for call in (lambda: secrets.get("PACS"), lambda: secrets.put("PACS", "password", "topsecret")):
        with pytest.raises(SecretError) as caught:
            call()
        assert caught.value.code == code
        assert sentence in caught.value.sentence
        assert "DICOM_FERRY_SECRET_" in caught.value.next_step
        assert caught.value.exit_status == 2
        assert "topsecret" not in f"{caught.value} {caught.value.detail}"


def test_a_keyring_that_waits_for_nobody_is_not_waited_for() -> None:
    asked, forever = threading.Event(), threading.Event()

    class Silent(MemoryKeyring):
        def get_password(self, service: str, username: str) -> str | None:
            asked.set()
            forever.wait(60)
            return None

    secrets = Secrets("x", backend=Silent(), environment={}, timeout=0.2)
    before = time.monotonic()
    try:
        with pytest.raises(SecretError, match="didn't answer") as caught:
            secrets.get("PACS")
    finally:
        forever.set()
    assert asked.is_set()
    assert time.monotonic() - before < 40  # not the minute for which it is silent
    assert "DICOM_FERRY_SECRET_PACS" in caught.value.next_step


class CredentialManager(MemoryKeyring):
    """Says that it is Windows' own, which takes 2,560 bytes."""


CredentialManager.__module__ = "keyring.backends.Windows"


@pytest.mark.parametrize("text", ["p" * LONGEST, "🔑" * (LONGEST // 2)], ids=["p", "key"])
def test_the_limit_of_the_credential_manager_is_told_before_anything_is_kept(text: str) -> None:
    ring = CredentialManager()
    secrets = Secrets("x", backend=ring, environment={})
    secrets.put("PACS", "password", text)
    assert ring.kept.popitem()[1] == text
    with pytest.raises(SecretError, match=r"has 1,281 characters, and .* takes at most 1,280\.") as caught:
        secrets.put("PACS", "password", text + "x")
    assert not ring.kept
    assert "DICOM_FERRY_SECRET_PACS" in caught.value.next_step
    assert text not in str(caught.value) + caught.value.detail


def test_of_several_secrets_none_is_kept_where_one_is_too_long() -> None:
    secrets = Secrets("x", backend=CredentialManager(), environment={})
    secrets.check_fit("Azure", {"password": "p", "client_secret": "s" * LONGEST}, {})
    given = {"password": "p", "client_secret": "s" * 1500}
    with pytest.raises(SecretError, match="This client secret is too long") as caught:
        secrets.check_fit("Azure", given, {"client_secret": "Client secret"})
    assert "DICOM_FERRY_SECRET_AZURE_CLIENT_SECRET" in caught.value.next_step


def test_other_keyrings_have_no_such_limit() -> None:
    ring = MemoryKeyring()
    Secrets("x", backend=ring, environment={}).put("PACS", "password", "p" * 20_000)
    assert ring.kept


@pytest.mark.parametrize("backend", [fail.Keyring(), null.Keyring(), PlaintextKeyring()])
def test_keyrings_that_are_none_are_refused(
    backend: keyring.backend.KeyringBackend, use_backend: Callable[[keyring.backend.KeyringBackend], None]
) -> None:
    use_backend(backend)
    secrets = Secrets("x", environment={})
    status = secrets.status()
    assert not status.available
    assert "keyring" in status.sentence
    assert "DICOM_FERRY_SECRET_<NODE>" in status.next_step
    assert secrets.put("PACS", "password", "only in memory") is Kept.SESSION
    assert secrets.get("PACS") == "only in memory"
    assert Secrets("x", environment={}).get("PACS") is None
    secrets.remove("PACS")
    assert secrets.get("PACS") is None


def test_a_chain_is_not_trusted_for_its_plaintext_link(
    use_backend: Callable[[keyring.backend.KeyringBackend], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [PlaintextKeyring()])
    use_backend(chainer.ChainerBackend())
    secrets = Secrets("x", environment={})
    assert not secrets.status().available
    assert secrets.put("PACS", "password", "s3cret") is Kept.SESSION


def test_nothing_shows_a_secret() -> None:
    secrets = Secrets("x", backend=MemoryKeyring(), environment={"DICOM_FERRY_SECRET_A": "topsecret"})
    secrets.put("B", "password", "topsecret")
    assert "topsecret" not in repr(secrets)
    assert "topsecret" not in repr(secrets.status())
