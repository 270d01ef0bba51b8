"""What is wrong before anything was sent: logins, addresses, keyring, home folder, ledger file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import OrthancPair
from tests.faults.crossing import Crossing, command, says
from tests.faults.disks import own_disk
from tests.support.ferry import Ferry
from tests.support.keyrings import SecretService
from tests.support.orthanc import OrthancServer
from tests.support.servers import free_port

ONE_WAY = pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
LEDGER = "ledger.sqlite"


# --- nodes


@pytest.mark.parametrize("version", ["1.10", "1.12"])
@ONE_WAY
def test_wrong_password(
    crossing: Crossing,
    version: str,
    start_orthanc: Callable[..., OrthancServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guarded = start_orthanc(version, users={"ferry": "s3same"})
    crossing.add("guarded", guarded.url, username="ferry")
    monkeypatch.setenv("DICOM_FERRY_SECRET_GUARDED", "mistyped")
    for nodes in (("guarded", "to"), ("from", "guarded")):
        run = crossing.command("run", "forward", "--after", "move", "--source", nodes[0], "--destination", nodes[1])
        says(run.expect(2), "“guarded” did not accept the user name and password.", "Correct user name, password")
        assert "mistyped" not in run.stdout + run.stderr
    crossing.nothing_deleted()


@ONE_WAY
def test_password_changed_on_the_server_in_mid_run(
    crossing: Crossing, start_orthanc: Callable[..., OrthancServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = start_orthanc("1.12", users={"ferry": "s3same"})
    crossing.add("guarded", crossing.before_destination.url, username="ferry")
    crossing.before_destination.answer(401, "^POST /instances$")
    monkeypatch.setenv("DICOM_FERRY_SECRET_GUARDED", "s3same")
    run = crossing.run("--max-attempts", "2", to="guarded").expect(1)
    says(run, "“guarded” did not accept the user name and password.")
    crossing.nothing_deleted()
    assert guarded.count() == 0


@ONE_WAY
def test_wrong_url_is_not_an_empty_server(crossing: Crossing) -> None:
    """Another web server answers 404 to everything: as source it holds nothing, as destination it lacks everything."""
    crossing.add("wrong path", f"{crossing.before_source.url}/pacs")
    for nodes in (("wrong path", "to"), ("from", "wrong path")):
        run = crossing.command("run", "forward", "--after", "move", "--source", nodes[0], "--destination", nodes[1])
        says(run.expect(2), "wrong path", "Check the address")
    crossing.nothing_deleted()


@ONE_WAY
def test_nobody_listens(crossing: Crossing) -> None:
    crossing.add("nobody", f"http://127.0.0.1:{free_port()}")
    run = crossing.run(to="nobody").expect(1)
    says(run, "“nobody” does not answer: nothing listens at its address", "Check that the server runs")
    run = crossing.command("run", "forward", "--source", "nobody", "--destination", "to", "--retry-delays", "0.1",
                           "--max-attempts", "2")  # fmt: skip
    says(run.expect(1), "“nobody” does not answer")
    crossing.nothing_deleted()


@ONE_WAY
def test_host_without_an_address(crossing: Crossing) -> None:
    crossing.add("nameless", "http://pacs.invalid:8042")
    run = crossing.run(to="nameless").expect(1)
    says(run, "The host name of “nameless” was not found.", "Check the name in the node's address")
    crossing.nothing_deleted()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "the address is empty"),
        ("localhost:8042", "has to begin with http:// or https://"),
        ("ftp://localhost", "is not http or https"),
        ("http://localhost:port", "the port is not a number from 1 to 65535"),
        ("http://localhost:0", "the port is not a number from 1 to 65535"),
        ("http://localhost:99999", "the port is not a number from 1 to 65535"),
        ("http://", "the host is missing"),
        ("http://my pacs:8042", "has a space"),
        ("http://ferry:secret@localhost", "no login belongs into the address"),
        ("http://[::1", "the address can't be read"),
        ("http://localhost/?x=1", "nothing may follow the path"),
    ],
)
@pytest.mark.usefixtures("ferry_home")
def test_nonsense_as_address(url: str, reason: str) -> None:
    run = command("node", "add", "orthanc", "nonsense", "--url", url).expect(2)
    says(run, reason)
    assert "secret" not in run.stdout + run.stderr
    assert command("node", "list").stdout.count("nonsense") == 0


@ONE_WAY
def test_one_server_under_two_addresses(crossing: Crossing) -> None:
    """Moving a server's studies to itself would delete the only copy."""
    port = crossing.source.http_port
    for one, other in (("127.0.0.1", "localhost"), ("127.0.0.1", "127.0.0.2")):
        crossing.add(f"one {other}", f"http://{one}:{port}")
        crossing.add(f"two {other}", f"http://{other}:{port}")
        names = ("--source", f"one {other}", "--destination", f"two {other}")
        run = crossing.command("run", "forward", "--after", "move", *names)
        assert run.returncode in (1, 2), run.describe()
        says(run, "the same", "Choose another destination")
        crossing.nothing_deleted()


