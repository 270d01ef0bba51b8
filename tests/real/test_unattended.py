"""The unattended engine under an account of its own: no session, no keyring, secrets handed over by systemd's means."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.unattended import systemd, unit_secrets, units
from core.unattended.layout import Choice, Layout
from core.unattended.place import machine_folder
from tests.conftest import OrthancPair
from tests.support import accounts as other_accounts
from tests.support.accounts import Accounts
from tests.support.ferry import RunningFerry
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.studies import make_studies, merged_digests
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.posix, pytest.mark.skipif(bool(other_accounts.why_not()), reason=other_accounts.why_not())]

PASSWORD = "pa§ß wörd %h $HOME"


@pytest.fixture
def accounts() -> Iterator[Accounts]:
    made = Accounts()
    yield made
    made.close()


class Computer:
    """A computer on which the unattended engine is installed; this test is its service manager."""

    def __init__(self, accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
        self.accounts = accounts
        self.layout = Layout(accounts.folder / "root")
        self.layout.home.parent.mkdir(parents=True)
        self.account = accounts.adopt(accounts.name("engine"))
        self.credentials = accounts.folder / "run-credentials"
        self.notified = accounts.folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.notified))
        self._socket.setblocking(False)
        self.notified.chmod(0o666)
        self._messages: list[str] = []
        for module in (systemd, units):
            monkeypatch.setattr(module, "program", lambda: (str(accounts.program),))

    def install(self, group: str = "") -> list[str]:
        return systemd.install(Choice(self.account, group), self.layout)

    @property
    def env(self) -> dict[str, str]:
        return {"DICOM_FERRY_HOME": str(self.layout.home), "CREDENTIALS_DIRECTORY": str(self.credentials)}

    def unit(self) -> str:
        return self.layout.unit.read_text(encoding="utf-8")

    def start(self) -> RunningFerry:
        """What systemd does with the unit: hand over the credentials, start the command, wait to be told."""
        self._hand_over()
        command = re.search(r"^ExecStart=(.+) engine$", self.unit(), re.MULTILINE)
        assert command is not None
        assert command[1] == str(self.accounts.program)
        group = re.search(r"^Group=(.+)$", self.unit(), re.MULTILINE)
        assert group is not None
        self._messages.clear()
        umask = os.umask(0o007 if "UMask=0007" in self.unit() else 0o077)
        try:
            env = {**self.env, "NOTIFY_SOCKET": str(self.notified)}
            engine = self.accounts.start(self.account, "engine", "--json", env=env, group=group[1])
        finally:
            os.umask(umask)
        wait_for(lambda: self.told("READY=1") or not engine.running, what="READY=1")
        assert engine.running, engine.describe()
        return engine

    def told(self, wanted: str) -> bool:
        while True:
            try:
                self._messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return any(message.startswith(wanted) for message in self._messages)

    def command(self, *words: str, account: str = "", group: str = "") -> str:
        env = self.env if not account else {"DICOM_FERRY_HOME": str(self.layout.home)}
        return self.accounts.run(account or self.account, *words, env=env, group=group).expect().stdout

    def _hand_over(self) -> None:
        self.credentials.mkdir(exist_ok=True)
        owner = self.accounts.ids(self.account)
        conf = self.layout.secrets_conf
        lines = conf.read_text(encoding="utf-8").splitlines() if conf.exists() else []
        for line in lines:
            if line.startswith("LoadCredentialEncrypted="):
                name, _, path = line.partition("=")[2].partition(":")
                said = subprocess.run(
                    ["systemd-creds", "decrypt", f"--name={name}", f"{self.layout.root}{path}", "-"],
                    capture_output=True, check=True,
                )  # fmt: skip
                target = self.credentials / name
                target.unlink(missing_ok=True)
                target.write_bytes(said.stdout)
                target.chmod(0o400)
                os.chown(target, *owner)
        self.credentials.chmod(0o500)
        os.chown(self.credentials, *owner)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def computer(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Computer]:
    made = Computer(accounts, monkeypatch)
    yield made
    made.close()


def closed_to_others(home: Path) -> None:
    for path in (home, *home.rglob("*")):
        assert not path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, f"{path} is open to others"


def test_it_forwards_stops_at_an_image_and_goes_on(
    computer: Computer,
    start_orthanc: Callable[..., OrthancServer],
    orthanc_112: OrthancServer,
    fault_proxy: Callable[[OrthancServer], FaultProxy],
) -> None:
    source = start_orthanc("1.10", name="SOURCE", users={"ferry": PASSWORD})
    destination = orthanc_112
    proxy = fault_proxy(destination)
    slow = proxy.delay(0.05, "^POST /instances$")
    studies = make_studies(12, instances=80, size_bytes=1400)
    source.upload([instance for study in studies for instance in study])

    said = computer.install()
    assert any("can't log in" in line for line in said)
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(computer.layout.unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    unit_secrets.give_secret("From", "password", PASSWORD, layout=computer.layout)
    kept = next(computer.layout.credentials.iterdir())
    assert PASSWORD.encode() not in kept.read_bytes()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    engine = computer.start()
    node = ("node", "add", "orthanc")
    computer.command(*node, "From", "--url", source.url, "--username", "ferry")
    computer.command(*node, "To", "--url", proxy.url)
    assert "It works." in computer.command("node", "test", "From")
    job = ("--source", "From", "--destination", "To", "--workers", "2")
    computer.command("job", "save", "forward", *job, "--name", "Night")
    computer.command("job", "start", "Night", "--no-wait")
    wait_for(lambda: destination.count() > 10, what="a transfer that is under way")
    environ = Path(f"/proc/{engine.pid}/environ").read_bytes()
    assert PASSWORD.encode() not in environ
    assert b"DBUS_SESSION_BUS_ADDRESS" not in environ
    assert b"DISPLAY" not in environ

    engine.send(signal.SIGTERM)
    engine.result(60).expect(0)
    assert computer.told("STOPPING=1")
    assert computer.told("STATUS=")
    held = destination.count()
    assert 10 < held < 960, "it was not in its middle"
    assert set(destination.received().values()) == {1}

    slow.off()
    engine = computer.start()
    wait_for(lambda: destination.count() == 960, what="the rest")
    engine.wait_event(lambda event: event.get("event") == "engine" and event.get("unconfirmed") == 0)
    assert destination.digests() == merged_digests(studies)
    assert set(destination.received().values()) == {1}, "nothing was sent twice"
    engine.send(signal.SIGTERM)
    engine.result(60).expect(0)
    closed_to_others(computer.layout.home)
    for path in computer.layout.home.rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes(), f"the password stands in {path}"


def test_its_home_is_closed_to_others_in_a_clear_sentence(computer: Computer, accounts: Accounts) -> None:
    computer.install()
    computer.start().send(signal.SIGTERM)
    home = {"DICOM_FERRY_HOME": str(computer.layout.home)}
    stranger = accounts.make("stranger")
    refused = accounts.run(stranger, "node", "list", env=home).expect(2)
    assert f"only the account {computer.account} may open it" in refused.stderr
    assert f"sudo -u {computer.account} dicom-ferry" in refused.stderr
    root = accounts.run("root", "node", "list", env=home).expect(2)
    assert f"runs under the account {computer.account}" in root.stderr
    assert f"sudo -u {computer.account}" in root.stderr
    closed_to_others(computer.layout.home)


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.12"], indirect=True)
def test_a_group_may_watch_and_command_if_that_was_asked_for(
    computer: Computer,
    accounts: Accounts,
    orthanc_pair: OrthancPair,
    fault_proxy: Callable[[OrthancServer], FaultProxy],
) -> None:
    source, destination = orthanc_pair
    source.upload([i for s in make_studies(10, instances=80, size_bytes=1400) for i in s])
    proxy = fault_proxy(destination)
    slow = proxy.delay(0.05, "^POST /instances$")
    radiology = accounts.group("rad")
    member, stranger = accounts.make("member", radiology), accounts.make("stranger")
    computer.install()
    computer.start().send(signal.SIGTERM)  # what it had made as a home of its own is opened by the next installation
    computer.install(radiology)
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(computer.layout.unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    engine = computer.start()
    for name, url in (("From", source.url), ("To", proxy.url)):
        computer.command("node", "add", "orthanc", name, "--url", url, account=member)
    job = ("--source", "From", "--destination", "To", "--workers", "2", "--name", "Night")
    computer.command("job", "save", "forward", *job, account=member)
    computer.command("job", "start", "Night", "--no-wait", account=member)
    wait_for(lambda: destination.count() > 5, what="a transfer that is under way")
    assert "Paused" in computer.command("job", "pause", "Night", account=member)
    engine.wait_event(lambda event: event.get("event") == "engine" and event.get("unconfirmed", 0) > 0)
    held = destination.count()
    assert held < 800

    engine.send(signal.SIGTERM)
    engine.result(60).expect(0)
    home = {"DICOM_FERRY_HOME": str(computer.layout.home)}
    stopped = accounts.run(member, "run", "forward", *job[:4], "--name", "Other", env=home).expect(2)
    assert "does not run now" in stopped.stderr
    assert "systemctl start" in stopped.stderr
    alone = accounts.run(member, "engine", env=home).expect(2)
    assert f"runs under the account {computer.account} alone" in alone.stderr
    assert destination.count() == held, "a member runs no engine here"

    slow.off()
    engine = computer.start()
    computer.command("job", "resume", "Night", "--no-wait", account=member)
    wait_for(lambda: destination.count() == 800, what="the rest")
    refused = accounts.run(stranger, "node", "list", env=home).expect(2)
    assert f"the group {radiology}" in refused.stderr
    for path in (computer.layout.home, *computer.layout.home.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, f"{path} is open to everybody"


def test_installing_removing_and_asking(computer: Computer) -> None:
    layout = computer.layout
    assert "No unattended engine" in systemd.status(layout)[0]
    computer.install()
    wants = layout.root / "etc/systemd/system/multi-user.target.wants/dicom-ferry.service"
    assert wants.is_symlink()
    assert computer.account in systemd.status(layout)[0]
    unit_secrets.give_secret("MRI Süd", "password", "first", layout=layout)
    unit_secrets.give_secret("MRI Süd", "header_value", "second", plain=True, layout=layout)
    conf = layout.secrets_conf.read_text(encoding="utf-8")
    assert "LoadCredentialEncrypted=DICOM_FERRY_SECRET_MRI_S_D:/etc/dicom-ferry/credentials/" in conf
    assert "LoadCredential=DICOM_FERRY_SECRET_MRI_S_D_HEADER_VALUE:/etc/dicom-ferry/credentials/" in conf
    assert "first" not in conf
    assert "Removed" in unit_secrets.forget_secret("MRI Süd", "header_value", layout=layout)[0]
    assert "HEADER_VALUE" not in layout.secrets_conf.read_text(encoding="utf-8")
    assert "no such secret" in unit_secrets.forget_secret("MRI Süd", "header_value", layout=layout)[0]
    systemd.remove(data=False, layout=layout)
    assert not layout.unit.exists()
    assert not layout.secrets_conf.parent.exists()
    assert not wants.is_symlink()
    assert layout.home.is_dir()
    systemd.remove(data=True, layout=layout)
    assert not layout.home.exists()
    assert not layout.credentials.exists()
    assert systemd.remove(data=True, layout=layout) == ["Nothing was installed."]


def test_the_unit_is_written_for_the_real_place(computer: Computer) -> None:
    computer.install()
    assert f"Environment=DICOM_FERRY_HOME={machine_folder()}" in computer.unit()
