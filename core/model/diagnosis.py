"""Diagnosis of a node in named steps, each with what to do when it fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class StepResult(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"  # an earlier step failed, so it could not be tried


@dataclass(frozen=True, slots=True)
class DiagnosisStep:
    """One line of the checklist.

    Attributes
    ----------
    name : str
        For a person: "Name found", "Port answers", "Certificate trusted", "Login accepted".
    result : StepResult
    finding : str
        What was found ("pacs-west.hospital.lan → 10.4.2.17", "8042/tcp in 3 ms").
    next_step : str
        What to do when it failed.
    detail : str
        Raw answer, or text to paste for an administrator.
    """

    name: str
    result: StepResult
    finding: str = ""
    next_step: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """A dated diagnosis, kept with the node: what it is and what it can do.

    `facts` holds what later runs rely on, for example ``("version", "1.12.7")``.
    """

    at: datetime
    steps: tuple[DiagnosisStep, ...]
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def works(self) -> bool:
        return not any(s.result is StepResult.FAILED for s in self.steps)

    def fact(self, name: str, default: str = "") -> str:
        return dict(self.facts).get(name, default)