@ONE_WAY
def test_one_server_behind_a_proxy(crossing: Crossing) -> None:
    crossing.add("direct", crossing.source.url)
    run = crossing.run(to="from").expect(2)
    says(run, "source and destination")
    run = crossing.command("run", "forward", "--after", "move", "--source", "direct", "--destination", "from")
    says(run.expect(1), "are the same server: nothing was deleted", "would delete the only copy")
    crossing.nothing_deleted()


# --- keyring


def _guarded(ferry: Ferry, server: OrthancServer) -> tuple[str, ...]:
    return ("node", "add", "orthanc", "guarded", "--url", server.url, "--username", "ferry", "--secret-stdin")


def test_no_keyring(ferry: Ferry, start_orthanc: Callable[..., OrthancServer]) -> None:
    server = start_orthanc("1.12", users={"ferry": "s3same"})
    run = ferry.run(*_guarded(ferry, server), stdin="s3same\n").expect(2)
    says(run, "DICOM_FERRY_SECRET_GUARDED", "so nothing was changed")
    ferry.run(*_guarded(ferry, server)[:-1]).expect()
    ferry.run("node", "test", "guarded", env={"DICOM_FERRY_SECRET_GUARDED": "s3same"}).expect(0)
    assert not [path for path in ferry.home.rglob("*") if path.is_file() and b"s3same\n" in path.read_bytes()]


def test_a_locked_keyring(
    ferry: Ferry, secret_service: SecretService, start_orthanc: Callable[..., OrthancServer]
) -> None:
    server = start_orthanc("1.12", users={"ferry": "s3same"})
    other = start_orthanc("1.12")
    ferry.env.update(secret_service.env)
    ferry.run(*_guarded(ferry, server), stdin="s3same\n").expect()
    ferry.run("node", "add", "orthanc", "other", "--url", other.url).expect()
    ferry.run("node", "test", "guarded").expect(0)
    secret_service.lock()
    run = ferry.run("run", "clone", "--source", "guarded", "--destination", "other").expect(2)
    says(run, "keyring", "nlock")


# --- home folder and ledger


def test_home_that_can_not_be_written(ferry: Ferry, orthanc_pair: OrthancPair) -> None:
    ferry.home.write_text("a file is in the way")
    run = ferry.run("node", "list").expect(2)
    says(run, "can't be used", "a file is in the way", "DICOM_FERRY_HOME")
    elsewhere = ferry.run("node", "list", env={"DICOM_FERRY_HOME": "/proc/nowhere"}).expect(2)
    says(elsewhere, "can't be used", "Give your account the right to write there")


def test_home_on_a_disk_that_is_read_only(ferry: Ferry) -> None:
    ferry.home.mkdir()
    running = ferry.start("node", "list", wrapper=own_disk(ferry.home, "ro"))
    says(running.result().expect(2), "read-only file system", "Give your account the right to write there")


def _overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(20_000))


def _without_its_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * 100)


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (id INTEGER)")
        connection.commit()


def _text(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)


@pytest.mark.parametrize(
    ("spoil", "sentence", "next_step"),
    [
        (_overwritten, "is damaged and was not opened; nothing was sent or deleted.", "put back your last backup"),
        (_without_its_head, "is damaged and was not opened; nothing was sent or deleted.", "put back your last backup"),
        (_truncated, "is damaged and was not opened; nothing was sent or deleted.", "put back your last backup"),
        (_text, "is damaged and was not opened; nothing was sent or deleted.", "put back your last backup"),
        (_newer, "was written by a newer version of DICOM Ferry", "Install the newer version again"),
        (_foreign, "is a database of another program; it was left as it is.", "DICOM_FERRY_HOME"),
    ],
)
@ONE_WAY
def test_a_ledger_that_can_not_be_used(
    crossing: Crossing, spoil: Callable[[Path], None], sentence: str, next_step: str
) -> None:
    crossing.run(after="keep").expect(0)
    ledger = crossing.home / LEDGER
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(ledger)
    before = ledger.read_bytes()
    run = crossing.run().expect(2)
    says(run, sentence, next_step)
    assert ledger.read_bytes() == before, "it was left as it is"
    crossing.nothing_deleted()


@ONE_WAY
def test_a_new_ledger_recognises_what_has_arrived(crossing: Crossing) -> None:
    """The advice for a damaged ledger holds: nothing is sent twice."""
    crossing.run(after="keep").expect(0)
    for path in crossing.home.glob(f"{LEDGER}*"):
        path.unlink()
    crossing.add("from", crossing.before_source.url)
    crossing.add("to", crossing.before_destination.url)
    run = crossing.run(after="keep").expect(0)
    assert (run.finished["planned"], run.finished["skipped"]) == (10, 10)
    assert set(crossing.destination.received().values()) == {1}
