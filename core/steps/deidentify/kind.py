"""The step that de-identifies: opened once for a job with its key, applied to each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.model.errors import ConfigurationError
from core.model.rules import Rule
from core.steps.base import Step, StepError, StepFields, StepKind, StepSurroundings
from core.steps.deidentify import doubts
from core.steps.deidentify.exceptions import parse_exceptions
from core.steps.deidentify.fields import Dates, DeidentifyFields, Documents, Doubt, Unlisted
from core.steps.deidentify.given import GivenPseudonyms
from core.steps.deidentify.marks import METHOD, mark
from core.steps.deidentify.profile import EDITION, Option, attributes
from core.steps.deidentify.pseudonyms import Pseudonyms, key_of, secret_name
from core.steps.deidentify.values import CharacterSetError, texts
from core.steps.deidentify.work import BIRTH_DATE, ISSUER, PATIENT_ID, PATIENT_NAME, Work, plan
from core.steps.tag_work import Tags

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_STUDY = 0x0020000D
_NOTED = {
    "private": ("1 private attribute removed.", "{} private attributes removed."),
    "unknown": ("1 attribute unknown to the standard removed.", "{} attributes unknown to the standard removed."),
    "overlays": ("1 overlay attribute removed.", "{} overlay attributes removed."),
    "content": ("Structured content replaced.", "Structured content replaced."),
    "kept on request": ("1 attribute kept on request.", "{} attributes kept on request."),
}


class Deidentify(Step):
    """De-identifies by the profile, its options and a key.

    Parameters
    ----------
    given : GivenPseudonyms | None
        Where a person gave a table.
    """

    deidentifies = True

    def __init__(self, fields: DeidentifyFields, pseudonyms: Pseudonyms, given: GivenPseudonyms | None) -> None:
        self._fields = fields
        self._pseudonyms = pseudonyms
        self._given = given
        self._options = fields.options
        self._exceptions = parse_exceptions(fields.exceptions)
        self._afterwards = Tags(self._exceptions.actions, Rule(), notes=False) if self._exceptions.actions else None
        self.maps_uids = Option.UIDS not in self._options
        self._plan = plan(self._options, self._exceptions.kept, pseudonyms.uid)

    def uid(self, uid: str) -> str:
        return self._pseudonyms.uid(uid) if self.maps_uids else uid

    def apply(self, dataset: Dataset) -> tuple[str, ...]:
        try:
            return self._apply(dataset)
        except StepError:
            raise
        except CharacterSetError:
            raise StepError(
                "The image has text that its character set doesn't know, so it can't be searched for names "
                "and is not sent.",
                "Correct Specific Character Set (0008,0005) at the source or by a step “Change tags” before this one.",
                code="deidentify-charset",
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever damaged data makes pydicom run into, maybe with names in it
            raise StepError(
                "The image has a part that can't be taken apart, so it can't be de-identified and is not sent.",
                "Look at it at the source, or leave such images out by the job's filter.",
                detail=type(error).__name__,
                code="deidentify-unreadable",
            ) from None

    def _apply(self, dataset: Dataset) -> tuple[str, ...]:
        said = [f"De-identified by PS3.15 {EDITION}, key {self._pseudonyms.fingerprint}."]
        said += self._look_for_doubts(dataset)
        identity = self._identity(dataset)
        patient = self._pseudonym_of(dataset, identity)
        work = Work(self._plan, dataset, self._nested_pseudonym, patient, self._pseudonyms.days(identity))
        earlier = texts(dataset, METHOD)
        work.do()
        if self._afterwards is not None:
            said += self._afterwards.apply(dataset)
        kept = bool(self._exceptions.kept & attributes().keys())
        mark(
            dataset,
            self._options,
            [work.cleaned(text, thorough=False) for text in earlier],
            self._pseudonyms.fingerprint,
            kept=kept,
            direct=self._exceptions.identify,
        )
        for what, (one, many) in _NOTED.items():
            if count := work.counts[what]:
                said.append(one if count == 1 else many.format(count))
        return tuple(said)

    def _look_for_doubts(self, dataset: Dataset) -> list[str]:
        """What can't be cleaned: refused, or passed with a note, as the person chose."""
        doubts.refuse_what_is_elsewhere(dataset)
        if doubts.overlay_in_pixels(dataset):
            raise StepError(
                "This image has drawings or text in the unused bits of its pixels, which can't be taken out, so it "
                "is not sent.",
                "Leave such images out by the job's filter.",
                code="deidentify-overlay",
            )
        if doubts.is_document(dataset):
            if self._fields.documents is Documents.REFUSE or not doubts.is_pdf(dataset):
                raise StepError(
                    "This is a document enclosed as a file, which can't be cleaned, so it is not sent.",
                    "Leave documents out by the job's filter, or choose to send an empty page for PDF.",
                    code="deidentify-document",
                )
            return ["The enclosed document was replaced by an empty page."]
        why = doubts.picture_doubt(dataset)
        if not why:
            return []
        if self._fields.burned_in is Doubt.REFUSE:
            raise StepError(
                f"This image may tell whose it is by what is in it ({why}), so it is not sent.",
                "When such images are known to be harmless, choose to send them in the step; else leave them out by "
                "the job's filter.",
                code="deidentify-burned-in",
            )
        return [f"Sent as it looks, although {why}."]

    def _identity(self, dataset: Dataset) -> str:
        """What makes two images those of the same patient."""
        number = _one(dataset, PATIENT_ID)
        if number:
            return self._numbered(number, _one(dataset, ISSUER))
        name, born = _one(dataset, PATIENT_NAME), _one(dataset, BIRTH_DATE)
        if name and born:
            return f"name\0{name.upper()}\0{born}"
        study = _one(dataset, _STUDY)
        if not study:
            raise StepError(
                "The image has neither Patient ID nor Study Instance UID, so it can't get a pseudonym and is not sent.",
                "Correct it at the source.",
                code="deidentify-nobody",
            )
        return f"study\0{study}"

    def _numbered(self, number: str, issuer: str) -> str:
        return f"id\0{number}\0{issuer}" if self._fields.issuer else f"id\0{number}"

    def _pseudonym_of(self, dataset: Dataset, identity: str) -> str:
        if self._given is None:
            return self._pseudonyms.patient(identity)
        number = _one(dataset, PATIENT_ID)
        found = self._given.find(number, _one(dataset, ISSUER)) if number else None
        if found is None:
            if self._fields.unlisted is Unlisted.REFUSE:
                raise StepError(
                    "The patient is not in the table of pseudonyms, so the image is not sent.",
                    "Add the patient to the table, or choose to make pseudonyms for those who are missing.",
                    code="deidentify-unlisted",
                )
            return self._pseudonyms.patient(identity)
        return found

    def _nested_pseudonym(self, number: str) -> str:
        """Of a Patient ID within a sequence: the patient's own, or another's (the mother's, say)."""
        given = self._given.find(number, "") if self._given is not None else None
        return given or self._pseudonyms.patient(self._numbered(number, ""))


