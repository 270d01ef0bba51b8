"""Where an instance is written below the folder: a pure function of study, instance and layout."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from pathlib import PurePosixPath

from core.model.study import InstanceRef, StudyInfo
from core.nodes.folder.fields import Layout

ATTEMPTS = 8
"""How many names are tried for one instance when others stand in the way."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")
# What Windows, macOS and Linux refuse between them; "^" is DICOM's own separator and reads better as a space.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³])\Z", re.IGNORECASE)


def destination(layout: Layout, study: StudyInfo, instance: InstanceRef, attempt: int = 0) -> PurePosixPath:
    """The path of an instance relative to the folder, with forward slashes.

    Parameters
    ----------
    layout : Layout
    study : StudyInfo
    instance : InstanceRef
    attempt : int
        0 for the usual name; 1 and above give the names to try when another instance lies there already
        (two hashes alike, or names alike but for their case).

    Returns
    -------
    PurePosixPath
        Never absolute, never with "..", every part allowed on Windows, below 180 characters in all.
    """
    if layout is Layout.UID:
        return PurePosixPath(
            _uid(instance.study_uid or study.study_uid),
            _uid(instance.series_uid),
            _uid(instance.sop_uid) + _again(attempt) + ".dcm",
        )
    if layout is Layout.PATIENT:
        return PurePosixPath(
            _patient(study),
            _study(study),
            "Series_" + _hash(instance.series_uid, 8),
            _hash(instance.sop_uid, 12) + _again(attempt) + ".dcm",
        )
    # File IDs: at most eight components of at most eight characters out of A-Z, 0-9 and _ (PS3.10 8.2 and 8.5).
    return PurePosixPath(
        "DICOM",
        _short(instance.study_uid or study.study_uid),
        _short(instance.series_uid),
        _short(instance.sop_uid + _again(attempt)),
    )


def component(text: str, limit: int, otherwise: str = "_") -> str:
    """One part of a path that every system takes, as like `text` as may be.

    Parameters
    ----------
    text : str
        Anything, hostile text included.
    limit : int
        Most characters; no result is longer than 200 bytes of UTF-8 either.
    otherwise : str
        Given when nothing usable is left.
    """
    clean = unicodedata.normalize("NFC", text).replace("^", " ")
    clean = _FORBIDDEN.sub("_", clean)
    clean = "".join("_" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else c for c in clean)
    clean = re.sub(r"\s+", " ", clean)[:limit]
    while len(clean.encode()) > 200:
        clean = clean[:-1]
    clean = clean.strip(" .")
    if not clean:
        return otherwise
    # Windows looks at what stands before the first dot only: "con.txt" is a device as well.
    return "_" + clean if _RESERVED.match(clean.split(".")[0].strip()) else clean


def _patient(study: StudyInfo) -> str:
    patient_id = component(study.patient_id, 24, "no ID")
    name = component(study.patient_name, 32, "")
    # "ab" and "AB", or "a/b" and "a_b", would share a folder: what isn't plainly the ID itself gets a hash.
    mark = "" if patient_id == study.patient_id.upper() else _hash(study.patient_id, 6)
    return "_".join(p for p in (patient_id, name, mark) if p).rstrip(" .")


def _study(study: StudyInfo) -> str:
    parts = (
        component(study.study_date, 8, "no date"),
        component("-".join(sorted(study.modalities)[:3]), 12, ""),
        component(study.description, 32, ""),
        _hash(study.study_uid, 6),
    )
    return "_".join(p for p in parts if p)


def _uid(uid: str) -> str:
    if len(uid) <= 64 and _UID.match(uid):
        return uid
    return f"{component(uid, 24, 'no UID')}_{_hash(uid, 12)}"


def _again(attempt: int) -> str:
    return f"_{attempt}" if attempt else ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _hash(text: str, length: int) -> str:
    return _digest(text).hex()[:length]


def _short(text: str) -> str:
    return base64.b32encode(_digest(text))[:8].decode("ascii")
