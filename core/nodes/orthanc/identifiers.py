"""Orthanc's own identifiers, computed from the DICOM identifiers as Orthanc does.

Orthanc book, "Orthanc identifiers": the SHA-1 of the DICOM identifiers joined by "|", so that source and
destination agree on them. Orthanc strips each of its padding spaces and zero bytes before.
"""

from __future__ import annotations

import hashlib

_PADDING = " \t\n\v\f\r\0"


def _formatted(text: str) -> str:
    digits = hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()
    return f"{digits[:8]}-{digits[8:16]}-{digits[16:24]}-{digits[24:32]}-{digits[32:]}"


def study_id(patient_id: str, study_uid: str) -> str:
    return _formatted(f"{patient_id.strip(_PADDING)}|{study_uid.strip(_PADDING)}")


def series_id(patient_id: str, study_uid: str, series_uid: str) -> str:
    return _formatted(f"{patient_id.strip(_PADDING)}|{study_uid.strip(_PADDING)}|{series_uid.strip(_PADDING)}")


def instance_id(patient_id: str, study_uid: str, series_uid: str, sop_uid: str) -> str:
    return _formatted(
        f"{patient_id.strip(_PADDING)}|{study_uid.strip(_PADDING)}"
        f"|{series_uid.strip(_PADDING)}|{sop_uid.strip(_PADDING)}"
    )
