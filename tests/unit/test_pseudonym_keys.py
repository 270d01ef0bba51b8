"""Keys for pseudonyms outside of jobs: shown, copied and put back, on the command line and in a real keyring."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import cli
from core.cli_commands.manner import manner
from core.logs import stop_logging
from core.model.errors import ConfigurationError
from core.pseudonym_keys import copied, fingerprint, put_back
from core.secrets import variable_name
from core.step_book import SHARED
from core.steps.deidentify.pseudonyms import Pseudonyms, secret_name
from tests.support.deidentifying import KEY, UID_ROOT, Vault, opened
from tests.support.keyrings import SecretService, no_keyring

OTHER = "ab" * 32
PRINT = Pseudonyms(bytes.fromhex(KEY)).fingerprint
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command on a home of this test's own, without a keyring."""
    for name, value in no_keyring(tmp_path / "keyring").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(manner, "debug", False)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    root = logging.getLogger()
    level, raising = root.level, logging.raiseExceptions

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = cli.main(["pseudonym-key", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    yield call
    stop_logging()
    root.setLevel(level)
    logging.raiseExceptions = raising


def test_a_key_is_copied_and_put_back_and_makes_the_same_pseudonyms():
    old, new = Vault(), Vault()
    step = opened(old)
    key = copied(old.surroundings, "standard")
    assert fingerprint(new.surroundings, "standard") is None
    assert not new.kept, "looking makes no key"
    found = put_back(new.surroundings, "standard", f"  {key[:32]} {key[32:]}\n", replace=False)
    assert found == fingerprint(old.surroundings, "standard")
    assert opened(new).uid(UID_ROOT + "1") == step.uid(UID_ROOT + "1")
    assert put_back(new.surroundings, "standard", key, replace=False) == found, "the same once more does no harm"


def test_another_key_is_replaced_on_request_only():
    vault = Vault(**{secret_name("standard"): OTHER})
    with pytest.raises(ConfigurationError, match="another key") as caught:
        put_back(vault.surroundings, "standard", KEY, replace=False)
    assert OTHER not in str(caught.value)
    assert vault.kept[secret_name("standard")] == OTHER
    assert put_back(vault.surroundings, "standard", KEY, replace=True) == PRINT
    damaged = Vault(**{secret_name("standard"): "nonsense"})
    with pytest.raises(ConfigurationError, match="no such key"):
        fingerprint(damaged.surroundings, "standard")
    assert put_back(damaged.surroundings, "standard", KEY, replace=True) == PRINT


@pytest.mark.parametrize("text", ["", "password", KEY[:-2], KEY + "00", "zz" * 32])
def test_what_is_no_key_is_not_kept(text: str):
    vault = Vault()
    with pytest.raises(ConfigurationError):
        put_back(vault.surroundings, "standard", text, replace=True)
    with pytest.raises(ConfigurationError, match="can't be the name"):
        put_back(vault.surroundings, "no name!", KEY, replace=True)
    assert not vault.kept


def test_on_the_command_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = run("show")
    assert (status, "There is no key “standard”" in out) == (1, True), err
    monkeypatch.setenv(variable_name(SHARED, secret_name("standard")), KEY)
    status, out, _ = run("show")
    assert (status, f"fingerprint {PRINT}" in out) == (0, True)
    status, out, _ = run("show", "--json")
    assert f'"fingerprint": "{PRINT}"' in out
    status, out, err = run("copy")
    assert status == 2
    assert KEY not in out + err
    assert "--secret" in err
    status, out, err = run("copy", "--secret")
    assert (status, out) == (0, KEY + "\n")
    assert KEY not in err


@pytest.mark.posix  # Windows always has one
def test_putting_back_needs_a_keyring_that_lasts(run: Run, tmp_path: Path) -> None:
    status, _, err = run("put-back")
    assert (status, "No key was given" in err) == (2, True)
    status, out, err = run("put-back", stdin=KEY + "\n")
    assert status == 2
    assert "no keyring" in err
    assert KEY not in out + err
    log = (tmp_path / "home" / "logs" / "command-line.log").read_text(encoding="utf-8")
    assert KEY not in log


def test_a_real_keyring_keeps_the_key(secret_service: SecretService, tmp_path: Path) -> None:
    env = {**os.environ, **secret_service.env, "DICOM_FERRY_HOME": str(tmp_path / "home")}

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "core", "pseudonym-key", *arguments]
        return subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    done = run("put-back", "trial7", stdin=KEY + "\n")
    assert (done.returncode, f"fingerprint {PRINT} is kept" in done.stdout) == (0, True), done.stderr
    assert KEY in secret_service.items().values()
    assert run("put-back", "trial7", stdin=OTHER + "\n").returncode == 2
    assert run("put-back", "trial7", "--replace", stdin=OTHER + "\n").returncode == 0
    assert run("copy", "trial7", "--secret").stdout == OTHER + "\n"
    assert run("show").returncode == 1


def test_keys_go_with_all_that_is_kept_for_an_account(secret_service: SecretService, tmp_path: Path) -> None:
    env = {**os.environ, **secret_service.env, "DICOM_FERRY_HOME": str(tmp_path / "home")}
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()

    def run(*arguments: str, stdin: str = "") -> str:
        command = [sys.executable, "-m", "core", *arguments]
        done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    for name in ("in", "out"):
        run("node", "add", "folder", name, "--path", str(tmp_path / name))
    for name in ("standard", "trial7"):
        run("pseudonym-key", "put-back", name, stdin=KEY + "\n")
    step = ("--step", "deidentify key=Trial7")
    run("job", "save", "forward", "--source", "in", "--destination", "out", "--name", "Research", *step)
    assert len(secret_service.items()) == 2
    run("remove-data", "--yes")
    assert not secret_service.items()
