"""The contract of every kind of node and job: what forms, command line, saved files and lists rely on."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.jobs.base import JobKind, TransferKind
from core.jobs.registry import job_kinds
from core.model.errors import ConfigurationError
from core.model.fields import Declared, FieldType, FormField, declared, explain, form_fields, secret_fields
from core.model.job import JobFields, TransferFields
from core.model.node import NodeFields, NodeRecord
from core.nodes.base import Confirm, Delete, Inventory, Label, Node, NodeKind, OpenContext, Read, Write
from core.nodes.registry import node_kinds
from core.steps.base import StepFields, StepKind
from core.steps.registry import step_kinds

NODE_KINDS = sorted(node_kinds.all().items())
JOB_KINDS = sorted(job_kinds.all().items())
STEP_KINDS = sorted(step_kinds.all().items())
ALL_KINDS = NODE_KINDS + JOB_KINDS + STEP_KINDS
every_kind = pytest.mark.parametrize(("name", "kind"), ALL_KINDS, ids=[n for n, _ in ALL_KINDS])
every_node_kind = pytest.mark.parametrize(("name", "kind"), NODE_KINDS, ids=[n for n, _ in NODE_KINDS])
every_job_kind = pytest.mark.parametrize(("name", "kind"), JOB_KINDS, ids=[n for n, _ in JOB_KINDS])

#: What a person could type into each type of field where there is no default.
TYPED = {
    FieldType.INTEGER: 11112,
    FieldType.NUMBER: 1.0,
    FieldType.SWITCH: True,
    FieldType.NODE: "pacs",
    FieldType.DATE: "20240315",
    FieldType.FILE: "/data/list.csv",
    FieldType.FOLDER: "/data/exchange",
    FieldType.SECRET: "",
    FieldType.RULE: "Modality = CT",
}
TEXTS = ("set PatientID=X", "http://pacs.lan:8042", "pacs.lan", "FERRY", "text")


#: Asked without brackets; asking may take a request, so they are looked at, not asked.
PROPERTIES = {Confirm: ("gives_digests", "digests_in_bulk"), Read: ("keeps_digests",), Label: ("has_labels",)}


def can(node: Node, capability: type) -> bool:
    """As `isinstance`, which until Python 3.12 asks every property of the node (and thus maybe the server)."""
    wanted = [n for n in vars(capability) if not n.startswith("_")]
    return all(hasattr(type(node), n) for n in wanted)


def where(kind: NodeKind | JobKind | StepKind) -> str:
    """File and line of a kind's fields, for messages."""
    fields = type(kind).Fields
    _, line = inspect.getsourcelines(fields)
    path = Path(inspect.getsourcefile(fields) or "").resolve()
    return f"{path.relative_to(Path(__file__).resolve().parents[2])}:{line} ({fields.__name__})"


def example(fields: type[Declared]) -> Any:
    """An instance with all defaults, and something sensible where a value is required."""
    given: dict[str, Any] = {}
    for number, field in enumerate(f for f in form_fields(fields) if f.required):
        if field.type in (FieldType.LIST, FieldType.NODES):
            given[field.name] = [f"node {number}"]
        elif field.choices:
            given[field.name] = field.choices[0][0]
        else:
            given[field.name] = TYPED.get(field.type, TEXTS[0])
    for text in TEXTS:  # a URL, a host, an AE title: whichever this kind's required texts are
        try:
            return fields.model_validate(given)
        except ValidationError as error:
            for item in error.errors():
                given[str(item["loc"][0])] = text
    return fields.model_validate(given)


def test_there_are_kinds():
    assert {"orthanc", "folder"} <= {name for name, _ in NODE_KINDS}
    assert {"clone", "forward"} <= {name for name, _ in JOB_KINDS}


@every_kind
def test_a_kind_says_what_it_is(name, kind):
    assert kind.name == name, f"{where(kind)}: registered as {name!r}"
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name), f"{where(kind)}: typed on the command line"
    for text in ("title", "summary", "icon"):
        value = getattr(kind, text)
        assert isinstance(value, str), f"{where(kind)}: {text}"
        assert value.strip(), f"{where(kind)}: {text} is empty"
    assert len(kind.title) <= 40, f"{where(kind)}: the title is too long for a list"
    assert "\n" not in kind.summary, f"{where(kind)}: the summary is one line"
    assert kind.title[0].isupper(), f"{where(kind)}: the title begins with a capital"
    assert type(kind).__doc__ or inspect.getdoc(inspect.getmodule(type(kind))), f"{where(kind)}: no docstring"