class DeidentifyKind(StepKind):
    """De-identification after PS3.15 Annex E."""

    name = "deidentify"
    title = "De-identify"
    summary = "Take away who the patient is, by the DICOM standard's profile, with pseudonyms that stay the same."
    icon = "eye-off"
    Fields = DeidentifyFields
    deidentifies = True

    def open(self, fields: StepFields, surroundings: StepSurroundings) -> Step:
        assert isinstance(fields, DeidentifyFields)
        given = GivenPseudonyms(fields.pseudonyms) if fields.pseudonyms else None
        if fields.fingerprint and not surroundings.secret(secret_name(fields.key)):
            raise _wrong_key(fields, "there is none on this computer")
        pseudonyms = Pseudonyms(key_of(fields.key, surroundings), fields.prefix, fields.shift_days)
        if fields.fingerprint and pseudonyms.fingerprint != fields.fingerprint:
            raise _wrong_key(fields, f"the one on this computer has {pseudonyms.fingerprint}")
        return Deidentify(fields, pseudonyms, given)

    def look(self, fields: StepFields) -> None:
        assert isinstance(fields, DeidentifyFields)
        if fields.pseudonyms:
            GivenPseudonyms(fields.pseudonyms)

    def describe(self, fields: StepFields) -> str:
        assert isinstance(fields, DeidentifyFields)
        kept = [
            words
            for on, words in (
                (fields.dates is Dates.SHIFT, "dates shifted"),
                (fields.dates is Dates.KEEP, "dates kept"),
                (fields.keep_uids, "UIDs kept"),
                (fields.keep_descriptors, "descriptions cleaned"),
                (fields.keep_patient or fields.keep_device or fields.keep_institution, "some characteristics kept"),
            )
            if on
        ]
        return f"De-identify, pseudonyms {fields.prefix}-…" + "".join(f", {words}" for words in kept)


def _wrong_key(fields: DeidentifyFields, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The key “{fields.key}” for pseudonyms should have the fingerprint {fields.fingerprint}, but {why}.",
        "Put back the key that was used before, or clear the fingerprint to go on with other pseudonyms.",
        code="deidentify-key",
    )


def _one(dataset: Dataset, tag: int) -> str:
    found = texts(dataset, tag)
    return found[0].strip() if found else ""
