"""Secrets in a real Secret Service (gnome-keyring): kept, found by the program, removed, and locked."""

from __future__ import annotations

import gc
import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest

from core.model.errors import SecretError
from core.secrets import Kept, Secrets
from tests.support.ferry import Ferry
from tests.support.keyrings import SecretService
from tests.support.orthanc import OrthancServer
from tests.support.studies import ct_study


@pytest.fixture
def in_this_process(secret_service: SecretService, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretService]:
    """This process's own keyring is that of the test."""
    before = keyring.get_keyring()  # looked for once in a process: not while there is a bus that will be gone
    for name, value in secret_service.env.items():
        monkeypatch.setenv(name, value)
    keyring.set_keyring(importlib.import_module("keyring.backends.SecretService").Keyring())
    yield secret_service
    keyring.set_keyring(before)


def test_round_trip(in_this_process: SecretService) -> None:
    secrets = Secrets("0a1b2c3d", environment={})
    assert secrets.status().available
    assert "Secret Service" in secrets.status().sentence
    assert secrets.put("PACS West", "password", "größtes Geheimnis 🔑") is Kept.KEYRING
    assert secrets.put("PACS West", "header_value", "key") is Kept.KEYRING
    assert secrets.get("PACS West") == "größtes Geheimnis 🔑"
    assert secrets.get("PACS West", "header_value") == "key"
    assert secrets.get("PACS East") is None
    assert Secrets("another", environment={}).get("PACS West") is None
    assert sorted(in_this_process.items().values()) == sorted(["größtes Geheimnis 🔑", "key"])
    secrets.put("PACS West", "password", "new")
    assert secrets.get("PACS West") == "new"
    secrets.remove("PACS West", ("password", "header_value"))
    assert secrets.get("PACS West") is None
    assert in_this_process.items() == {}


def test_a_locked_keyring_is_a_sentence_and_nobody_is_waited_for(in_this_process: SecretService) -> None:
    secrets = Secrets("0a1b2c3d", environment={}, timeout=5.0)
    secrets.put("PACS", "password", "s3cret")
    in_this_process.lock()

    def refused(call: Callable[[], object]) -> tuple[str, str]:
        with pytest.raises(SecretError) as caught:
            call()
        return caught.value.code, caught.value.next_step

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # keyring leaves its connection open when it fails
        code, next_step = refused(lambda: secrets.get("PACS"))
        refused(lambda: secrets.put("PACS", "password", "other"))
        gc.collect()
    assert code in ("keyring-locked", "keyring-silent")
    assert "DICOM_FERRY_SECRET_PACS" in next_step


@pytest.fixture
def locked_server(start_orthanc: Callable[..., OrthancServer]) -> OrthancServer:
    return start_orthanc(users={"tech": "Sehr geheim 42"}, count_received=False)


def test_the_command_line_keeps_and_uses_a_password(
    ferry: Ferry, secret_service: SecretService, locked_server: OrthancServer, tmp_path: Path
) -> None:
    study = ct_study(2)
    study.write(tmp_path / "studies")
    ferry.env |= secret_service.env
    ferry.run("node", "add", "folder", "here", "--path", tmp_path / "studies").expect()
    add = ("node", "add", "orthanc", "vault", "--url", locked_server.url, "--username", "tech")
    ferry.run(*add, "--secret-stdin", stdin="Sehr geheim 42\n").expect()
    assert list(secret_service.items().values()) == ["Sehr geheim 42"]
    ferry.run("node", "test", "vault").expect()
    run = ferry.run("run", "forward", "--source", "here", "--destination", "vault", "--json").expect()
    assert run.finished["verified"] == 2
    for file in (f for f in ferry.home.rglob("*") if f.is_file()):
        assert b"Sehr geheim" not in file.read_bytes(), file

    ferry.run("node", "edit", "vault", "--secret-stdin", "password", stdin="wrong\n").expect()
    ferry.run("node", "test", "vault").expect(1)
    ferry.run("job", "remove", "1").expect()
    ferry.run("node", "remove", "vault").expect()
    assert secret_service.items() == {}


def test_without_a_keyring_nothing_is_registered(ferry: Ferry, locked_server: OrthancServer) -> None:
    add = ("node", "add", "orthanc", "my vault", "--url", locked_server.url, "--username", "tech")
    refused = ferry.run(*add, "--secret-stdin", stdin="Sehr geheim 42\n").expect(2)
    assert "no keyring" in refused.stderr
    assert "DICOM_FERRY_SECRET_MY_VAULT" in refused.stderr
    assert "Sehr geheim" not in refused.stdout + refused.stderr
    assert ferry.run("node", "list", "--json").expect().events == []
    ferry.run(*add).expect()
    ferry.run("node", "test", "my vault", env={"DICOM_FERRY_SECRET_MY_VAULT": "Sehr geheim 42"}).expect()


def test_a_locked_keyring_ends_the_command_with_a_next_step(
    ferry: Ferry, secret_service: SecretService, locked_server: OrthancServer
) -> None:
    ferry.env |= secret_service.env
    add = ("node", "add", "orthanc", "vault", "--url", locked_server.url, "--username", "tech")
    ferry.run(*add, "--secret-stdin", stdin="Sehr geheim 42\n").expect()
    secret_service.lock()
    run = ferry.run("find", "vault", timeout=60).expect(2)
    assert "keyring" in run.stderr
    assert "DICOM_FERRY_SECRET_VAULT" in run.stderr
    assert "Traceback" not in run.stderr
