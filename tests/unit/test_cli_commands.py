"""Commands in this process, between folders: words, JSON, exit statuses."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import core
from core import cli, screen
from core.app import App
from core.cli_commands.figures import duration, megabytes
from core.cli_commands.find import _dates
from core.cli_commands.manner import manner
from core.cli_commands.program import normalised
from core.demo import orthanc_program
from core.logs import stop_logging
from core.model.errors import ConfigurationError
from tests.support.studies import make_studies


class Said(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command on a home of this test's own."""
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(manner, "debug", False)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # the program sets its own
    root = logging.getLogger()
    level, raising = root.level, logging.raiseExceptions

    def call(*arguments: object, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Said(status, out, err)

    yield call
    stop_logging()
    root.setLevel(level)
    logging.raiseExceptions = raising


@pytest.fixture
def folders(run: Run, tmp_path: Path) -> tuple[Path, Path]:
    """Two registered folders, "from" with two studies of five images and "to" with none."""
    source, destination = tmp_path / "source", tmp_path / "destination"
    for number, study in enumerate(make_studies(2, instances=5)):
        study.write(source / str(number))
    destination.mkdir()
    assert run("node", "add", "folder", "from", "--path", source).status == 0
    assert run("node", "add", "folder", "to", "--path", destination).status == 0
    return source, destination


def test_help_names_every_command_and_kind(run: Run) -> None:
    said = run("--help")
    assert said.status == 0
    for word in ("node", "find", "run", "job", "report", "demo", "self-test", "support-bundle", "engine"):
        assert word in said.out
    assert "DICOM_FERRY_HOME" in said.out
    assert "orthanc" in run("node", "add", "--help").out
    assert "clone" in run("run", "--help").out
    of_kind = run("run", "forward", "--help").out
    assert "--after" in of_kind
    assert "--label-success" in of_kind
    assert "default: 5" in of_kind
    node = run("node", "add", "orthanc", "--help").out
    assert "--url" in node
    assert "--secret-stdin" in node
    assert "--password" not in node


def test_version(run: Run) -> None:
    said = run("--version")
    assert said.status == 0
    assert said.out.startswith("dicom-ferry ")


@pytest.mark.parametrize("arguments", [["nonsense"], ["node", "add", "folder"], ["run", "clone", "--colour"]])
def test_wrong_commands_are_status_2(run: Run, arguments: list[str]) -> None:
    said = run(*arguments)
    assert said.status == 2
    assert "Traceback" not in said.err


def test_carry_report_and_remove(run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    said = run("run", "forward", "--source", "from", "--destination", "to", "--json")
    assert said.status == 0
    assert said.events[-1]["event"] == "finished"
    assert said.events[-1]["verified"] == 10
    again = run("run", "forward", "--source", "from", "--destination", "to")
    assert "10 already there" in again.out
    for form, word in (("csv", "sop_instance_uid"), ("json", '"report": "DICOM Ferry"'), ("html", "<!DOCTYPE html>")):
        file = tmp_path / f"proof.{form}"
        assert run("report", "1", "--format", form, "--output", file).status == 0
        assert word in file.read_text(encoding="utf-8")
    assert run("report", "1", "--output", tmp_path / "no" / "such" / "folder").status == 1
    assert run("report", "7").status == 2
    assert "Removed job 1" in run("job", "remove", "1").out
    assert run("node", "remove", "to").status == 0


def test_a_json_error_is_an_object_too(run: Run) -> None:
    said = run("find", "nowhere", "--json")
    assert said.status == 2
    assert said.events == [
        {
            "event": "error",
            "sentence": "There is no node “nowhere”.",
            "next_step": "Add one first: dicom-ferry node add.",
            "code": "unknown-node",
            "exit_status": 2,
        }
    ]


def test_edit(run: Run, folders: tuple[Path, Path]) -> None:
    assert run("node", "edit", "to", "--connections", "2").status == 0
    node = next(e for e in run("node", "list", "--json").events if e["name"] == "to")
    assert node["fields"]["connections"] == 2
    assert node["fields"]["path"] == str(folders[1])
    assert "Nothing was said" in run("node", "edit", "to").err
    assert "Connections at once (--connections)" in run("node", "edit", "to", "--connections", "0").err
    assert "--connections" in run("node", "edit", "to", "--help").out
    assert "NAME" in run("node", "edit", "--help").out
    assert run("node", "edit", "nobody", "--connections", "2").status == 2


def test_a_secret_is_refused_as_an_option(run: Run) -> None:
    said = run("node", "add", "orthanc", "x", "--url", "http://127.0.0.1:1", "--password", "s3cret")
    assert said.status == 2
    assert "--secret-stdin password" in said.err
    assert "s3cret" not in said.out + said.err


def test_an_empty_secret_is_refused(run: Run) -> None:
    said = run("node", "add", "orthanc", "x", "--secret-stdin", "--url", "http://127.0.0.1:1", stdin="\n")
    assert said.status == 2
    assert "No password came on standard input" in said.err


def test_secret_stdin_takes_the_field_that_may_follow() -> None:
    assert normalised(["add", "--secret-stdin", "x", "--debug"]) == ["add", "--secret-stdin=", "x"]
    assert normalised(["--secret-stdin", "header-value", "--json"]) == ["--secret-stdin=header_value", "--json"]
    assert normalised(["--secret-stdin"]) == ["--secret-stdin="]
    assert normalised(["--", "--debug"]) == ["--", "--debug"]
    manner.debug = False


def test_credentials_over_plain_http_are_warned_of(run: Run) -> None:
    said = run("node", "add", "orthanc", "far", "--url", "http://pacs.example:8042", "--username", "me")
    assert said.status == 0
    assert "unencrypted" in said.err


def test_home_in_the_way_of_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "file"))
    said = run("node", "list")
    assert said.status == 2
    assert "a file is in the way" in said.err
    assert "DICOM_FERRY_HOME" in said.err