@every_kind
def test_fields_are_declared_for_people(name, kind):
    fields = type(kind).Fields
    base = NodeFields if isinstance(kind, NodeKind) else StepFields if isinstance(kind, StepKind) else JobFields
    assert issubclass(fields, base), where(kind)
    wrong = []
    found = form_fields(fields)
    for f in found:
        info = fields.model_fields[f.name]
        if not info.title:
            wrong.append(f"{f.name} has no title")
        if not f.help.strip() and not explains_itself(f):
            wrong.append(f"{f.name} has no help")
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", f.name):
            wrong.append(f"{f.name} is no name for an option")
        if f.type is FieldType.CHOICE and len(f.choices) < 2:
            wrong.append(f"{f.name} gives no choice")
        if f.type is FieldType.CHOICE and len({label for _, label in f.choices}) != len(f.choices):
            wrong.append(f"{f.name} has two choices with one label")
        if f.required and f.advanced:
            wrong.append(f"{f.name} is required and hidden among the advanced ones")
    titles = [f.title for f in found]
    wrong += [f"two fields are titled “{t}”" for t in set(titles) if titles.count(t) > 1]
    assert not wrong, f"{where(kind)}: {'; '.join(wrong)}"


def explains_itself(field: FormField) -> bool:
    """A user name, a password and the like: the title says it all."""
    return field.name in ("username", "password", "proxy", "token", "host", "port", "tls")


@every_kind
def test_defaults_are_valid_and_survive_being_saved(name, kind):
    fields = type(kind).Fields
    one = example(fields)
    saved = json.dumps(one.model_dump(mode="json"))
    again = fields.model_validate(json.loads(saved))
    assert again == one, f"{where(kind)}: reading what was saved gives something else"
    assert again.model_dump(mode="json") == json.loads(saved), where(kind)
    assert json.loads(saved) == json.loads(one.model_dump_json()), where(kind)
    for f in form_fields(fields):
        if not f.required:
            assert getattr(one, f.name) == f.default, f"{where(kind)}: {f.name} is not its default"


@every_kind
def test_limits_hold(name, kind):
    fields = type(kind).Fields
    one = example(fields).model_dump()
    for f in form_fields(fields):
        for value in (
            None if f.minimum is None else f.minimum - 1,
            None if f.maximum is None else f.maximum + 1,
        ):
            if value is None:
                continue
            value = int(value) if f.type is FieldType.INTEGER else value
            with pytest.raises(ValidationError, match=f.name):
                fields.model_validate({**one, f.name: value})


@every_kind
def test_what_is_wrong_is_told_in_words(name, kind):
    fields = type(kind).Fields
    with pytest.raises(ValidationError) as caught:
        fields.model_validate({**example(fields).model_dump(), "no_such_field": 1})
    told = explain(caught.value, fields)
    assert isinstance(told, ConfigurationError)
    assert "no_such_field" in told.sentence
    assert form_fields(fields)[0].option in told.sentence
    for f in form_fields(fields):
        if f.required:
            with pytest.raises(ValidationError) as caught:
                fields.model_validate({})
            assert f.title in explain(caught.value, fields).sentence, f"{where(kind)}: {f.name}"


@every_kind
def test_fields_are_frozen_and_refuse_unknown_names(name, kind):
    config = type(kind).Fields.model_config
    assert config.get("frozen"), where(kind)
    assert config.get("extra") == "forbid", where(kind)


@every_kind
def test_what_sounds_secret_is_marked_as_secret(name, kind):
    fields = type(kind).Fields
    secret = set(secret_fields(fields))
    for f in form_fields(fields):
        sounds = re.search(r"password|secret|token|api_?key|passphrase", f.name) is not None
        assert not sounds or f.name in secret or f.type in (FieldType.FILE, FieldType.SWITCH), (
            f"{where(kind)}: {f.name} belongs into the keyring (type=FieldType.SECRET)"
        )
    for secret_name in secret:
        assert fields.model_fields[secret_name].get_default() in ("", None), f"{where(kind)}: {secret_name}"


