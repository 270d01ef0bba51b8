"""Orthanc's JSON of studies, series and instances as `StudyInfo`, `SeriesInfo` and `InstanceRef`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.model.study import InstanceRef, SeriesInfo, StudyInfo
from core.nodes.orthanc.answers import (
    JsonObject,
    UnexpectedShapeError,
    identifier,
    identifiers,
    number,
    tags_of,
)
from core.nodes.orthanc.identifiers import IdentifierList

DICOM_ATTACHMENT = 1  # ContentType of the DICOM file among the attachments


def study_info(item: JsonObject) -> StudyInfo:
    """A study of ``/studies/{id}``, ``/tools/bulk-content`` or ``/tools/find``.

    Modalities and number of instances are there where ``RequestedTags`` has them.
    """
    main = tags_of(item, "MainDicomTags")
    patient = tags_of(item, "PatientMainDicomTags")
    requested = tags_of(item, "RequestedTags")
    study_uid = main.get("StudyInstanceUID", "")
    if not study_uid:
        raise UnexpectedShapeError("a study without its Study Instance UID")
    known = {**patient, **main}
    modalities = tuple(sorted({m for m in requested.get("ModalitiesInStudy", "").split("\\") if m}))
    count = requested.get("NumberOfStudyRelatedInstances", "")
    return StudyInfo(
        study_uid=study_uid,
        ref=identifier(item),
        patient_name=patient.get("PatientName", ""),
        patient_id=patient.get("PatientID", ""),
        birth_date=patient.get("PatientBirthDate", ""),
        sex=patient.get("PatientSex", ""),
        study_date=main.get("StudyDate", ""),
        study_time=main.get("StudyTime", ""),
        description=main.get("StudyDescription", ""),
        accession=main.get("AccessionNumber", ""),
        modalities=modalities,
        instance_count=int(count) if count.isdigit() else None,
        tags=tuple(known.items()),
    )


def series_info(item: JsonObject) -> SeriesInfo:
    """A series of ``/series/{id}`` or ``/tools/bulk-content``."""
    main = tags_of(item, "MainDicomTags")
    series_uid = main.get("SeriesInstanceUID", "")
    if not series_uid:
        raise UnexpectedShapeError("a series without its Series Instance UID")
    listed = item.get("Instances")
    return SeriesInfo(
        series_uid=series_uid,
        ref=identifier(item),
        modality=main.get("Modality", ""),
        number=main.get("SeriesNumber", ""),
        description=main.get("SeriesDescription", ""),
        instance_count=len(listed) if isinstance(listed, list | IdentifierList) else None,
    )


def instance_ref(item: JsonObject, study: StudyInfo, series: SeriesInfo) -> InstanceRef:
    """An instance of ``/instances/{id}``, ``/tools/bulk-content`` or ``/tools/find``."""
    main = item.get("MainDicomTags")
    sop_uid = main.get("SOPInstanceUID") if isinstance(main, dict) else None
    if not isinstance(sop_uid, str) or not sop_uid:
        raise UnexpectedShapeError("an instance without its SOP Instance UID")
    metadata = item.get("Metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    digest, size = attachment(item)
    return InstanceRef(
        sop_uid=sop_uid.strip(" \0"),
        series_uid=series.series_uid,
        study_uid=study.study_uid,
        ref=identifier(item),
        size=size if size is not None else number(item, "FileSize"),
        digest=digest,
        transfer_syntax=metadata.get("TransferSyntax") or None,
        sop_class=metadata.get("SopClassUid") or "",
        patient_id=study.patient_id,
        series=series,
    )


def attachment(item: JsonObject) -> tuple[str | None, int | None]:
    """MD5 and bytes of the DICOM file itself (not of its compressed form on the server's disk).

    None where the server keeps no MD5 (``StoreMD5ForAttachments`` off).
    """
    listed = item.get("Attachments")
    if isinstance(listed, list):
        for entry in listed:
            if isinstance(entry, dict) and entry.get("ContentType") == DICOM_ATTACHMENT:
                return digest_and_size(entry)
    return None, None


def digest_and_size(entry: JsonObject) -> tuple[str | None, int | None]:
    """MD5 and bytes of an attachment's ``info``."""
    digest = entry.get("UncompressedMD5")
    size = entry.get("UncompressedSize")
    return (
        digest.lower() if isinstance(digest, str) and len(digest) == 32 else None,
        size if isinstance(size, int) else None,
    )


def children(item: JsonObject, key: str) -> Sequence[str]:
    """Identifiers of the ``Series`` of a study, or the ``Instances`` of a series."""
    return identifiers(item.get(key))


def modalities(series: Iterable[SeriesInfo]) -> tuple[str, ...]:
    return tuple(sorted({s.modality for s in series if s.modality}))
