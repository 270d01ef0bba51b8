"""What the spool says about what it holds, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from core.model.study import InstanceRef, SeriesInfo, StudyInfo


class Kept(StrEnum):
    """What became of an instance that arrived."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # this very content is held already; no second copy was made
    CONFLICT = "conflict"  # other content is held under this SOP Instance UID; that one stays


class Removed(StrEnum):
    """What became of a wish to delete an instance."""

    DELETED = "deleted"
    GONE = "gone"  # it was not there
    CHANGED = "changed"  # it has another digest than was named; it stays


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One instance that the spool holds.

    Attributes
    ----------
    sop_uid, sop_class, series_uid, study_uid, transfer_syntax : str
    size : int
        Bytes of the file (PS3.10).
    digest : str
        MD5 of the file as it lies on the disk, lower-case hexadecimal.
    data_offset : int
        Where the data set begins in the file, behind the file meta information: what C-MOVE and C-GET send.
    name : str
        Path below the spool's folder, with forward slashes; see `Spool.path`.
    received : float
        Seconds since 1970.
    sender : str
        Who sent it ("MODALITY1@10.4.2.17"), or the name of the node that a job took it from.
    attributes : Mapping[str, str]
        The instance level's attributes for C-FIND as text by keyword, decoded; several values are separated by a
        backslash. What the data set doesn't have is missing here, what is empty there is "".
    """

    sop_uid: str
    sop_class: str
    series_uid: str
    study_uid: str
    transfer_syntax: str
    size: int
    digest: str
    data_offset: int
    name: str
    received: float
    sender: str = ""
    patient_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    def ref(self, series: SeriesInfo | None = None) -> InstanceRef:
        return InstanceRef(
            self.sop_uid,
            self.series_uid,
            self.study_uid,
            ref=self.sop_uid,
            size=self.size,
            digest=self.digest,
            transfer_syntax=self.transfer_syntax,
            sop_class=self.sop_class,
            patient_id=self.patient_id,
            series=series,
        )


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """A series; `attributes` as in `InstanceRecord`, of the series level, from the instance that came first."""

    series_uid: str
    study_uid: str
    instances: int
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """The handle under which the change log names it."""
        return f"{self.study_uid}/{self.series_uid}"

    def info(self) -> SeriesInfo:
        a = self.attributes
        return SeriesInfo(
            self.series_uid,
            self.ref,
            a.get("Modality", ""),
            a.get("SeriesNumber", ""),
            a.get("SeriesDescription", ""),
            self.instances,
        )


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study; `attributes` hold the patient's and the study's level, from the instance that came first."""

    study_uid: str
    series: int
    instances: int
    bytes: int
    modalities: tuple[str, ...]
    sop_classes: tuple[str, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)

    def info(self) -> StudyInfo:
        a = self.attributes
        tags = tuple((k, v) for k, v in a.items() if v)
        if self.modalities:
            tags = (*tags, ("ModalitiesInStudy", "\\".join(self.modalities)))
        return StudyInfo(
            study_uid=self.study_uid,
            ref=self.study_uid,
            patient_name=a.get("PatientName", ""),
            patient_id=a.get("PatientID", ""),
            birth_date=a.get("PatientBirthDate", ""),
            sex=a.get("PatientSex", ""),
            study_date=a.get("StudyDate", "").replace(".", ""),
            study_time=a.get("StudyTime", "").replace(":", "").split(".")[0],
            description=a.get("StudyDescription", ""),
            accession=a.get("AccessionNumber", ""),
            modalities=self.modalities,
            instance_count=self.instances,
            tags=tags,
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """The answer to an instance that was given to the spool.

    `record` is what is held under its SOP Instance UID now: its own, or in a conflict the one that stays.
    """

    kept: Kept
    record: InstanceRecord