def test_a_damaged_ledger_is_a_sentence(run: Run, tmp_path: Path) -> None:
    run("node", "list")
    (tmp_path / "home" / "ledger.sqlite").write_bytes(b"not a database at all" * 500)
    said = run("node", "list")
    assert said.status == 2
    assert "ledger" in said.err
    assert "Traceback" not in said.err


def test_what_was_not_foreseen_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> App:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(App, "open", broken)
    said = run("node", "list")
    assert said.status == 1
    assert "did not foresee (ZeroDivisionError)" in said.err
    assert "Traceback" not in said.err
    assert "Traceback" in run("node", "list", "--debug").err


def test_no_screen_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not screen.has_display()
    said = run()
    assert said.status == 2
    assert "there is no screen here" in said.err


def test_no_qt_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gui.app", None)
    said = run()
    assert said.status == 2
    assert "PySide6" in said.err


def test_rule_test_counts_what_a_folder_holds(run: Run, folders: tuple[Path, Path]) -> None:
    said = run("rule", "test", "from", "PatientID = FERRY-00002")
    assert said.status == 0
    assert "1 of 2 studies match." in said.out
    assert "Takes, for example:" in said.out
    assert "Leaves out, for example:" in said.out
    found = run("rule", "test", "from", "InstanceNumber <= 2", "--every-image", "--json").events
    assert [(e["verdict"], e["images_taken"], e["images_looked_at"]) for e in found[:-1]] == [("some", 2, 5)] * 2
    end = found[-1]
    assert (end["event"], end["matched"], end["partly"], end["studies"]) == ("finished", 2, 2, 2)
    assert (end["by_images"], end["sampled"], end["certain"]) == (True, False, True)
    said = run("rule", "test", "from", "InstanceNumber <= 2", "--look-into", 1)
    assert said.status == 0
    assert "1 of 2 studies match." in said.out
    assert "1 more is decided by its images" in said.out
    said = run("rule", "test", "from", "", "--studies", 1)
    assert "1 of 1 study matches." in said.out
    assert "Only the first 1 studies" in said.out


def test_rule_explain_says_what_it_means_or_where_it_is_wrong(run: Run) -> None:
    said = run("rule", "explain", "modality in CT, MR and StudyDate in last 7 days")
    assert said.status == 0
    assert "Study date is in the last 7 days" in said.out
    assert "As text: Modality in CT, MR and StudyDate in last 7 days" in said.out
    assert "takes the CT images only" in said.out
    assert run("rule", "explain", "").out.strip() == "Everything"
    said = run("rule", "explain", "Modality = CT and StudyDate >= 2020123")
    assert said.status == 2
    lines = said.err.splitlines()
    assert lines[1].index("^") == lines[0].index("2020123")
    assert lines[1].strip() == "^^^^^^^"
    assert "at character 32" in said.err
    event = run("rule", "explain", "Modalty = CT", "--json").events[0]
    assert (event["at"], event["length"]) == (0, 7)
    assert run("rule", "test", "nowhere", "(((").status == 2
    assert run("run", "forward", "--source", "a", "--destination", "b", "--filter", "StudyDate > 123").status == 2


def test_the_rule_of_a_saved_job_is_read_and_changed(run: Run, folders: tuple[Path, Path]) -> None:
    run("job", "save", "forward", "--source", "from", "--destination", "to", "--filter", "Modality = MR", "--name", "x")
    assert run("job", "rule", "x").out.strip() == "Modality is MR"
    assert run("job", "rule", "x", "Modality = CT and").status == 2
    assert run("job", "rule", "x", "--json").events[0]["text"] == "Modality = MR"
    said = run("job", "rule", "x", "Modality = CT and PatientID = FERRY-00002")
    assert said.status == 0
    assert "Patient ID is FERRY-00002" in said.out
    end = run("job", "start", "x", "--json").events[-1]
    assert (end["verified"], end["failed"]) == (5, 0)
    assert run("job", "rule", "x", "").out.strip() == "Everything"
    run("job", "save", "clone", "--source", "from", "--destination", "to", "--name", "whole")
    said = run("job", "rule", "whole", "Modality = CT")
    assert said.status == 2
    assert "has no rule" in said.err


