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
        Raw answer, or a list in full.
    tell : str
        Text for whoever runs the other side, ready to be pasted into a message.
    fills : tuple[tuple[str, str], ...]
        Names and values of the node's fields that a person may take over from this step: the fingerprint of the
        certificate that was shown, for the field that names the one to trust.
    """

    name: str
    result: StepResult
    finding: str = ""
    next_step: str = ""
    detail: str = ""
    tell: str = ""
    fills: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a node stands right now, for a person who looks at it.

    Attributes
    ----------
    lines : tuple[tuple[str, str], ...]
        Titles and what is to be said ("Holds", "3 studies with 12 images").
    tell : str
        What those who are to use it need to know, ready to be pasted into a message.
    """

    lines: tuple[tuple[str, str], ...]
    tell: str = ""


_ACCEPTS = "accepts-"


@dataclass(frozen=True, slots=True)
class AcceptedContexts:
    """Kinds of image (SOP Class UIDs) that a node takes in the same encodings (Transfer Syntax UIDs)."""

    sop_classes: tuple[str, ...]
    transfer_syntaxes: tuple[str, ...]

    def as_fact(self, number: int) -> tuple[str, str]:
        """How it stands among the facts of a profile."""
        return f"{_ACCEPTS}{number}", f"{' '.join(self.sop_classes)} in {' '.join(self.transfer_syntaxes)}"

    @classmethod
    def of_fact(cls, value: str) -> AcceptedContexts:
        classes, _, syntaxes = value.partition(" in ")
        return cls(tuple(classes.split()), tuple(syntaxes.split()))


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

    @property
    def accepted(self) -> tuple[AcceptedContexts, ...]:
        """What a DICOM node takes: SOP classes × transfer syntaxes, those with the most kinds first.

        Kinds that it refuses stand in one group without transfer syntaxes. Empty where it was not found out.
        """
        return tuple(AcceptedContexts.of_fact(value) for name, value in self.facts if name.startswith(_ACCEPTS))

    def accepts(self, sop_class: str, transfer_syntax: str) -> bool | None:
        """Whether the node takes this kind of image in this encoding; None where that was not found out."""
        for group in self.accepted:
            if sop_class in group.sop_classes:
                return transfer_syntax in group.transfer_syntaxes
        return None
