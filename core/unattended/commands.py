"""Running the system's own commands: systemctl, useradd, schtasks and their kin."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from core.model.errors import LocalError

_SECONDS = 120.0  # a unit that is stopped may take its TimeoutStopSec
_ENCODING = "oem" if sys.platform == "win32" else "utf-8"


def run(command: list[str], *, stdin: str = "", step: str = "", seconds: float = _SECONDS) -> None:
    """Run a command of this program's own making; nothing of what is written to it is seen by other processes.

    Raises
    ------
    LocalError
        It failed, with what it said, and `step` as what to do; or it did not end in time.
    """
    reason = refusal(command, stdin=stdin, seconds=seconds)
    if reason:
        denied = "denied" in reason.lower() or "0x80070005" in reason.lower()
        words = [Path(command[0]).name, *(word for word in command[1:] if not word.startswith("-"))]
        raise LocalError(
            f"{' '.join(words[:2])} failed ({reason.splitlines()[-1][:300]}).",
            "Give the command as an administrator." if denied else step,
            detail=reason[-2000:],
            code="service",
        )


def refusal(command: list[str], *, stdin: str = "", seconds: float = _SECONDS) -> str:
    """Why a command failed, in its own words; empty where it didn't.

    Raises
    ------
    LocalError
        It did not end in time, and was ended.
    """
    # Into a file: what a command starts and leaves running would hold a pipe open, and be waited for.
    with tempfile.TemporaryFile() as out:
        try:
            said = subprocess.run(  # noqa: S603 - no shell, and each word is ours or was checked
                command, input=stdin.encode(_ENCODING), stdout=out, stderr=subprocess.STDOUT, check=False,
                timeout=seconds, cwd=None if sys.platform == "win32" else "/",
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LocalError(
                f"{Path(command[0]).name} did not answer within {seconds:.0f} s.",
                "Try again in a while; if that does not help, start the computer anew.",
                detail=" ".join(command),
                code="service-late",
            ) from error
        except OSError as error:
            return str(error)
        out.seek(0)
        text = out.read(100_000).decode(_ENCODING, errors="replace").strip()
    return "" if said.returncode == 0 else text or f"exit status {said.returncode}"


def answer(command: list[str]) -> str:
    """What a command says; empty where it can't be asked."""
    try:
        said = subprocess.run(  # noqa: S603 - as above
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30, text=True,
            encoding=_ENCODING, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.strip()
