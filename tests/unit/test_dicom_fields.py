"""What may stand in the fields of a DICOM node, and what a person is warned of."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from core.model.errors import ConfigurationError
from core.model.fields import explain, form_fields, secret_fields
from core.nodes.base import DicomAddress, OpenContext
from core.nodes.dicom.fields import DicomFields, QueryCharacterSet, Retrieve
from core.nodes.dicom.kind import DicomKind, peer_of
from core.nodes.registry import node_kinds

KIND = DicomKind()


def fields(**given: object) -> DicomFields:
    return DicomFields.model_validate({"aet": "PACS", "host": "pacs.lan", **given})


def refused(**given: object) -> str:
    with pytest.raises(ValidationError) as raised:
        fields(**given)
    return explain(raised.value, DicomFields).sentence


@pytest.mark.parametrize("aet", ["A", "PACS_WEST", "store scp", "0123456789ABCDEF", " PACS "])
def test_ae_titles(aet: str) -> None:
    assert fields(aet=aet, calling_aet=aet).aet == aet.strip()


@pytest.mark.parametrize(
    ("aet", "word"),
    [
        ("", "at least one character"),
        ("    ", "at least one character"),
        ("0123456789ABCDEFG", "at most 16"),
        ("PACS\\WEST", "backslash"),
        ("RÖNTGEN", "ASCII"),
        ("PA\tCS", "ASCII"),
        ("PA\nCS", "ASCII"),
    ],
)
def test_ae_titles_that_are_none(aet: str, word: str) -> None:
    assert word in refused(aet=aet)
    assert "AE title (--aet)" in refused(aet=aet)
    assert word in refused(calling_aet=aet)
    assert "Our AE title (--calling-aet)" in refused(calling_aet=aet)


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("pacs", "pacs"),
        ("10.4.2.17", "10.4.2.17"),
        ("[fe80::1]", "fe80::1"),
        ("::1", "::1"),
        ("pacs.lan.", "pacs.lan."),
    ],
)
def test_hosts(host: str, kept: str) -> None:
    assert fields(host=host).host == kept


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ("", "empty"),
        ("http://pacs", "alone"),
        ("pacs:104", "--port"),
        ("pacs west", "not the name"),
        ("pacs..lan", "not the name"),
        ("a" * 64, "not the name"),
        ("300.1.1.1", "IPv4"),
        ("::zz", "IPv6"),
        ("user@pacs", "not the name"),
    ],
)
def test_hosts_that_are_none(host: str, word: str) -> None:
    told = refused(host=host)
    assert word in told
    assert "Host (--host)" in told


@pytest.mark.parametrize("port", [0, 65536, -1, "x"])
def test_ports_that_are_none(port: object) -> None:
    assert "Port (--port)" in refused(port=port)


def test_the_longest_pdu() -> None:
    assert fields(max_pdu=0).max_pdu == 0
    assert fields(max_pdu=4096).max_pdu == 4096
    assert "at least 4096" in refused(max_pdu=4095)


def test_what_belongs_together() -> None:
    assert "--client-cert" in refused(client_key="/k.pem")
    assert "--through" in refused(known_as="west")
    assert "64 hexadecimal" in refused(pinned_certificate="abc")


def test_defaults() -> None:
    one = fields()
    assert (one.port, one.calling_aet, one.connections, one.retrieve) == (104, "DICOMFERRY", 4, Retrieve.AUTO)
    assert not one.tls
    assert not one.reencode
    assert one.character_set is QueryCharacterSet.AUTO
    assert secret_fields(DicomFields) == ("client_key_password",)
    times = [f for f in form_fields(DicomFields) if f.name.endswith("timeout")]
    assert len(times) == 5
    assert all(f.minimum and f.maximum and f.default for f in times), "all times are finite"


def test_the_peer_that_fields_describe() -> None:
    context = OpenContext("West", {"client_key_password": "swordfish"}.get)
    plain = peer_of(fields(port=4242, calling_aet="US"), context)
    assert (plain.name, plain.host, plain.port, plain.called_aet, plain.calling_aet) == (
        "West", "pacs.lan", 4242, "PACS", "US",
    )  # fmt: skip
    assert plain.tls is None
    secured = peer_of(fields(tls=True, client_cert="/c.pem", pinned_certificate="AB:" * 31 + "ab"), context)
    assert secured.tls is not None
    assert secured.tls.pinned_sha256 == "ab" * 32
    assert secured.tls.client_key_password == "swordfish"
    assert "swordfish" not in repr(secured)


def test_places_tell_application_entities_apart() -> None:
    def place(**given: object) -> str:
        node = KIND.open(fields(**given), OpenContext("x", lambda _field: None))
        node.close()
        return node.place

    assert place(host="PACS.lan.") == place(host="pacs.lan") == "PACS@pacs.lan:104"
    assert place(host="127.0.0.1") == place(host="localhost") == place(host="::1")
    assert place(aet="pacs") != place(aet="PACS"), "capitals matter in AE titles"
    assert place(port=11112) != place(port=104)


def test_what_other_nodes_must_know() -> None:
    node = KIND.open(fields(port=11112), OpenContext("x", lambda _field: None))
    assert node.dicom_address() == DicomAddress("PACS", "pacs.lan", 11112)  # type: ignore[attr-defined]
    node.close()


def test_addresses_and_warnings() -> None:
    assert KIND.address(fields()) == "PACS@pacs.lan:104"
    assert KIND.address(fields(host="::1")) == "PACS@[::1]:104"
    assert "(through Gate)" in KIND.address(fields(through="Gate"))
    assert len(KIND.address(fields(host="h" * 60 + ".lan", through="g" * 64))) <= 80
    assert any("unencrypted" in w for w in KIND.warnings(fields(), has_secret=False))
    assert KIND.warnings(fields(host="localhost"), has_secret=False) == []
    assert KIND.warnings(fields(tls=True), has_secret=False) == []
    assert any("TLS is off" in w for w in KIND.warnings(fields(ca_file="/ca.pem"), has_secret=False))
    assert any("not used" in w for w in KIND.warnings(fields(tls=True), has_secret=True))


def test_a_certificate_that_is_not_there_is_told(tmp_path: object) -> None:
    node = KIND.open(fields(tls=True, ca_file=f"{tmp_path}/none.pem"), OpenContext("x", lambda _field: None))
    with pytest.raises(ConfigurationError, match="is not there"):
        node.probe()
    node.close()


def test_it_is_registered() -> None:
    assert isinstance(node_kinds.get("dicom"), DicomKind)
