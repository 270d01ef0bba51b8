"""Keys for pseudonyms outside of jobs: which one there is, a copy of it to keep safe, and that copy put back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from core.home import write_private_text
from core.jobs.registry import job_kinds
from core.model.errors import ConfigurationError, LocalError
from core.model.job import JobRecord, ProcessingFields
from core.steps.base import StepSurroundings
from core.steps.deidentify.pseudonyms import KEY_BYTES, Pseudonyms, secret_name

STANDARD = "standard"
"""The key of steps that name none."""

OTHER_KEY = "deidentify-other-key"
_LONGEST = 1000  # bytes of a file that may hold a key
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")


def fingerprint(surroundings: StepSurroundings, name: str) -> str | None:
    """The fingerprint of a key, as it stands in the images; None where there is no such key. Makes none.

    Raises
    ------
    ConfigurationError
        The name can't be that of a key, or what is kept under it is none.
    SecretError
        The keyring can't be asked.
    """
    kept = surroundings.secret(_place(name))
    return Pseudonyms(_key(kept, name)).fingerprint if kept else None


def copied(surroundings: StepSurroundings, name: str) -> str:
    """The key itself, 64 hexadecimal digits: whoever has it can tell which pseudonym is whose.

    Raises
    ------
    ConfigurationError, SecretError
    """
    kept = surroundings.secret(_place(name))
    if not kept:
        raise ConfigurationError(
            f"There is no key “{name}” for pseudonyms on this computer.",
            "The first job that de-identifies with it makes it.",
            code="deidentify-key",
        )
    return _key(kept, name).hex()


def put_back(surroundings: StepSurroundings, name: str, text: str, *, replace: bool) -> str:
    """Keep a key that was copied elsewhere; its fingerprint.

    Raises
    ------
    ConfigurationError
        It is no key, or there is another one of that name and `replace` is off.
    SecretError
    """
    place = _place(name)
    key = _key(text, name)
    new = Pseudonyms(key).fingerprint
    try:
        there = fingerprint(surroundings, name)
    except ConfigurationError:
        there = "damaged"
    if there == new:
        return new
    if there and not replace:
        raise ConfigurationError(
            f"There is another key “{name}” on this computer already (fingerprint {there}).",
            "Images made from now on would get other pseudonyms than those made with it. Copy it first, then replace "
            "it (--replace); or choose another name.",
            code=OTHER_KEY,
        )
    surroundings.keep_secret(place, key.hex())
    if fingerprint(surroundings, name) != new:
        raise ConfigurationError(
            f"The key “{name}” is given by an environment variable, which goes before the keyring.",
            "Change the variable instead.",
            code="deidentify-key",
        )
    return new


def kept_names(jobs: Iterable[JobRecord]) -> tuple[str, ...]:
    """Under which names the keyring may hold keys of these jobs, and the one that steps name which name none."""
    names = {STANDARD}
    for job in jobs:
        kind = job_kinds.all().get(job.kind)
        try:
            fields = kind.Fields.model_validate(job.fields) if kind is not None else None
        except ValidationError:  # of another version: it can't run either
            continue
        if isinstance(fields, ProcessingFields):
            names |= {str(step.fields.get("key", STANDARD)) for step in fields.step}
    return tuple(sorted(secret_name(name) for name in names if _NAME.match(name)))


def _place(name: str) -> str:
    if not _NAME.match(name):
        raise ConfigurationError(
            f"“{name[:40]}” can't be the name of a key.",
            "Names have letters, digits, dots, hyphens and underscores.",
            code="deidentify-key",
        )
    return secret_name(name)


def _key(text: str, name: str) -> bytes:
    digits = "".join(text.split()).lower()
    if not re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", digits):
        raise ConfigurationError(
            f"What is given or kept as key “{name}” for pseudonyms is no such key.",
            f"A key has {2 * KEY_BYTES} hexadecimal digits.",
            code="deidentify-key",
        )
    return bytes.fromhex(digits)


def copy_to_file(surroundings: StepSurroundings, name: str, path: Path) -> None:
    """Write a copy of a key to a file that only its owner can read.

    Raises
    ------
    ConfigurationError, SecretError
    LocalError
        The file can't be written.
    """
    text = copied(surroundings, name)
    try:
        write_private_text(path, text + "\n")
    except OSError as error:
        raise LocalError(
            f"The key can't be written to {path} ({error.strerror or error}).",
            "Choose another place.",
            detail=type(error).__name__,
            code="deidentify-key",
        ) from error


def put_back_from_file(surroundings: StepSurroundings, name: str, path: Path, *, replace: bool) -> str:
    """Keep the key that a file holds; its fingerprint.

    Raises
    ------
    ConfigurationError, SecretError
    LocalError
        The file can't be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise LocalError(
            f"The file {path} can't be read ({error.strerror or error}).",
            "Choose the file that the key was copied to.",
            detail=type(error).__name__,
            code="deidentify-key",
        ) from error
    text = data.decode("utf-8-sig", "replace") if len(data) <= _LONGEST else ""
    return put_back(surroundings, name, text, replace=replace)
