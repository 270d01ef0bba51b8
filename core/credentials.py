"""Secrets that the system hands to a service as files: systemd's credentials. They are only ever read.

systemd decrypts them when it starts the unit, into a folder in memory that the unit's account alone may read, and
names it in ``CREDENTIALS_DIRECTORY`` (systemd.exec(5), "Credentials"). A command that the same account gives beside
the running unit finds them in the folder of that unit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from core.model.errors import SecretError
from core.unattended.place import SERVICE

VARIABLE = "CREDENTIALS_DIRECTORY"
_MOST_BYTES = 1 << 20  # that systemd takes


def credential_name(variable: str) -> str:
    """The credential that stands for an environment variable: the same name, which has to be ASCII."""
    return "".join(c if c.isascii() else "_" for c in variable)[:255]


def credential(variable: str, environment: Mapping[str, str]) -> str | None:
    """What the credential holds that stands for this variable; None where there is none.

    Raises
    ------
    SecretError
        It is there and can't be read.
    """
    for folder in _folders(environment):
        path = folder / credential_name(variable)
        try:
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES).decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise SecretError(
                f"The credential {path.name}, which systemd hands over, can't be read.",
                "Give it anew: dicom-ferry service secret, with the name of the node.",
                detail=repr(error),
                code="credential",
            ) from error
        return text.removesuffix("\n").removesuffix("\r") or None
    return None


def _folders(environment: Mapping[str, str]) -> list[Path]:
    named = environment.get(VARIABLE, "").strip()
    if named:
        return [Path(named)]
    if sys.platform.startswith("linux"):
        of_unit = Path("/run/credentials") / f"{SERVICE}.service"
        if os.access(of_unit, os.X_OK) and os.geteuid() != 0:
            return [of_unit]
    return []
