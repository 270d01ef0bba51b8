"""What a certificate says of itself, read from its DER form for a person to look at (RFC 5280, section 4.1).

For showing only: whether a certificate is to be trusted is decided by the TLS library or by a person.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

_SEQUENCE, _SET, _OID, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x31, 0x06, 0x17, 0x18, 0xA0
_BMP_STRING, _UNIVERSAL_STRING, _UTF8_STRING = 0x1E, 0x1C, 0x0C
_SHORT_NAMES = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("2a864886f70d010901"): "emailAddress",
    bytes.fromhex("0992268993f22c640119"): "DC",
}


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A server's certificate, to be shown before it is trusted.

    Attributes
    ----------
    subject, issuer : str
        As "CN=pacs.lan, O=Hospital", in the certificate's order.
    not_before, not_after : datetime
        In UTC.
    sha256 : str
        Fingerprint of the whole certificate, 64 hexadecimal digits in small letters.
    """

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    sha256: str


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in DER form, in small hexadecimal letters."""
    return hashlib.sha256(der).hexdigest()


def certificate_facts(der: bytes) -> CertificateFacts:
    """Read a certificate; raises `ValueError` when it is malformed."""
    try:
        _, certificate, _ = _element(der, _SEQUENCE)
        _, signed, _ = _element(certificate, _SEQUENCE)
        if signed[:1] == bytes([_VERSION]):
            _, _, signed = _element(signed)
        for _ in range(2):  # serial number, signature algorithm
            _, _, signed = _element(signed)
        _, issuer, signed = _element(signed, _SEQUENCE)
        _, validity, signed = _element(signed, _SEQUENCE)
        _, subject, _ = _element(signed, _SEQUENCE)
        not_before, rest = _time(validity)
        not_after, _ = _time(rest)
        return CertificateFacts(_name(subject), _name(issuer), not_before, not_after, fingerprint(der))
    except IndexError as error:
        raise ValueError("the certificate is cut short") from error


def _element(data: bytes, expected: int | None = None) -> tuple[int, bytes, bytes]:
    """Tag, contents and what follows (X.690, section 8.1)."""
    tag, length, start = data[0], data[1], 2
    if expected is not None and tag != expected:
        raise ValueError(f"the certificate has {tag:#x} where {expected:#x} belongs")
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    end = start + length
    if end > len(data):
        raise ValueError("the certificate is cut short")
    return tag, data[start:end], data[end:]


def _name(data: bytes) -> str:
    parts = []
    while data:
        _, group, data = _element(data, _SET)
        while group:
            _, pair, group = _element(group, _SEQUENCE)
            _, kind, rest = _element(pair, _OID)
            tag, value, _ = _element(rest)
            parts.append(f"{_SHORT_NAMES.get(kind) or _dotted(kind)}={_text(tag, value)}")
    return ", ".join(parts)


def _text(tag: int, value: bytes) -> str:
    encoding = {_BMP_STRING: "utf-16-be", _UNIVERSAL_STRING: "utf-32-be", _UTF8_STRING: "utf-8"}.get(tag, "latin-1")
    text = value.decode(encoding, "replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _dotted(oid: bytes) -> str:
    numbers = [oid[0] // 40, oid[0] % 40] if oid else []
    number = 0
    for byte in oid[1:]:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(number)
            number = 0
    return ".".join(map(str, numbers))


def _time(data: bytes) -> tuple[datetime, bytes]:
    tag, value, rest = _element(data)
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 to 99 are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("the certificate's validity is malformed")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC), rest
