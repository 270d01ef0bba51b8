"""Entries of an Orthanc's lists: from its JSON to declared fields, back again, and as text for its configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue

from core.model.errors import ConfigurationError
from core.model.remotes import (
    DicomwebServerFields,
    ModalityFields,
    PeerFields,
    RemoteEntry,
    RemoteFields,
    RemoteKind,
)
from core.nodes.orthanc.answers import JsonObject, number, text

_PERMISSIONS = {
    "allow_echo": "AllowEcho",
    "allow_find": "AllowFind",
    "allow_find_worklist": "AllowFindWorklist",
    "allow_get": "AllowGet",
    "allow_move": "AllowMove",
    "allow_store": "AllowStore",
    "allow_n_action": "AllowNAction",
    "allow_event_report": "AllowEventReport",
    "allow_transcoding": "AllowTranscoding",
}
_FLAGS = {
    "chunked_transfers": "ChunkedTransfers",
    "has_delete": "HasDelete",
    "any_transfer_syntax": "HasWadoRsUniversalTransferSyntax",
}
_TEXTS = {"certificate_file": "CertificateFile", "certificate_key_file": "CertificateKeyFile"}
#: What is written from declared fields; anything else of an entry is left as it is.
_MANAGED = frozenset(
    {"AET", "Host", "Port", "Manufacturer", "LocalAet", "UseDicomTls", "Timeout", *_PERMISSIONS.values()}
    | {"Url", "Username", "Password", "HttpHeaders", "CertificateKeyPassword", *_TEXTS.values(), *_FLAGS.values()}
)
_SECTIONS = {RemoteKind.MODALITY: "DicomModalities", RemoteKind.PEER: "OrthancPeers"}
#: What need not be written.
_USUAL: JsonObject = {
    "Manufacturer": "Generic",
    "LocalAet": "",
    "Timeout": 0,
    "UseDicomTls": False,
    "CertificateKeyFile": "",
    "ChunkedTransfers": True,
    "HasDelete": False,
    "HasWadoRsUniversalTransferSyntax": True,
    **dict.fromkeys(_PERMISSIONS.values(), True),
}
_YOURS = "…"  # in the place of a secret


def entry_of(kind: RemoteKind, name: str, entry: object) -> RemoteEntry:
    """An entry of ``?expand``; a list in old versions."""
    told = entry if isinstance(entry, dict) else _unfolded(kind, entry)
    if kind is RemoteKind.MODALITY:
        fields: dict[str, JsonValue] = {
            "name": name,
            "aet": text(told, "AET"),
            "host": text(told, "Host"),
            "port": number(told, "Port") or 0,
            "manufacturer": text(told, "Manufacturer") or "Generic",
            "local_aet": text(told, "LocalAet"),
            "timeout": number(told, "Timeout") or 0,
            "tls": told.get("UseDicomTls") is True,
            **{field: told[key] for field, key in _PERMISSIONS.items() if isinstance(told.get(key), bool)},
        }
        return RemoteEntry(kind, name, f"{fields['aet']} at {fields['host']}:{fields['port']}", fields)
    headers = [str(h) for h in told["HttpHeaders"]] if isinstance(told.get("HttpHeaders"), (list, dict)) else []
    fields = {
        "name": name,
        "url": text(told, "Url"),
        "username": text(told, "Username"),
        "timeout": number(told, "Timeout") or 0,
        "header_name": headers[0] if headers else "",
        **{field: text(told, key) for field, key in _TEXTS.items()},
    }
    if kind is RemoteKind.DICOMWEB:
        fields |= {field: _flag(told[key]) for field, key in _FLAGS.items() if key in told}
    untold = [name for name, there in (("password", fields["username"]), ("header_value", headers)) if there]
    fixed = ""
    if len(headers) > 1:
        fixed = "It has several extra headers, whose values the server does not tell: change it in its configuration."
    return RemoteEntry(kind, name, str(fields["url"]), fields, tuple(untold), fixed)


def payload_of(kind: RemoteKind, fields: RemoteFields, old: JsonObject) -> JsonObject:
    """The JSON of an entry; `old` is what it replaces, of which everything that has no field here is kept.

    Raises
    ------
    ConfigurationError
        Something that the server does not tell would get lost.
    """
    kept = {key: value for key, value in old.items() if key not in _MANAGED and value is not None}
    if isinstance(fields, ModalityFields):
        return kept | _modality(fields)
    assert isinstance(fields, PeerFields)
    if entry_of(kind, fields.name, old).fixed:
        raise ConfigurationError(
            f"“{fields.name}” has several extra headers, whose values the server does not tell.",
            "Change it in the server's own configuration file.",
            code="remote-fixed",
        )
    if fields.username and not fields.password:
        raise ConfigurationError(
            f"The password of “{fields.name}” is missing.",
            "Enter it again: the server does not tell the one that it knows.",
            code="fields",
        )
    if fields.header_name and not fields.header_value:
        raise ConfigurationError(
            f"The header {fields.header_name} of “{fields.name}” has no value.",
            "Enter it again: the server does not tell the one that it knows.",
            code="fields",
        )
    return kept | _web(fields)


def snippet(server: str, kind: RemoteKind, entries: Sequence[RemoteFields]) -> str:
    """What an administrator writes into the server's configuration, with … in the place of secrets."""
    written = {}
    for fields in entries:
        entry = _modality(fields) if isinstance(fields, ModalityFields) else _web(_concealed(fields))
        written[fields.name] = {key: value for key, value in entry.items() if _USUAL.get(key) != value}
    if kind is RemoteKind.DICOMWEB:
        section: dict[str, Any] = {"DicomWeb": {"Servers": written}}
        keep = "“ServersInDatabase”: true in “DicomWeb”"
    else:
        section = {_SECTIONS[kind]: written}
        keep = f"“{_SECTIONS[kind]}InDatabase”: true"
    text = json.dumps(section, indent=2, ensure_ascii=False)
    return (
        f"Please add this to the configuration of the Orthanc server “{server}”, and start it again:\n{text}\n"
        f"Or let such changes be kept in its database ({keep}). Careful: from then on it reads this list from the "
        "database only, and no longer from its configuration."
    )


