"""The unattended engine's texts and pieces: unit, task, readiness, credentials, mark. The whole is in tests/real."""

from __future__ import annotations

import socket
import sys
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

import pytest

from core import cli
from core.app import App
from core.credentials import credential
from core.home import Home
from core.model.errors import ConfigurationError, LocalError, SecretError
from core.secrets import Secrets
from core.unattended import commands, place, task
from core.unattended.layout import Choice
from core.unattended.mark import MARK, Unattended, mark_text, read_mark
from core.unattended.place import machine_place
from core.unattended.readiness import Readiness
from core.unattended.units import unit_text, user_unit_text
from installer.windows import product
from installer.windows.msi import _product as msi_source
from tests.unit.test_secrets import MemoryKeyring

posix = pytest.mark.posix
WIX = "{http://schemas.microsoft.com/wix/2006/wi}"
TASKS = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
#: Task Scheduler's schema gives these a fixed order ([MS-TSCH] 2.5.3.1).
TRIGGER = ["Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit", "Delay"]


def options(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


# --- systemd


@posix
def test_the_unit_settles_before_it_is_killed() -> None:
    found = options(unit_text(Choice(), command=("/opt/dicom-ferry/bin/dicom-ferry",)))
    assert found["ExecStart"] == "/opt/dicom-ferry/bin/dicom-ferry engine"
    assert found["Type"] == "notify"
    assert int(found["TimeoutStopSec"]) > 30 + 5
    assert found["KillMode"] == "mixed"
    assert found["ProtectHome"] == "yes"
    assert (found["User"], found["Group"], found["UMask"]) == ("dicom-ferry", "dicom-ferry", "0077")
    assert found["StateDirectoryMode"] == "0700"


@posix
def test_a_group_and_folders_are_let_in_where_they_are_named() -> None:
    choice = Choice(group="radiology", folders=(Path("/srv/my images"), Path("/home/anna/ct")))
    text = unit_text(choice, command=("/opt/100% of $it/dicom-ferry",))
    found = options(text)
    assert (found["Group"], found["UMask"], found["StateDirectoryMode"]) == ("radiology", "0007", "2770")
    assert found["RestrictSUIDSGID"] == "no"  # the group's folders hand their group on
    assert 'ReadWritePaths="-/srv/my images"' in text
    assert "ReadWritePaths=-/home/anna/ct" in text
    assert found["ProtectHome"] == "read-only"
    assert found["ExecStart"] == '"/opt/100%% of $$it/dicom-ferry" engine'


def test_a_command_that_does_not_answer_is_said_in_a_sentence() -> None:
    waits = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(LocalError, match=r"did not answer within 1 s\."):
        commands.refusal(waits, seconds=1)


@posix
def test_the_unit_of_a_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "my home"))
    text = user_unit_text(("/opt/dicom-ferry",))
    assert f'Environment=DICOM_FERRY_HOME="{tmp_path / "my home"}"' in text
    assert "User=" not in text


@posix
def test_printing_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["service", "install", "--print"]) == 0
    assert "[Service]\nType=notify\n" in capsys.readouterr().out
    assert cli.main(["service", "install", "--user", "--print"]) == 0
    assert "WantedBy=default.target" in capsys.readouterr().out


