"""The node book: names, fields, secrets before the node, who may be removed, and what a diagnosis leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.app import App
from core.model.diagnosis import StepResult
from core.model.errors import ConfigurationError, SecretError
from core.node_book import NodeBook
from core.secrets import Secrets
from tests.unit.test_secrets import MemoryKeyring


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    opened = App.open(tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def ring() -> MemoryKeyring:
    return MemoryKeyring()


@pytest.fixture
def book(app: App, ring: MemoryKeyring) -> NodeBook:
    return NodeBook(app.ledger, Secrets(app.home.id, backend=ring, environment={}))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    made = tmp_path / "studies"
    made.mkdir()
    return str(made)


ORTHANC = {"url": "http://127.0.0.1:9", "username": "tech"}


def test_added_nodes_are_there_by_name(book: NodeBook, folder: str) -> None:
    book.add("orthanc", " PACS West ", ORTHANC, {})
    book.add("folder", "export", {"path": folder}, {})
    assert [r.name for r in book.all()] == ["export", "PACS West"]
    assert book.get("pacs west").name == "PACS West"
    assert book.address(book.get("PACS West")) == "http://127.0.0.1:9"


def test_only_what_was_said_is_kept_and_never_a_secret(book: NodeBook, app: App, ring: MemoryKeyring) -> None:
    book.add("orthanc", "pacs", {**ORTHANC, "connections": 3, "gzip": False}, {"password": "s3cret"})
    assert book.get("pacs").fields == {**ORTHANC, "connections": 3}
    assert list(ring.kept.values()) == ["s3cret"]
    assert b"s3cret" not in app.home.ledger_file.read_bytes()
    assert book.has_secret("pacs", "password")
    assert not book.has_secret("pacs", "header_value")


def test_a_node_never_exists_without_the_secret_it_was_given(book: NodeBook, ring: MemoryKeyring) -> None:
    ring.error = PermissionError("denied")
    with pytest.raises(SecretError):
        book.add("orthanc", "pacs", ORTHANC, {"password": "s3cret"})
    assert book.all() == []


@pytest.mark.parametrize("name", ["", "   ", "-x", "a,b", "a/b", "a\\b", "a\nb", "x" * 65, "…", 'a"b', "a:b"])
def test_names_that_can_t_be(book: NodeBook, folder: str, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        book.add("folder", name, {"path": folder}, {})
    assert caught.value.code == "node-name"
    assert book.all() == []


@pytest.mark.parametrize("name", ["MRI 2 (west)", "東院", "Łódź-1", "a.b_c", "x" * 64])
def test_names_that_can(book: NodeBook, folder: str, name: str) -> None:
    assert book.add("folder", name, {"path": folder}, {}).name == name


@pytest.mark.parametrize("twin", ["pacs 1", "PACS 1", "pacs-1", "Pacs_1"])
def test_names_too_much_alike_are_refused(book: NodeBook, folder: str, twin: str) -> None:
    book.add("folder", "pacs 1", {"path": folder}, {})
    with pytest.raises(ConfigurationError) as caught:
        book.add("folder", twin, {"path": folder}, {})
    assert caught.value.code == "node-exists"


def test_an_unknown_name_names_those_that_exist(book: NodeBook, folder: str) -> None:
    with pytest.raises(ConfigurationError, match="Add one first"):
        book.get("pacs")
    book.add("folder", "export", {"path": folder}, {})
    with pytest.raises(ConfigurationError, match=r"There is no node “pacs”\. Choose one of: export\."):
        book.get("pacs")


def test_wrong_fields_are_named_by_their_titles(book: NodeBook) -> None:
    with pytest.raises(ConfigurationError, match=r"Connections at once \(--connections\)"):
        book.add("orthanc", "pacs", {**ORTHANC, "connections": 0}, {})
    with pytest.raises(ConfigurationError, match=r"Address \(--url\) is missing"):
        book.add("orthanc", "pacs", {}, {})
    with pytest.raises(ConfigurationError, match="There is no field"):
        book.add("orthanc", "pacs", {**ORTHANC, "colour": "red"}, {})
    with pytest.raises(ConfigurationError, match="There is no node kind “pacs”"):
        book.add("pacs", "pacs", {}, {})


def test_a_secret_among_the_fields_is_refused(book: NodeBook) -> None:
    with pytest.raises(ConfigurationError) as caught:
        book.add("orthanc", "pacs", {**ORTHANC, "password": "s3cret"}, {})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="has no secret “pin”"):
        book.add("orthanc", "pacs", ORTHANC, {"pin": "1"})


def test_editing_replaces_what_is_given(book: NodeBook, ring: MemoryKeyring) -> None:
    book.add("orthanc", "pacs", {**ORTHANC, "connections": 3}, {"password": "old", "header_value": "key"})
    book.edit("pacs", {"url": "https://127.0.0.1:9/x"}, {"password": "new"})
    assert book.get("pacs").fields == {"url": "https://127.0.0.1:9/x", "username": "tech", "connections": 3}
    assert sorted(ring.kept.values()) == ["key", "new"]
    book.edit("pacs", {"connections": 8}, {"header_value": ""})
    assert "connections" not in book.get("pacs").fields
    assert list(ring.kept.values()) == ["new"]
    with pytest.raises(ConfigurationError):
        book.edit("pacs", {"url": "nonsense"}, {"password": "never"})
    assert list(ring.kept.values()) == ["new"]


def test_removing_takes_the_secrets_along(book: NodeBook, ring: MemoryKeyring) -> None:
    book.add("orthanc", "pacs", ORTHANC, {"password": "s3cret", "header_value": "key"})
    book.remove("pacs")
    assert not ring.kept
    assert book.all() == []


def test_a_node_in_use_stays(app: App, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        app.nodes.add("folder", name, {"path": str(tmp_path / name)}, {})
    job = app.jobs.create("forward", {"source": ["a"], "destination": ["b"]}, name="Nightly", start=True)
    with pytest.raises(ConfigurationError, match="“Nightly”, which is not finished"):
        app.nodes.remove("b")
    assert job.name == "Nightly"


def test_diagnosis_is_kept_with_its_date(book: NodeBook, folder: str) -> None:
    book.add("folder", "export", {"path": folder}, {})
    assert book.profile("export") is None
    steps = list(book.diagnose("export"))
    profile = book.profile("export")
    assert profile is not None
    assert profile.steps == tuple(steps)
    assert profile.works
    assert profile.at.tzinfo is not None


def test_a_node_that_can_t_be_opened_is_a_failed_step(book: NodeBook, ring: MemoryKeyring) -> None:
    book.add("orthanc", "pacs", ORTHANC, {"password": "s3cret"})
    ring.error = PermissionError("denied")
    steps = list(book.diagnose("pacs"))
    assert [s.result for s in steps] == [StepResult.FAILED]
    assert "DICOM_FERRY_SECRET_PACS" in steps[0].next_step


def test_a_draft_is_opened_with_what_was_typed(book: NodeBook) -> None:
    node = book.open_draft("orthanc", "new", ORTHANC, {"password": "typed"})
    assert node.name == "new"
    node.close()
    assert book.all() == []


def test_credentials_over_plain_http_are_warned_of(book: NodeBook) -> None:
    warnings = book.warnings("orthanc", {"url": "http://pacs.example:8042", "username": "me"}, {"password": "x"})
    assert any("unencrypted" in w for w in warnings)
    assert book.warnings("orthanc", {"url": "http://127.0.0.1:8042", "username": "me"}, {"password": "x"}) == []
    assert book.warnings("orthanc", {"url": "https://pacs.example", "username": "me"}, {"password": "x"}) == []


@pytest.mark.posix  # Windows always has a keyring
def test_without_a_keyring_a_secret_is_refused_with_its_variable(app: App) -> None:
    if app.secrets.status().available:
        pytest.fail("the tests must not see a keyring of whoever runs them")
    with pytest.raises(SecretError) as caught:
        app.nodes.need_keyring("PACS West", {"password": "s3cret"})
    assert "DICOM_FERRY_SECRET_PACS_WEST" in caught.value.next_step
    assert caught.value.exit_status == 2
    app.nodes.need_keyring("PACS West", {"password": ""})
