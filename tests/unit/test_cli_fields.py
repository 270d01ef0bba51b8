"""Options from declared fields: typed before environment before file, and secrets never among them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from core.cli_commands.fields import build, gather, option, parameters
from core.cli_commands.run import job_options
from core.jobs.registry import job_kinds
from core.model.errors import ConfigurationError
from core.model.fields import Declared, FieldType, declared, form_fields
from core.nodes.registry import node_kinds


class Fields(Declared):
    source: tuple[str, ...] = declared(title="From", type=FieldType.NODES, min_length=1)
    delays: tuple[float, ...] = declared((5.0, 20.0), title="Delays")
    many: int = declared(3, title="Many", ge=1, le=9)
    deep: bool = declared(False, title="Deep")
    place: str = declared("", title="Place", type=FieldType.FOLDER)
    pin: str = declared("", title="PIN", type=FieldType.SECRET)


def gathered(environment: dict[str, str] | None = None, file: Path | None = None, **typed: object) -> dict[str, object]:
    arguments = {f"field_{k}": v for k, v in typed.items()}
    return dict(gather(Fields, arguments, environment=environment or {}, file=file, kind="test").values)


def test_nothing_given_is_nothing() -> None:
    assert gathered(source=[], many=None) == {}


def test_typed_before_environment_before_file(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"source": ["file"], "many": 1, "deep": True}))
    environment = {"DICOM_FERRY_SOURCE": "a, b", "DICOM_FERRY_MANY": "2"}
    assert gathered(environment, file, source=["typed"]) == {"source": ["typed"], "many": "2", "deep": True}
    assert gathered(environment, file) == {"source": ["a", "b"], "many": "2", "deep": True}
    assert gathered({}, file) == {"source": ["file"], "many": 1, "deep": True}


def test_values_become_what_the_model_takes() -> None:
    values = gathered(source=["a,b", "c"], delays="1,2.5", many="4", deep=False)
    fields = Fields.model_validate(values)
    assert fields.source == ("a,b", "c")
    assert fields.delays == (1.0, 2.5)
    assert fields.many == 4
    assert fields.deep is False


def test_folders_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert gathered(place="studies")["place"] == str(tmp_path / "studies")


def test_secrets_are_never_taken_as_options_or_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="never taken from the command line") as caught:
        gathered(pin="1234")
    assert "1234" not in str(caught.value)
    file = tmp_path / "job.toml"
    file.write_text('source = ["a"]\npin = "1234"\n')
    assert gathered({"DICOM_FERRY_PIN": "1234"}, file) == {"source": ["a"]}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("job.toml", "source = [", "is not valid TOML"),
        ("job.json", "{", "is not valid JSON"),
        ("job.json", "[1]", "holds no names with values"),
        ("job.toml", 'kind = "other"', "is for the kind “other”"),
    ],
)
def test_wrong_job_files_are_sentences(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        gathered({}, tmp_path / name)


def test_a_missing_job_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        gathered({}, tmp_path / "none.toml")


def test_where_a_wrong_value_came_from_is_said() -> None:
    given = gather(Fields, {}, environment={"DICOM_FERRY_MANY": "x"})
    error = ConfigurationError("Many (--many): not a number.", "Correct this and try again.")
    assert "DICOM_FERRY_MANY" in given.explain(error, form_fields(Fields)).next_step


def test_needed_fields_come_first_and_secrets_are_hidden() -> None:
    found = parameters(Fields)
    assert found[0].name == "field_source"
    hidden = {p.name for p in found if getattr(p.default, "hidden", False)}
    assert hidden == {"field_pin"}


def test_a_built_command_hands_on_its_arguments() -> None:
    seen: dict[str, object] = {}
    command = build("x-y", "Doc.", [option("a", int, 1)], lambda **arguments: seen.update(arguments))
    assert list(inspect.signature(command).parameters) == ["a"]
    command(a=5)
    assert seen == {"a": 5}


@pytest.mark.parametrize("name", sorted(job_kinds.all()))
def test_no_option_of_a_job_kind_hides_another(name: str) -> None:
    kind = job_kinds.get(name)
    flags = [flag for p in job_options(kind) for d in p.default.param_decls for flag in d.split("/")]
    assert len(flags) == len(set(flags)), flags
    assert "--dry-run" not in flags


@pytest.mark.parametrize("name", sorted(node_kinds.all()))
def test_no_option_of_a_node_kind_hides_another(name: str) -> None:
    flags = [
        flag for p in parameters(node_kinds.get(name).Fields) for d in p.default.param_decls for flag in d.split("/")
    ]
    assert len(flags) == len(set(flags))
    assert not {"--secret-stdin", "--json", "--help", "--debug"} & set(flags)