@posix
def test_readiness_is_told_to_the_socket_that_was_named(tmp_path: Path) -> None:
    for name in (str(tmp_path / "notify"), f"@dicom-ferry-test-{tmp_path.name}-{id(tmp_path)}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + name[1:] if name.startswith("@") else name)
            manager.settimeout(10)
            environment = {"NOTIFY_SOCKET": name, "PATH": "/bin"}
            readiness = Readiness(environment)
            assert environment == {"PATH": "/bin"}, "programs that are started from here have no say"
            readiness.ready()
            readiness.status("3 studies not yet confirmed")
            readiness.status("3 studies not yet confirmed")
            readiness.stopping()
            said = [manager.recv(1000).decode() for _ in range(3)]
            assert said == ["READY=1", "STATUS=3 studies not yet confirmed", "STOPPING=1"]


def test_nobody_who_asked_is_told_nothing() -> None:
    Readiness({}).ready()


@posix
def test_a_manager_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    Readiness({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


# --- secrets


def test_a_credential_stands_for_the_variable(tmp_path: Path) -> None:
    (tmp_path / "DICOM_FERRY_SECRET_MRI_S_D").write_bytes("pa§ß wörd\n".encode())
    (tmp_path / "DICOM_FERRY_SECRET_MRI_HEADER_VALUE").write_bytes(b"key")
    ring = MemoryKeyring()
    secrets = Secrets("x", backend=ring, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    ring.set_password(secrets.service("MRI Süd"), "password", "from the keyring")
    assert secrets.get("MRI Süd") == "pa§ß wörd"
    assert secrets.get("MRI", "header_value") == "key"
    assert secrets.get("MRI") is None
    assert secrets.from_environment("MRI Süd")
    assert not secrets.from_environment("MRI")
    both = {"CREDENTIALS_DIRECTORY": str(tmp_path), "DICOM_FERRY_SECRET_MRI_SÜD": "variable"}
    assert Secrets("x", backend=ring, environment=both).get("MRI Süd") == "variable"


def test_a_credential_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "DICOM_FERRY_SECRET_MRI").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SecretError, match="can't be read") as caught:
        credential("DICOM_FERRY_SECRET_MRI", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "dicom-ferry service secret" in caught.value.next_step


# --- the home


def marked(folder: Path, group: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / MARK).write_text(mark_text(Unattended("dicom-ferry", group)), encoding="utf-8")
    return folder


def test_the_mark_is_read_with_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_mark(tmp_path) is None
    folder = marked(tmp_path / "home", "radiology")
    assert Home.open(folder).unattended == Unattended("dicom-ferry", "radiology")
    (folder / MARK).write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigurationError):
        Home.open(folder)


def test_only_the_unattended_engine_runs_on_its_home(tmp_path: Path) -> None:
    app = App.open(marked(tmp_path / "home"))
    try:
        with pytest.raises(ConfigurationError, match="does not run now") as caught:
            app.engine(lambda _event: None)
        assert caught.value.code == "unattended-stopped"
        watching = app.engine(lambda _event: None, watch=True)
        assert watching.attached
        assert not watching.running
        other = App.open(tmp_path / "home")
        engine = other.engine(lambda _event: None, unattended=True)
        assert not engine.attached
        assert watching.running
        engine.stop()
        other.close()
        assert watching.attached, "it takes nothing over"
        assert not watching.running
    finally:
        app.close()


@posix
def test_whose_place_it_is(tmp_path: Path) -> None:
    assert machine_place(tmp_path / "none") is None
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    found = machine_place(folder)
    assert found is not None
    assert found.may_open
    assert not found.group
    assert found.account in found.who
    folder.chmod(0o770)
    shared = machine_place(folder)
    assert shared is not None
    assert f"members of the group {shared.group}" in shared.who


# --- Windows


@pytest.fixture
def windows_home(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PureWindowsPath(r"C:\ProgramData\DICOM Ferry")
    monkeypatch.setattr(task, "machine_folder", lambda: folder)


@pytest.mark.usefixtures("windows_home")
def test_the_task_is_what_task_scheduler_takes() -> None:
    root = ElementTree.fromstring(
        task.task_text("LocalService", (r"C:\Program Files\A & B\dicom-ferry.exe",)).encode("utf-16")
    )
    assert root.tag == f"{TASKS}Task"
    boot = root.find(f"{TASKS}Triggers/{TASKS}BootTrigger")
    assert boot is not None
    order = [TRIGGER.index(child.tag.removeprefix(TASKS)) for child in boot]
    assert order == sorted(order)
    principal = root.find(f"{TASKS}Principals/{TASKS}Principal")
    assert principal is not None
    assert principal.findtext(f"{TASKS}UserId") == "S-1-5-19"
    assert principal.find(f"{TASKS}LogonType") is None
    run = root.find(f"{TASKS}Actions/{TASKS}Exec")
    assert run is not None
    assert run.findtext(f"{TASKS}Command") == r"C:\Program Files\A & B\dicom-ferry.exe"
    assert run.findtext(f"{TASKS}Arguments") == r'--home "C:\ProgramData\DICOM Ferry" engine'
    settings = root.find(f"{TASKS}Settings")
    assert settings is not None
    assert settings.findtext(f"{TASKS}ExecutionTimeLimit") == "PT0S", "it is ended by nobody"
    assert settings.findtext(f"{TASKS}MultipleInstancesPolicy") == "IgnoreNew"


@pytest.mark.usefixtures("windows_home")
def test_an_account_with_a_password_logs_on_with_it() -> None:
    root = ElementTree.fromstring(task.task_text("HOSPITAL\\ferry", ("x",)).encode("utf-16"))
    assert root.findtext(f"{TASKS}Principals/{TASKS}Principal/{TASKS}LogonType") == "Password"
    assert root.findtext(f"{TASKS}Principals/{TASKS}Principal/{TASKS}UserId") == "HOSPITAL\\ferry"


@pytest.mark.parametrize("account", ["SYSTEM", "nt authority\\system", " "])
def test_not_with_all_rights(account: str) -> None:
    with pytest.raises(ConfigurationError):
        task.task_text(account, ("x",))


def test_the_task_has_one_name() -> None:
    root = Path(product.__file__).parent
    assert place.TASK == product.TASK
    for name in ("closing.c", "setup.nsi"):
        assert product.TASK in (root / name).read_text(encoding="utf-8")


def test_the_msi_does_its_own_actions_in_their_places(tmp_path: Path) -> None:
    (tmp_path / product.CONSOLE_EXE).write_bytes(b"x")
    root = ElementTree.fromstring(ElementTree.tostring(msi_source(tmp_path, "1.2.3")))
    order = {e.attrib["Action"]: int(e.attrib["Sequence"]) for e in root.iter(f"{WIX}Custom")}
    copied_to, removes_old, begins, writes = 1000, 1401, 1500, 5000
    assert copied_to < order["CloseRunning"] < removes_old
    assert begins < order["SwitchTaskOn"] < order["RemoveTask"] < order["RemoveTaskAndData"] < 3500
    assert writes < order["InstallTask"] < order["RenewTask"] < order["DropTask"] < 6600
    actions = {e.attrib["Id"]: e.attrib for e in root.iter(f"{WIX}CustomAction")}
    assert set(order) == set(actions)
    for name in ("InstallTask", "RenewTask", "DropTask", "RemoveTask", "RemoveTaskAndData"):
        assert (actions[name]["Execute"], actions[name]["Impersonate"]) == ("deferred", "no")
    assert actions["InstallTask"]["Return"] == "check"


@pytest.mark.skipif(sys.platform != "win32", reason="of Windows alone")
def test_a_secret_is_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.unattended.handover import hand_over, take_handed_over

    app = App.open(marked(tmp_path / "home"))
    ring = MemoryKeyring()
    app.secrets._given = ring
    try:
        path = hand_over(app.home.folder, "PACS Süd", "password", "pa§ß wörd")
        assert "pa§ß".encode() not in path.read_bytes()
        assert take_handed_over(app) == 1
        assert not path.exists()
        assert app.secrets.get("PACS Süd") == "pa§ß wörd"
        hand_over(app.home.folder, "PACS Süd", "password", "")
        assert take_handed_over(app) == 1
        assert app.secrets.get("PACS Süd") is None
        (app.home.folder / "handed-over" / "x.secret").write_text("nonsense", encoding="ascii")
        assert take_handed_over(app) == 0
        assert not list((app.home.folder / "handed-over").glob("*.secret"))
    finally:
        app.close()
