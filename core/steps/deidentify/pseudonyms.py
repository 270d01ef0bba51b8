"""Pseudonyms, new UIDs and days to shift by: derived from one key, so that they are the same in every run."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from core.model.errors import ConfigurationError, SecretError

if TYPE_CHECKING:
    from core.steps.base import StepSurroundings

KEY_BYTES = 32
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # base 32 without I, L, O and U, which are read for others
_GROUPS, _GROUP = 3, 4  # 60 bits: among a million patients two alike are one chance in two million
_making = threading.Lock()  # two jobs that are opened at once must not make a key each
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_WELL_KNOWN = "1.2.840.10008."  # the DICOM standard's own root: classes, transfer syntaxes, schemes, frames


def secret_name(key: str) -> str:
    """Under which name a key is kept in the keyring."""
    return f"deidentification-key-{key.lower()}"


def key_of(name: str, surroundings: StepSurroundings) -> bytes:
    """The key of this name; made and kept at first use.

    Raises
    ------
    ConfigurationError
        What is kept under that name is no key.
    SecretError
        The keyring can't be used: a key that doesn't last would give new pseudonyms every time.
    """
    where = secret_name(name)
    with _making:
        kept = surroundings.secret(where)
        if not kept:
            surroundings.keep_secret(where, secrets.token_hex(KEY_BYTES))
            kept = surroundings.secret(where)  # what counts is what the next run will find
    if not kept:
        raise SecretError(
            "The key for pseudonyms can't be kept on this computer.",
            "Unlock or install a keyring: without one, every run would give other pseudonyms.",
            code="deidentify-key",
        )
    kept = kept.strip().lower()
    if not _HEX.match(kept):
        raise ConfigurationError(
            f"What is kept as key “{name}” for pseudonyms is no such key.",
            "Choose another name for the key, or put back the right one: 64 hexadecimal digits.",
            code="deidentify-key",
        )
    return bytes.fromhex(kept)


class Pseudonyms:
    """What one key makes of identities. Thread-safe; keeps nothing but a bounded memory of UIDs.

    Parameters
    ----------
    key : bytes
        256 bits.
    prefix : str
        What pseudonyms begin with.
    most_days : int
        Dates are shifted by one day to this many.
    """

    def __init__(self, key: bytes, prefix: str = "ANON", most_days: int = 365) -> None:
        self._key = key
        self._prefix = prefix
        self._most_days = most_days
        self.uid = lru_cache(maxsize=65536)(self._uid)

    def __repr__(self) -> str:
        return f"Pseudonyms({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without telling them."""
        digits = self._derive("fingerprint", "")[:4].hex().upper()
        return f"{digits[:4]}-{digits[4:]}"

    def patient(self, identity: str) -> str:
        """The pseudonym of a patient, as it stands in name and Patient ID."""
        number = int.from_bytes(self._derive("patient", identity)[:8], "big")
        digits = [_DIGITS[number >> 5 * i & 31] for i in range(_GROUPS * _GROUP)]
        groups = ("".join(digits[i : i + _GROUP]) for i in range(0, len(digits), _GROUP))
        return "-".join((self._prefix, *groups))

    def days(self, identity: str) -> int:
        """By how many days a patient's dates move: always to the past, never by none."""
        number = int.from_bytes(self._derive("days", identity)[:8], "big")
        return -(1 + number % self._most_days)

    def _uid(self, uid: str) -> str:
        """What becomes of a UID: the form of a UUID (PS3.5 B.2); those of the standard itself stay."""
        if not uid or is_well_known(uid):
            return uid
        number = bytearray(self._derive("uid", uid)[:16])
        number[6] = number[6] & 0x0F | 0x80  # version 8: made by a rule of one's own (RFC 9562)
        number[8] = number[8] & 0x3F | 0x80
        return f"2.25.{int.from_bytes(number, 'big')}"

    def _derive(self, purpose: str, identity: str) -> bytes:
        return hmac.new(self._key, f"{purpose}\0{identity}".encode(), hashlib.sha256).digest()


def is_well_known(uid: str) -> bool:
    """Whether a UID names something of the standard rather than an image or a person."""
    return uid.startswith(_WELL_KNOWN)