@every_kind
def test_the_class_registers_itself_in_its_last_line(name, kind):
    """In the last line of its file; a package does so in its own file."""
    module = sys.modules[".".join(type(kind).__module__.split(".")[:3])]
    last = inspect.getsource(module).rstrip().splitlines()[-1]
    assert last.startswith("register("), f"{module.__file__}: the last line is {last!r}"


@every_node_kind
def test_a_node_kind_has_an_address_and_warnings(name, kind):
    fields = example(type(kind).Fields)
    address = kind.address(fields)
    assert isinstance(address, str)
    assert 0 < len(address) <= 80, f"{where(kind)}: {address!r} is not one short line"
    assert "\n" not in address
    for has_secret in (True, False):
        found = kind.warnings(fields, has_secret=has_secret)
        assert all(isinstance(w, str) and w.strip().endswith((".", "?", "!")) for w in found), f"{where(kind)}: {found}"


@every_node_kind
def test_a_node_is_opened_without_talking_to_it_and_closed_twice(name, kind):
    fields = example(type(kind).Fields)
    node = kind.open(fields, OpenContext("a name", lambda field: None))
    try:
        assert isinstance(node, Node)
        assert node.name == "a name"
        assert node.fields == fields
        assert isinstance(node.place, str)
        assert node.place
    finally:
        node.close()
        node.close()


@every_node_kind
def test_no_secret_shows_in_what_is_printed_of_a_node(name, kind):
    fields = example(type(kind).Fields)
    secret = "swordfish-4711"
    node = kind.open(fields, OpenContext("a name", lambda field: secret))
    try:
        assert secret not in repr(node) + str(node) + repr(vars(node)), where(kind)
        assert secret not in kind.address(fields)
    finally:
        node.close()


@every_node_kind
def test_a_node_can_do_something_and_what_belongs_together(name, kind):
    node = kind.open(example(type(kind).Fields), OpenContext("a name", lambda field: None))
    try:
        assert can(node, Inventory) or can(node, Write), f"{where(kind)}: neither a source nor a destination"
        if can(node, Delete):
            assert can(node, Read), f"{where(kind)}: deletes what it can't give"
            assert can(node, Inventory), f"{where(kind)}: deletes what it can't list"
        for capability, names in PROPERTIES.items():
            for property_name in names if can(node, capability) else ():
                found = inspect.getattr_static(type(node), property_name)
                assert isinstance(found, property), f"{type(node).__name__}.{property_name} is a property"
    finally:
        node.close()


@every_node_kind
def test_a_node_is_saved_without_its_secrets(name, kind):
    fields = type(kind).Fields
    record = NodeRecord(
        name="a name",
        kind=name,
        fields=example(fields).model_dump(mode="json", exclude=set(secret_fields(fields))),
    )
    again = NodeRecord.model_validate_json(record.model_dump_json())
    assert again == record
    assert fields.model_validate(again.fields) == example(fields), f"{where(kind)}: can't be read without its secrets"


@every_job_kind
def test_a_job_kind_gives_its_options_and_says_whether_it_follows(name, kind):
    assert isinstance(kind.can_follow, bool)
    if not isinstance(kind, TransferKind):
        return
    fields = example(type(kind).Fields)
    assert isinstance(fields, TransferFields)
    for follow in {False, kind.can_follow}:
        options = kind.options(fields, follow=follow)
        assert options.sources == fields.source
        assert set(fields.destination) <= set(options.destinations)
        assert options.follow is follow
        assert options.workers == fields.workers
        assert options.max_attempts == fields.max_attempts
        assert options.retry_delays == fields.retry_delays
        assert options.bandwidth == fields.bandwidth * 1e6


@every_job_kind
def test_a_schedule_and_a_filter_that_cannot_be_read_are_refused_at_once(name, kind):
    fields = type(kind).Fields
    one = example(fields).model_dump()
    for field, nonsense in (("schedule", "whenever"), ("filter", "Modality like CT"), ("retry_delays", [])):
        if field in fields.model_fields:
            with pytest.raises(ValidationError) as caught:
                fields.model_validate({**one, field: nonsense})
            assert fields.model_fields[field].title in explain(caught.value, fields).sentence


class _Bad(Declared):
    password: str = declared("", title="Password")


def test_the_contract_sees_a_secret_that_is_not_marked():
    assert secret_fields(_Bad) == ()
    assert form_fields(_Bad)[0].type is FieldType.TEXT
