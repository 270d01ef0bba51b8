"""What may stand in the fields of an Orthanc node, and what a person is warned of."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from core.model.errors import ConfigurationError
from core.model.fields import explain, form_fields, secret_fields
from core.nodes.base import OpenContext
from core.nodes.orthanc.fields import OrthancFields, place_of
from core.nodes.orthanc.identifiers import instance_id, series_id, study_id
from core.nodes.orthanc.kind import OrthancKind
from core.nodes.registry import node_kinds


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://mri:8042", "http://mri:8042"),
        ("http://mri:8042/", "http://mri:8042"),
        ("  https://pacs.lan/orthanc/ ", "https://pacs.lan/orthanc"),
        ("HTTP://Mri.Lan:8042", "http://mri.lan:8042"),
        ("http://[::1]:8042/", "http://[::1]:8042"),
        ("http://10.0.0.1", "http://10.0.0.1"),
        ("http://mri:8042/app/explorer.html", "http://mri:8042"),
        ("https://pacs.lan/orthanc/ui/app/", "https://pacs.lan/orthanc"),
    ],
)
def test_addresses_are_kept_in_one_form(given: str, kept: str) -> None:
    assert OrthancFields(url=given).url == kept


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("", "empty"),
        ("mri:8042", "http://"),
        ("ftp://mri", "ftp"),
        ("http://", "host is missing"),
        ("http://mri:99999", "port"),
        ("http://mri:0", "port"),
        ("http://mri:80x", "port"),
        ("http://mri:8042/?a=b", "follow"),
        ("http://mri lan:8042", "space"),
        ("http://a..b/", "not the name"),
        ("http://[::zz]/", "read"),
        ("http://user:secret@mri:8042", "--password"),
    ],
)
def test_nonsense_is_refused_with_a_clear_message(given: str, word: str) -> None:
    with pytest.raises(ValidationError) as raised:
        OrthancFields(url=given)
    told = explain(raised.value, OrthancFields)
    assert word in told.sentence
    assert "secret" not in told.sentence
    assert "Address (--url)" in told.sentence


def test_a_fingerprint_is_checked() -> None:
    assert OrthancFields(url="https://a", pinned_certificate="AB:" * 31 + "ab").pinned_certificate == "ab" * 32
    with pytest.raises(ValidationError, match="64 hexadecimal digits"):
        OrthancFields(url="https://a", pinned_certificate="1234")


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValidationError, match="--client-cert"):
        OrthancFields(url="https://a", client_key="key.pem")


def test_secrets_are_declared_as_such() -> None:
    assert secret_fields(OrthancFields) == ("password", "header_value", "client_key_password")
    assert {f.name: f.default for f in form_fields(OrthancFields)}["trust_env"] is False


def test_the_kind_is_found_by_the_walk() -> None:
    assert isinstance(node_kinds.get("orthanc"), OrthancKind)


@pytest.mark.parametrize(
    ("url", "secret", "words"),
    [
        ("http://mri.lan:8042", True, ["login would travel unencrypted", "patient data would travel unencrypted"]),
        ("http://mri.lan:8042", False, ["patient data would travel unencrypted"]),
        ("http://localhost:8042", True, []),
        ("http://127.0.0.1:8042", True, []),
        ("http://[::1]:8042", True, []),
        ("https://mri.lan", True, []),
    ],
)
def test_a_person_is_warned_of_plain_http(url: str, secret: bool, words: list[str]) -> None:
    kind = OrthancKind()
    fields = OrthancFields(url=url, username="ada" if secret else "")
    found = kind.warnings(fields, has_secret=secret)
    assert len(found) == len(words)
    for word, sentence in zip(words, found, strict=True):
        assert word in sentence


def test_opening_says_what_is_missing() -> None:
    kind = OrthancKind()
    with pytest.raises(ConfigurationError, match="X-Key has no value"):
        kind.open(OrthancFields(url="http://a", header_name="X-Key"), OpenContext("A", lambda _field: None))
    with pytest.raises(ConfigurationError, match="not there"):
        kind.open(OrthancFields(url="https://a", ca_file="/nowhere/ca.pem"), OpenContext("A", lambda _field: None))


def test_secrets_are_not_shown() -> None:
    node = OrthancKind().open(
        OrthancFields(url="http://a", username="ada"), OpenContext("A", {"password": "hunter2"}.get)
    )
    assert "hunter2" not in repr(node) + repr(vars(node))
    node.close()


def test_places_of_servers() -> None:
    assert place_of("http://LOCALHOST:8042/") == place_of("http://127.0.0.1:8042")
    assert place_of("http://mri/a/") == ("mri", 80, "/a")
    assert place_of("https://mri") == ("mri", 443, "")
    assert place_of("http://localhost:8042", server="mri") == ("mri", 8042, "")


def test_identifiers_are_those_of_orthanc() -> None:
    assert study_id("P78", "1.2.3.78") == "00f20c16-c17e3d55-31557490-7443f7fb-c73b0655"
    assert study_id("P78 ", "1.2.3.78\0") == study_id("P78", "1.2.3.78")
    assert series_id("P78", "1.2.3.78", "1.2.3.78.2") == "9c7b2ff8-5b48b487-2ffd2785-10b156ed-cf75d117"
    assert (
        instance_id("P78", "1.2.3.78", "1.2.3.78.2", "1.2.3.78.2.3") == "594f96b9-93549202-3093b396-2aff6fda-78a5bf18"
    )
