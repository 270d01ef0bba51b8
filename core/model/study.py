"""Studies, series and instances as every node describes them, and the questions asked about them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class StudyInfo:
    """What a source says about a study. Texts are decoded; empty where the source doesn't say.

    Attributes
    ----------
    study_uid : str
        Study Instance UID (0020,000D).
    ref : str
        The source's own handle (Orthanc identifier, path relative to a folder's root, or the UID itself).
    patient_name, patient_id, birth_date, sex : str
        (0010,0010) as "FAMILY^Given", (0010,0020), (0010,0030) YYYYMMDD, (0010,0040).
    study_date, study_time : str
        (0008,0020) YYYYMMDD and (0008,0030) HHMMSS.
    modalities : tuple[str, ...]
        Modalities in Study (0008,0061), where known.
    instance_count : int | None
        Number of instances that the source lists, where it says so without being asked for each.
    untold : frozenset[str]
        Keywords of texts that the source left out of what it said: that they are empty here means nothing.
    """

    study_uid: str
    ref: str = ""
    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    study_time: str = ""
    description: str = ""
    accession: str = ""
    modalities: tuple[str, ...] = ()
    instance_count: int | None = None
    tags: tuple[tuple[str, str], ...] = ()
    untold: frozenset[str] = frozenset()

    def with_modalities(self, modalities: tuple[str, ...]) -> StudyInfo:
        return replace(self, modalities=modalities)


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """A series of a study at a source; `ref` and `untold` as in `StudyInfo`."""

    series_uid: str
    ref: str = ""
    modality: str = ""
    number: str = ""
    description: str = ""
    instance_count: int | None = None
    untold: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """One instance at a source.

    Attributes
    ----------
    sop_uid, series_uid, study_uid : str
        SOP Instance UID (0008,0018), Series and Study Instance UID.
    ref : str
        The source's handle for reading and deleting it.
    size : int | None
        Bytes of the DICOM file (PS3.10), where known.
    digest : str | None
        MD5 of the DICOM file as the source holds it, lower-case hexadecimal, where known.
    transfer_syntax : str | None
        Transfer Syntax UID, where known.
    sop_class : str
        SOP Class UID, where known.
    patient_id : str
        Patient ID (0010,0020): part of Orthanc's identifiers.
    series : SeriesInfo | None
        What the source says about its series; the same object for all instances of a series.
    """

    sop_uid: str
    series_uid: str
    study_uid: str
    ref: str = ""
    size: int | None = None
    digest: str | None = None
    transfer_syntax: str | None = None
    sop_class: str = ""
    patient_id: str = ""
    series: SeriesInfo | None = None


class Presence(StrEnum):
    """Whether a destination holds an instance: it says so, it says no, or it can't be told now."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Holding:
    """What a node holds under one SOP Instance UID, asked for by `Confirm`.

    `digest` is the MD5 of the node's own copy of the DICOM file; None where the node can't tell.
    """

    sop_uid: str
    presence: Presence
    digest: str | None = None
    size: int | None = None
    transfer_syntax: str | None = None
    ref: str = ""


class Level(StrEnum):
    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """Which studies are asked for; empty fields match everything.

    Dates are YYYYMMDD, both ends included; `patient_name` and `description` take DICOM wildcards
    (PS3.4 C.2.2.2.4).
    """

    study_uids: tuple[str, ...] = ()
    patient_id: str = ""
    patient_name: str = ""
    accession: str = ""
    date_from: str = ""
    date_to: str = ""
    modalities: tuple[str, ...] = ()
    description: str = ""

    @property
    def is_everything(self) -> bool:
        return self == StudyQuery()


@dataclass(frozen=True, slots=True)
class Listing:
    """A finished listing: how many were given and whether the node vouches that this is all.

    `reason` says why not, in a sentence, when `complete` is False.
    """

    count: int = 0
    complete: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a node's change log."""

    sequence: int
    kind: ChangeKind
    ref: str
    date: str = ""


class ChangeKind(StrEnum):
    NEW_INSTANCE = "new-instance"
    STABLE_SERIES = "stable-series"
    STABLE_STUDY = "stable-study"


@dataclass(frozen=True, slots=True)
class ChangePage:
    """A page of a change log (Orthanc ``/changes``).

    `last` is the sequence number to go on from; `reset` is True when the log is shorter than the cursor
    (cleared, or another database): the caller then needs an inventory.
    """

    changes: tuple[Change, ...] = field(default=())
    last: int = 0
    done: bool = True
    reset: bool = False
