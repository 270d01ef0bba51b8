"""Which instances lie below a folder, by SOP Instance UID: a throw-away database that takes no memory."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from core.model.study import InstanceRef, StudyInfo
from core.nodes.local.header import Header

PAGE = 300

_SCHEMA = """
create table files (
    ref text primary key, size integer, stamp integer, seen integer,
    sop text, series text, study text, class text, syntax text, patient text, digest text
) without rowid;
create index files_sop on files (sop);
create index files_study on files (study, sop);
create table studies (study text primary key, texts text) without rowid;
create table series (series text, study text, modality text, primary key (series, study)) without rowid;
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A file that the index knows; `sop_uid` is empty for one that is no instance."""

    ref: str
    size: int
    stamp: int
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What lies below the folder. `ignored` is what isn't DICOM, `broken` is DICOM that can't be used."""

    files: int = 0
    instances: int = 0
    studies: int = 0
    ignored: int = 0
    broken: int = 0
    bytes: int = 0


class Index:
    """Files and what their heads said. Thread-safe.

    Kept in a temporary database file that only this process can read and that goes with it, so that a
    hundred thousand files take no more memory than a hundred.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("pragma synchronous = off")
        self._db.execute("pragma journal_mode = off")
        self._db.execute("pragma cache_size = -8000")
        self._db.executescript(_SCHEMA)
        self._round = 0

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # filling --------------------------------------------------------------------------------------------

    def begin(self) -> int:
        """A new round of looking at every file."""
        with self._lock:
            self._round += 1
            return self._round

    def unchanged(self, ref: str, size: int, stamp: int) -> bool:
        """Whether this very file is known; it counts as seen in this round then."""
        with self._lock:
            found = self._db.execute(
                "update files set seen = ? where ref = ? and size = ? and stamp = ?", (self._round, ref, size, stamp)
            )
            return found.rowcount > 0

    def put(self, ref: str, size: int, stamp: int, header: Header | None, *, broken: bool = False) -> None:
        """Note a file; without a header it is none of ours (or, `broken`, one that can't be used)."""
        with self._lock:
            row: tuple[str | None, ...]
            if header is None:
                row = ("" if not broken else None, "", "", "", None, "")
            else:
                row = (
                    header.sop_uid,
                    header.series_uid,
                    header.study_uid,
                    header.sop_class,
                    header.transfer_syntax,
                    header.texts.get("PatientID", ""),
                )
                info = header.study
                self._db.execute(
                    "insert or ignore into studies values (?, ?)", (header.study_uid, json.dumps(_packed(info)))
                )
                self._db.execute(
                    "insert or ignore into series values (?, ?, ?)",
                    (header.series_uid, header.study_uid, header.texts.get("Modality", "")),
                )
            self._db.execute(
                "insert or replace into files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null)",
                (ref, size, stamp, self._round, *row),
            )

    def drop(self, ref: str) -> None:
        with self._lock:
            self._db.execute("delete from files where ref = ?", (ref,))

    def finish(self) -> None:
        """End a round: what was not seen in it is gone."""
        with self._lock:
            self._db.execute("delete from files where seen < ?", (self._round,))
            self._db.execute(
                "delete from series where not exists (select 1 from files f where f.study = series.study"
                " and f.series = series.series)"
            )
            self._db.execute(
                "delete from studies where not exists (select 1 from files f where f.study = studies.study)"
            )

    # asking ---------------------------------------------------------------------------------------------

    def totals(self) -> Totals:
        with self._lock:
            files, total = self._db.execute(
                "select count(*), coalesce(sum(size), 0) from files where sop <> ''"
            ).fetchone()
            instances, studies = self._db.execute(
                "select count(distinct sop), count(distinct study) from files where sop <> ''"
            ).fetchone()
            ignored, broken = self._db.execute(
                "select coalesce(sum(sop = ''), 0), coalesce(sum(sop is null), 0) from files"
            ).fetchone()
            return Totals(files + ignored + broken, instances, studies, ignored, broken, total)

    def refs(self, sop_uid: str) -> list[str]:
        """Where an instance lies; several when there are copies."""
        with self._lock:
            rows = self._db.execute("select ref from files where sop = ? order by ref", (sop_uid,)).fetchall()
            return [row[0] for row in rows]

    def studies(self) -> Iterator[StudyInfo]:
        """All studies, by UID. What is deleted meanwhile makes it skip nothing else."""
        last = ""
        while True:
            with self._lock:
                rows = self._db.execute(
                    "select study, texts from studies where study > ? order by study limit 100", (last,)
                ).fetchall()
                found = [self._study(uid, texts) for uid, texts in rows]
            if not rows:
                return
            yield from found
            last = rows[-1][0]

    def study(self, uid: str) -> StudyInfo | None:
        with self._lock:
            row = self._db.execute("select texts from studies where study = ?", (uid,)).fetchone()
            found = self._study(uid, row[0]) if row else None
        return found if found and found.instance_count else None

    def _study(self, uid: str, texts: str) -> StudyInfo:
        values = json.loads(texts)
        tags = tuple((str(k), str(v)) for k, v in values.pop("tags"))
        modalities = tuple(
            row[0]
            for row in self._db.execute(
                "select distinct modality from series where study = ? and modality <> '' order by modality", (uid,)
            )
        )
        count = self._db.execute("select count(distinct sop) from files where study = ?", (uid,)).fetchone()[0]
        if modalities:
            tags = (*tags, ("ModalitiesInStudy", "\\".join(modalities)))
        return StudyInfo(uid, uid, **values, modalities=modalities, instance_count=count, tags=tags)

    def instances(self, study_uid: str, series_uid: str = "") -> Iterator[Sequence[InstanceRef]]:
        """The instances of a study in pages; of several copies of one the first by name."""
        last = ""
        while True:
            with self._lock:
                rows = self._db.execute(
                    "select sop, series, min(ref), size, syntax, class, patient from files"
                    " where study = ? and sop > ? and (? = '' or series = ?) group by sop order by sop limit ?",
                    (study_uid, last, series_uid, series_uid, PAGE),
                ).fetchall()
            if not rows:
                return
            yield [
                InstanceRef(sop, series, study_uid, ref, size, None, syntax, klass, patient)
                for sop, series, ref, size, syntax, klass, patient in rows
            ]
            last = rows[-1][0]

    def differing_copies(self, digest_of: Callable[[str], str | None]) -> int:
        """How many instances lie here more than once with different contents.

        Only copies are read: `digest_of` is asked for their digests, once for each file.
        """
        with self._lock:
            doubles = self._db.execute(
                "select sop from files where sop <> '' group by sop having count(*) > 1"
            ).fetchall()
        differing = 0
        for (sop,) in doubles:
            with self._lock:
                rows = self._db.execute("select ref, size, digest from files where sop = ?", (sop,)).fetchall()
            if len({row[1] for row in rows}) > 1:
                differing += 1
                continue
            digests = set()
            for ref, _, digest in rows:
                if digest is None:
                    digest = digest_of(ref)
                    with self._lock:
                        self._db.execute("update files set digest = ? where ref = ?", (digest, ref))
                digests.add(digest)
            differing += len(digests) > 1
        return differing

    def known(self, after: str = "", limit: int = 1000) -> list[Known]:
        """A page of all instance files, by path."""
        with self._lock:
            rows = self._db.execute(
                "select ref, size, stamp, sop from files where sop <> '' and ref > ? order by ref limit ?",
                (after, limit),
            ).fetchall()
        return [Known(*row) for row in rows]

    def missing(self, wanted: set[str]) -> set[str]:
        """Which of these paths (lower case) are not among the files: media differ in the case of names."""
        left = set(wanted)
        last = ""
        while left:
            with self._lock:
                rows = self._db.execute(
                    "select ref from files where ref > ? order by ref limit 1000", (last,)
                ).fetchall()
            if not rows:
                break
            left.difference_update(row[0].lower() for row in rows)
            last = rows[-1][0]
        return left


def _packed(info: StudyInfo) -> dict[str, object]:
    return {
        "patient_name": info.patient_name,
        "patient_id": info.patient_id,
        "birth_date": info.birth_date,
        "sex": info.sex,
        "study_date": info.study_date,
        "study_time": info.study_time,
        "description": info.description,
        "accession": info.accession,
        "tags": info.tags,
    }
