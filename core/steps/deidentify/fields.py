"""The declared fields of the step that de-identifies."""

from __future__ import annotations

from enum import StrEnum

from pydantic import field_validator, model_validator

from core.model.fields import FieldType, declared
from core.steps.base import StepFields
from core.steps.deidentify.exceptions import parse_exceptions
from core.steps.deidentify.profile import Option


class Dates(StrEnum):
    """What becomes of dates and times (PS3.15 E.3.6)."""

    REMOVE = "remove"
    SHIFT = "shift"
    KEEP = "keep"


class Doubt(StrEnum):
    """What is done with an image that may show or say whose it is in a way that can't be taken out."""

    REFUSE = "refuse"
    PASS = "pass"


class Documents(StrEnum):
    """What is done with a document that is enclosed as a file (PDF, CDA, STL …)."""

    REFUSE = "refuse"
    BLANK = "blank"


class Unlisted(StrEnum):
    """What is done with a patient whom the table of pseudonyms doesn't list."""

    MAKE = "make"
    REFUSE = "refuse"


class DeidentifyFields(StepFields):
    """De-identify by the Basic Application Level Confidentiality Profile (PS3.15 Annex E) and its options."""

    prefix: str = declared(
        "ANON",
        title="Pseudonyms begin with",
        help="Each patient gets a name and Patient ID made of this and twelve characters: ANON-7K2M-94QX-P0ZB. "
        "The same patient always gets the same one.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,19}$",
        group="Patient",
    )
    pseudonyms: str = declared(
        "",
        title="Table of given pseudonyms",
        help="A CSV file with a line for each patient: the Patient ID and the pseudonym. It is read again when it "
        "changes.",
        type=FieldType.FILE,
        placeholder="None: pseudonyms are made",
        group="Patient",
    )
    unlisted: Unlisted = declared(
        Unlisted.REFUSE,
        title="Patients missing from the table",
        help="What to do with a patient who is not in the table.",
        labels={"refuse": "Don't send their images", "make": "Make a pseudonym for them"},
        needs="pseudonyms",
        group="Patient",
    )
    issuer: bool = declared(
        False,
        title="The same ID of another issuer is another patient",
        help="Switch on where images come from several hospitals that give the same Patient IDs to different people.",
        advanced=True,
        group="Patient",
    )
    key: str = declared(
        "standard",
        title="Key for pseudonyms",
        help="Jobs that name the same key give a patient the same pseudonym and an image the same new UIDs. The key "
        "is made at first use and kept in the keyring of this computer. When it is lost, new pseudonyms are made "
        "from then on.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$",
        advanced=True,
        group="Patient",
    )
    fingerprint: str = declared(
        "",
        title="Only with the key of this fingerprint",
        help="The fingerprint is in De-identification Method of every image that was made with the key. With another "
        "key, or none, nothing is sent.",
        pattern=r"^$|^[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}$",
        placeholder="3F1A-77C0",
        advanced=True,
        group="Patient",
    )
    dates: Dates = declared(
        Dates.REMOVE,
        title="Dates and times",
        help="Shifted: each patient's dates move to the past by a number of days that only the key knows, so that "
        "the time between studies stays right. The birth date is removed in any case.",
        labels={
            "remove": "Remove",
            "shift": "Shift by days, the same for all of a patient",
            "keep": "Keep as they are",
        },
        group="What is kept",
    )
    shift_days: int = declared(
        365,
        title="Shift by at most",
        help="Used when dates are shifted: by one day to this many.",
        unit="days",
        ge=1,
        le=36500,
        advanced=True,
        group="What is kept",
    )
    keep_uids: bool = declared(
        False,
        title="Keep UIDs",
        help="Study, Series and SOP Instance UIDs stay as they are. Whoever has the originals can then find them.",
        group="What is kept",
    )
    keep_patient: bool = declared(
        False,
        title="Keep the patient's characteristics",
        help="Sex, age, size, weight, ethnic group, smoking and pregnancy status; allergies and needs, cleaned.",
        group="What is kept",
    )
    keep_device: bool = declared(
        False,
        title="Keep the device's identity",
        help="Station name, serial numbers, detector and calibration.",
        group="What is kept",
    )
    keep_institution: bool = declared(
        False,
        title="Keep the institution's identity",
        help="Name, address and department of the institution.",
        group="What is kept",
    )
    keep_descriptors: bool = declared(
        False,
        title="Keep descriptions, cleaned",
        help="Study and series description, protocol name and the like. Names, numbers and dates that this image "
        "itself tells, and what looks like such, are cut out of short texts; comments of any length are removed. "
        "A name that stands nowhere else in the image can't be recognised: look at samples.",
        group="What is kept",
    )
    keep_content: bool = declared(
        False,
        title="Keep structured content, cleaned",
        help="Measurements, codes and references of structured reports stay, who and when is removed. Without it, "
        "a structured report is sent without its content.",
        group="What is kept",
    )
    keep_graphics: bool = declared(
        False,
        title="Keep drawn annotations, cleaned",
        help="Lines and points of presentation states stay, their texts are removed. Overlays are always removed.",
        group="What is kept",
    )
    keep_private: bool = declared(
        False,
        title="Keep safe private attributes",
        help="Those that the DICOM standard lists as safe, and those that the image itself declares so. "
        "All others are removed.",
        group="What is kept",
    )
    burned_in: Doubt = declared(
        Doubt.REFUSE,
        title="Images with text in the picture",
        help="The picture itself is never changed. Ultrasound, endoscopy, photographs, screenshots, scanned papers "
        "and everything marked as having burned-in text may show the patient's name or face.",
        labels={"refuse": "Don't send them", "pass": "Send them, with a note in the proof"},
        group="What can't be cleaned",
    )
    documents: Documents = declared(
        Documents.REFUSE,
        title="Enclosed documents",
        help="PDF and other files within DICOM can't be cleaned.",
        labels={"refuse": "Don't send them", "blank": "Send an empty page instead (PDF)"},
        group="What can't be cleaned",
    )
    exceptions: str = declared(
        "",
        title="Kept or changed all the same",
        help="keep TAG, TAG leaves these as they are; set TAG=VALUE, replace, prefix, suffix, empty and remove work on "
        "what the profile has left. Parted by semicolons, tags by keyword or number. What is kept against the "
        "profile is told in the image.",
        placeholder="keep StationName; remove ProtocolName; prefix StudyID=T7-",
        advanced=True,
        group="Exceptions",
    )

    @field_validator("exceptions")
    @classmethod
    def _exceptions_parse(cls, value: str) -> str:
        parse_exceptions(value)
        return value

    @model_validator(mode="after")
    def _fingerprint_upper(self) -> DeidentifyFields:
        if self.fingerprint != self.fingerprint.upper():
            object.__setattr__(self, "fingerprint", self.fingerprint.upper())
        return self

    @property
    def options(self) -> frozenset[Option]:
        """The profile's options that these fields ask for."""
        chosen = {
            Option.UIDS: self.keep_uids,
            Option.PATIENT: self.keep_patient,
            Option.DEVICE: self.keep_device,
            Option.INSTITUTION: self.keep_institution,
            Option.FULL_DATES: self.dates is Dates.KEEP,
            Option.MODIFIED_DATES: self.dates is Dates.SHIFT,
            Option.DESCRIPTORS: self.keep_descriptors,
            Option.STRUCTURED: self.keep_content,
            Option.GRAPHICS: self.keep_graphics,
            Option.SAFE_PRIVATE: self.keep_private,
        }
        return frozenset(option for option, wanted in chosen.items() if wanted)
