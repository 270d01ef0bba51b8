"""Testing a DICOM node that is reached through another node, in named steps: `Diagnose`."""

from __future__ import annotations

import time
from collections.abc import Iterator

from core.model.diagnosis import DiagnosisStep, StepResult
from core.nodes.base import Dimse
from core.nodes.dicom.diagnosis import COMMITMENT, ECHO, IMAGES, LISTS, MOVE, STUDIES, WHOLE, DicomDiagnosis
from core.nodes.dicom.through_base import ThroughBase
from core.nodes.dicom.trials import Found, Trial, steps
from core.wire.dimse.retrieval import Model

VIA, KNOWN, LETTERS = "Node between answers", "Known there", "Names in any script"
_LETTERS = "ÄŁЖΔش王"  # Latin, Latin, Cyrillic, Greek, Arabic, Chinese


class ThroughDiagnosis(ThroughBase, DicomDiagnosis):
    """`Diagnose` of a DICOM node that another one talks to in our place."""

    def diagnose(self) -> Iterator[DiagnosisStep]:
        """The node between, whether it knows this one, and then what this one can do, each asked by it."""
        found = self._found = Found()
        found.gets = False  # images come here by C-MOVE, which the node between commands
        found.offered = frozenset({Model.STUDY_ROOT.find, Model.STUDY_ROOT.move})  # as it finds when it is asked
        way: list[tuple[str, Trial]] = [
            (VIA, self._node_between_answers),
            (KNOWN, self._known_there),
            (ECHO, self._echoes),
        ]
        abilities: list[tuple[str, Trial]] = [
            (LETTERS, self._names_in_any_script),
            (STUDIES, lambda: self.lists_studies(STUDIES, found)),
            (IMAGES, lambda: self.lists_images(IMAGES, found)),
            (LISTS, lambda: self.takes_lists(LISTS, found)),
            (WHOLE, lambda: self.gives_whole_lists(WHOLE, found)),
            (MOVE, lambda: self.sends_images_here(MOVE, found)),
            (COMMITMENT, self._commitment_there),
        ]
        yield from steps(way, abilities)

    def facts(self) -> tuple[tuple[str, str], ...]:
        return (*super().facts(), ("through", self.via.name))

    def for_the_administrator(self, found: Found) -> str:
        """What the other side has to enter, to be pasted into a message."""
        aet = self.entity.calling_aet()
        lines = [
            f"Please let the application entity {aet} (“{self.via.name}”) use {self.fields.aet} ({self.fields.host}, "
            f"port {self.fields.port}):",
            "  Services that it uses: C-ECHO, C-FIND, C-MOVE, C-STORE, storage commitment",
        ]
        landing = self.context.landing()
        if landing is not None:
            port = f", port {landing.dicom_address().port}" if isinstance(landing, Dimse) else ""
            lines.append(f"  Destination for C-MOVE: AE title {landing.aet}, this computer's address{port}")
        return "\n".join(lines)

    def _node_between_answers(self) -> DiagnosisStep:
        self.via.probe()
        return DiagnosisStep(VIA, StepResult.OK, f"“{self.via.name}” answers")

    def _known_there(self) -> DiagnosisStep:
        known, ours = self.entity.known(), self.fields
        if known.address.aet != ours.aet:
            return DiagnosisStep(
                KNOWN,
                StepResult.WARNING,
                f"“{self.via.name}” knows it as {known}, and here its AE title is {ours.aet}.",
                "Correct the AE title of this node, or its name there (--known-as): it may be another node.",
            )
        if not known.same:
            return DiagnosisStep(
                KNOWN,
                StepResult.WARNING,
                f"“{self.via.name}” knows it as {known}, and here it is at {ours.host}:{ours.port}.",
                f"If both are right, enter host and port here as “{self.via.name}” has them: this computer never calls "
                "them, and goes by them to recognise the node as a destination of others.",
            )
        return DiagnosisStep(KNOWN, StepResult.OK, f"“{self.via.name}” knows it as {known}")

    def _echoes(self) -> DiagnosisStep:
        began = time.perf_counter()
        self.probe()
        return DiagnosisStep(ECHO, StepResult.OK, f"in {(time.perf_counter() - began) * 1000:.0f} ms")

    def _names_in_any_script(self) -> DiagnosisStep:
        lost = [letter for letter in _LETTERS if self.entity.loses_letters(letter)]
        if not lost:
            return DiagnosisStep(LETTERS, StepResult.OK, f"“{self.via.name}” hands on all letters")
        return DiagnosisStep(
            LETTERS,
            StepResult.WARNING,
            f"“{self.via.name}” leaves out letters such as {', '.join(lost)} in the names that it lists.",
            "Images are not touched by that. To see and find such names, let its administrator set “DefaultEncoding” "
            "to “Utf8”.",
        )

    def _commitment_there(self) -> DiagnosisStep:
        return DiagnosisStep(
            COMMITMENT, StepResult.OK, f"asked for by “{self.via.name}”; whether it is given shows when it is asked for"
        )
