"""Whether a study is one of those that are asked for."""

from __future__ import annotations

import re
from functools import lru_cache

from core.model.study import StudyInfo, StudyQuery


def matches(query: StudyQuery, study: StudyInfo) -> bool:
    """Matching as a C-FIND SCP does it (PS3.4 C.2.2.2), names without regard to case.

    A study without a date is not within any range of dates.
    """
    q = query
    return (
        (not q.study_uids or study.study_uid in q.study_uids)
        and _like(q.patient_id, study.patient_id)
        and _like(q.patient_name, study.patient_name, fold=True)
        and _like(q.accession, study.accession)
        and _like(q.description, study.description, fold=True)
        and (not q.date_from or (bool(study.study_date) and study.study_date >= q.date_from))
        and (not q.date_to or (bool(study.study_date) and study.study_date <= q.date_to))
        and (not q.modalities or not set(q.modalities).isdisjoint(study.modalities))
    )


def _like(wanted: str, value: str, *, fold: bool = False) -> bool:
    if not wanted:
        return True
    if fold:
        wanted, value = wanted.casefold(), value.casefold()
    return _pattern(wanted).fullmatch(value) is not None


@lru_cache(maxsize=64)
def _pattern(wanted: str) -> re.Pattern[str]:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in wanted)
    return re.compile("".join(parts), re.DOTALL)
