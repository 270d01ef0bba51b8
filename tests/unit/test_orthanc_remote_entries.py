"""Entries of an Orthanc's lists as odd servers tell them, and what is written back."""

from __future__ import annotations

import pytest

from core.model.errors import ConfigurationError
from core.model.remotes import REMOTE_FIELDS, DicomwebServerFields, ModalityFields, PeerFields, RemoteKind
from core.nodes.orthanc.remote_entries import entry_of, payload_of, snippet

MODALITY, PEER, DICOMWEB = RemoteKind


@pytest.mark.parametrize("kind", RemoteKind)
@pytest.mark.parametrize(
    "odd", [None, 7, "x", [], {}, {"Port": "x", "HttpHeaders": 7}, {"Url": 5, "AET": []}, [1, 2, 3, 4]]
)
def test_odd_entries_are_listed_all_the_same(kind: RemoteKind, odd: object) -> None:
    entry = entry_of(kind, "a/b", odd)
    assert (entry.kind, entry.name) == (kind, "a/b")
    assert set(entry.fields) <= set(REMOTE_FIELDS[kind].model_fields)


def test_the_short_form_of_old_versions() -> None:
    assert entry_of(MODALITY, "m", ["M", "h", 104, "GE"]).where == "M at h:104"
    entry = entry_of(PEER, "p", ["http://p/", "ada", "secret"])
    assert (entry.fields["url"], entry.fields["username"], entry.untold) == ("http://p/", "ada", ("password",))
    assert "secret" not in repr(entry)


def test_options_of_a_plugin_come_as_text() -> None:
    told = {"Url": "http://w/", "HasDelete": "1", "ChunkedTransfers": "0", "HasWadoRsUniversalTransferSyntax": "false"}
    fields = entry_of(DICOMWEB, "w", told).fields
    assert [fields[n] for n in ("has_delete", "chunked_transfers", "any_transfer_syntax")] == [True, False, False]


def test_what_has_no_field_is_written_back() -> None:
    old = {"Url": "http://a/", "Pkcs11": False, "RemoteSelf": "me", "Password": None, "Timeout": 5}
    found = payload_of(PEER, PeerFields(name="p", url="http://b/"), old)
    assert found == {"Url": "http://b/", "Timeout": 0, "Pkcs11": False, "RemoteSelf": "me"}
    old = {"AET": "M", "RetrieveMethod": "C-GET", "AllowFind": False}
    found = payload_of(MODALITY, ModalityFields(name="m", aet="N", host="h"), old)
    assert (found["AET"], found["RetrieveMethod"], found["AllowFind"]) == ("N", "C-GET", True)


def test_what_would_get_lost_is_asked_for() -> None:
    for fields, old, said in (
        ({"username": "ada"}, {}, "The password of “p” is missing."),
        ({"header_name": "X"}, {}, "The header X of “p” has no value."),
        ({}, {"HttpHeaders": ["A", "B"]}, "several extra headers"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            payload_of(PEER, PeerFields(name="p", url="http://b/", **fields), old)
        assert said in raised.value.sentence


def test_text_for_the_administrator_has_no_secret() -> None:
    known = [
        DicomwebServerFields(
            name="w",
            url="https://w/dw",
            username="ada",
            password="pa55",
            header_name="X",
            header_value="k3y",
            certificate_file="/c.pem",
            certificate_key_password="p3m",
            has_delete=True,
        ),
        DicomwebServerFields(name="v", url="https://v/dw", chunked_transfers=False),
    ]
    told = snippet("MRI", DICOMWEB, known)
    for secret in ("pa55", "k3y", "p3m"):
        assert secret not in told
        assert secret not in repr(known)
    for part in ('"Password": "…"', '"X": "…"', '"HasDelete": true', '"ChunkedTransfers": false', '"v": {'):
        assert part in told
    assert '"Timeout"' not in told
    modality = ModalityFields(name="m", aet="M", host="h", allow_store=False)
    told = snippet("MRI", MODALITY, [modality])
    assert '"AllowStore": false' in told
    assert "AllowFind" not in told
