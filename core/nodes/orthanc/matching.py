"""Whether a study answers a `StudyQuery`, judged here: the same for servers of every version and limit."""

from __future__ import annotations

import fnmatch

from core.model.study import StudyInfo, StudyQuery


def matches(study: StudyInfo, query: StudyQuery) -> bool:
    """PS3.4 C.2.2.2: single values, lists of UIDs, wildcards (without regard to case) and ranges of dates."""
    if query.study_uids and study.study_uid not in query.study_uids:
        return False
    if query.patient_id and not _like(study.patient_id, query.patient_id):
        return False
    if query.accession and not _like(study.accession, query.accession):
        return False
    if query.patient_name and not _like(study.patient_name, query.patient_name):
        return False
    if query.description and not _like(study.description, query.description):
        return False
    if query.date_from and not study.study_date >= query.date_from:
        return False
    if query.date_to and not (study.study_date and study.study_date <= query.date_to):
        return False
    return not query.modalities or bool(set(query.modalities) & set(study.modalities))


def constraints(query: StudyQuery) -> dict[str, str]:
    """The part of a query that Orthanc's ``/tools/find`` can narrow down by its database.

    Never narrower than the query: the database compares names in capitals and without their accents, in which
    "Zoë" may have three letters or two.
    """
    found: dict[str, str] = {}
    if query.study_uids:
        found["StudyInstanceUID"] = "\\".join(query.study_uids)
    for tag, value in (
        ("PatientID", query.patient_id),
        ("AccessionNumber", query.accession),
        ("PatientName", query.patient_name),
        ("StudyDescription", query.description),
    ):
        if value:
            found[tag] = "".join(c if c.isascii() and c not in "?\\" else "*" for c in value)
    if query.date_from or query.date_to:
        found["StudyDate"] = f"{query.date_from}-{query.date_to}"
    return found


def exact(value: str) -> bool:
    """Whether a value has no wildcard."""
    return bool(value) and not set(value) & set("*?\\")


def _like(value: str, wanted: str) -> bool:
    pattern = wanted.casefold().replace("[", "[[]")
    return fnmatch.fnmatchcase(value.casefold(), pattern)
