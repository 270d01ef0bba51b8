"""What a person wants otherwise than the profile: attributes kept as they are, and tags changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from core.steps.tag_actions import Action, Verb, parse_actions

_PEOPLE = frozenset(
    {
        "IssuerOfPatientID",
        "MedicalRecordLocator",
        "OtherPatientIDs",
        "OtherPatientIDsSequence",
        "OtherPatientNames",
        "PatientAddress",
        "PatientBirthDate",
        "PatientBirthName",
        "PatientBirthTime",
        "PatientID",
        "PatientInsurancePlanCodeSequence",
        "PatientMotherBirthName",
        "PatientName",
        "PatientTelecomInformation",
        "PatientTelephoneNumbers",
    }
)
# Answered by other fields, or needed by the work itself.
_NOT_KEPT = {
    "PatientID": "give the pseudonyms in a table instead",
    "PatientName": "give the pseudonyms in a table instead",
    "StudyInstanceUID": "“Keep UIDs” keeps all that belong together",
    "SeriesInstanceUID": "“Keep UIDs” keeps all that belong together",
    "SOPInstanceUID": "“Keep UIDs” keeps all that belong together",
    "EncapsulatedDocument": "documents can't be cleaned",
    "ContentSequence": "“Keep structured content, cleaned” does that",
    "DigitalSignaturesSequence": "signatures no longer hold",
    "EncryptedAttributesSequence": "it has the original values in it",
    "OriginalAttributesSequence": "it has the original values in it",
}


@dataclass(frozen=True, slots=True)
class Exceptions:
    """Exceptions to the profile.

    Attributes
    ----------
    kept : frozenset[int]
        Tags of the standard that stay as they are, at any level.
    actions : tuple[Action, ...]
        What is done after the profile, as in the step “Change tags”.
    """

    kept: frozenset[int] = frozenset()
    actions: tuple[Action, ...] = ()

    @property
    def identify(self) -> bool:
        """Whether what is kept alone tells who the patient is."""
        from pydicom.datadict import keyword_for_tag

        return any(keyword_for_tag(tag) in _PEOPLE for tag in self.kept)


def parse_exceptions(text: str) -> Exceptions:
    """Read exceptions as they are typed: ``keep StationName; remove ProtocolName; prefix StudyID=T7-``.

    Raises
    ------
    ValueError
        With what can't be understood or can't be done.
    """
    if not text.strip():
        return Exceptions()
    actions = parse_actions(text)
    kept = frozenset(_kept(action) for action in actions if action.verb is Verb.KEEP)
    return Exceptions(kept, tuple(a for a in actions if a.verb is not Verb.KEEP))


def _kept(action: Action) -> int:
    from pydicom.datadict import dictionary_has_tag, keyword_for_tag

    tag = action.path[0].tag
    if len(action.path) > 1 or not action.path[0].is_exact:
        raise ValueError(f"{action.name}: what is kept is named by one tag, which stays wherever it is found.")
    if tag >> 16 & 1:
        raise ValueError(f"{action.name} is private: “Keep safe private attributes” keeps those known to be safe.")
    why = _NOT_KEPT.get(keyword_for_tag(tag))
    if why or not dictionary_has_tag(tag) or tag >> 16 <= 2 or 0x5000 <= tag >> 16 <= 0x60FF:
        raise ValueError(f"{action.name} can't be kept{f': {why}' if why else ''}.")
    return tag