def test_rule_tags_are_found_by_name_and_number(run: Run) -> None:
    assert "SliceThickness" in run("rule", "tags", "slice", "thickness").out
    assert run("rule", "tags", "0008,0060", "--json").events[0]["key"] == "Modality"
    assert run("rule", "tags", "no such thing").status == 1


def test_self_test(run: Run) -> None:
    said = run("self-test", "--json")
    assert said.status == 0, said.out
    results = {e["name"]: e["result"] for e in said.events if e["event"] == "step"}
    assert results.pop("Keyring") in ("ok", "warning")
    assert results.pop("Tray") in ("ok", "warning")
    assert set(results.values()) == {"ok"}


def test_self_test_into_a_file(run: Run, tmp_path: Path) -> None:
    said = run("self-test", "--json", tmp_path / "result.json")
    assert said.status == 0, said.out
    assert "All is well." in said.out
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert found["works"] is True
    assert found["version"] == core.__version__
    assert {c["name"] for c in found["checks"]} >= {"Resources", "Ledger", "Keyring", "DICOM", "Window", "Tray"}


def test_self_test_names_a_file_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    said = run("self-test", "--json", tmp_path / "nowhere" / "result.json")
    assert said.status == 1
    assert "nowhere" in said.err


def test_self_test_takes_a_file_with_json_only(run: Run, tmp_path: Path) -> None:
    said = run("self-test", tmp_path / "result.json")
    assert said.status == 2
    assert "--json" in said.err


def test_support_bundle_names_no_patient(run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    run("run", "forward", "--source", "from", "--destination", "to", "--filter", "PatientName != Nobody",
        "--step", "tags actions='set PatientComments=Someone'".replace("'", '"'), "--debug")  # fmt: skip
    run("node", "test", "from")
    bundle = tmp_path / "bundle.zip"
    assert run("support-bundle", "--output", bundle).status == 0
    with zipfile.ZipFile(bundle) as packed:
        texts = {name: packed.read(name).decode() for name in packed.namelist()}
    assert {"system.json", "nodes.json", "jobs.json", "logs/command-line.log"} <= set(texts)
    for study in make_studies(2, instances=5):
        for secret in ("Nobody", "Someone", "Wang", study.plan.patient_id, study.study_uid):
            assert all(secret not in text for text in texts.values()), secret
    assert json.loads(texts["jobs.json"])[0]["fields"]["filter"] == "PatientName"
    assert json.loads(texts["jobs.json"])[0]["fields"]["step"] == ["tags"]
    assert json.loads(texts["jobs.json"])[0]["counts"]["verified"] == 10
    assert [n["name"] for n in json.loads(texts["nodes.json"])] == ["from", "to"]


def test_demo_without_servers(run: Run, tmp_path: Path) -> None:
    said = run("demo", "--headless", "--no-servers", "--report", tmp_path / "demo.html")
    assert said.status == 0
    assert "PACS East" in said.out
    assert "listed by its UID" in said.out
    assert "王" in said.out
    assert "71/71" not in said.out  # per study, not in all
    assert "71 confirmed" in said.out
    assert "Люксембург" in (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert not (tmp_path / "home").exists()


@pytest.mark.posix
def test_demo_between_real_servers(run: Run) -> None:
    assert orthanc_program() is not None, "Orthanc is not installed; run `make servers`"
    said = run("demo", "--json")
    assert said.status == 0
    assert said.events[-1]["event"] == "finished"
    assert said.events[-1]["verified"] == 71
    proof = {e["destination"]: tuple(e["methods"]) for e in said.events if e["event"] == "proof"}
    assert proof == {
        "Orthanc West": ("digest",),
        "Orthanc East": ("digest",),
        "PACS West": ("uid",),
        "PACS East": ("uid",),
    }


def test_jobs_without_an_engine(run: Run, folders: tuple[Path, Path]) -> None:
    assert run("job", "save", "forward", "--source", "from", "--destination", "to", "--name", "N").status == 0
    assert "nothing to be paused" in run("job", "pause", "N").out
    assert "goes on in the DICOM Ferry" in run("job", "start", "N", "--no-wait").out
    assert run("job", "list", "--json").events[0]["state"] == "running"
    assert run("job", "resume", "N", "--json").events[-1]["verified"] == 10
    assert run("job", "cancel", "N").status == 0


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("20240131", ("20240131", "20240131")),
        ("20240101-20241231", ("20240101", "20241231")),
        ("20240101-", ("20240101", "")),
        ("-20241231", ("", "20241231")),
        ("", ("", "")),
    ],
)
def test_dates(text: str, dates: tuple[str, str]) -> None:
    assert _dates(text) == dates


@pytest.mark.parametrize("text", ["2024", "2024010120240102", "-", "20241231-20240101", "2024-01-31"])
def test_no_dates(text: str) -> None:
    with pytest.raises(ConfigurationError):
        _dates(text)


def test_figures_for_people() -> None:
    assert [duration(s) for s in (0.25, 59.94, 200, 7500)] == ["0.2 s", "59.9 s", "3 min 20 s", "2 h 5 min"]
    assert [megabytes(n) for n in (12, 1_500, 2_500_000, 3e9)] == ["12 bytes", "1.5 kB", "2.5 MB", "3.0 GB"]