def _modality(fields: ModalityFields) -> JsonObject:
    return {
        "AET": fields.aet,
        "Host": fields.host,
        "Port": fields.port,
        "Manufacturer": fields.manufacturer,
        "LocalAet": fields.local_aet,
        "Timeout": fields.timeout,
        "UseDicomTls": fields.tls,
        **{key: getattr(fields, field) for field, key in _PERMISSIONS.items()},
    }


def _web(fields: PeerFields) -> JsonObject:
    entry: JsonObject = {"Url": fields.url, "Timeout": fields.timeout}
    if fields.username:
        entry |= {"Username": fields.username, "Password": fields.password}
    if fields.header_name:
        entry["HttpHeaders"] = {fields.header_name: fields.header_value}
    if fields.certificate_file:
        entry |= {"CertificateFile": fields.certificate_file, "CertificateKeyFile": fields.certificate_key_file}
        if fields.certificate_key_password:
            entry["CertificateKeyPassword"] = fields.certificate_key_password
    if isinstance(fields, DicomwebServerFields):
        entry |= {key: getattr(fields, field) for field, key in _FLAGS.items()}
    return entry


def _concealed(fields: RemoteFields) -> PeerFields:
    assert isinstance(fields, PeerFields)
    secrets = {"password": fields.username, "header_value": fields.header_name}
    known = {field: _YOURS for field, needed in secrets.items() if needed}
    if fields.certificate_key_password:
        known["certificate_key_password"] = _YOURS
    return fields.model_copy(update={"password": "", "header_value": "", **known})


def _unfolded(kind: RemoteKind, entry: object) -> JsonObject:
    """Old versions: AE title, host, port, manufacturer; or address, user name, password."""
    if not isinstance(entry, list):
        return {}
    names = ("AET", "Host", "Port", "Manufacturer") if kind is RemoteKind.MODALITY else ("Url", "Username")
    return dict(zip(names, entry, strict=False))


def _flag(value: object) -> bool:
    """Orthanc keeps a plugin's own options as text."""
    return value is True or (isinstance(value, str) and value.strip().lower() in ("1", "true"))
