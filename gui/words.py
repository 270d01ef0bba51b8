"""How figures, dates, names and states are written for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from PySide6.QtCore import QDate, QLocale, QTime

from core.model.errors import FerryError
from core.model.events import NodeHealth, TransferRow
from core.model.job import JobState
from core.model.outcome import STUDY_STATE_WORDS, Counts, DeliveryState, Method, StudyState
from core.model.study import StudyInfo
from gui.theme import Tone

STATE_TONES: dict[StudyState, Tone] = {
    StudyState.WAITING: Tone.GREY,
    StudyState.SENDING: Tone.BLUE,
    StudyState.CONFIRMING: Tone.BLUE,
    StudyState.SENT: Tone.AMBER,
    StudyState.CONFIRMED: Tone.GREEN,
    StudyState.COMMITTED: Tone.GREEN,
    StudyState.ALREADY_THERE: Tone.GREY,
    StudyState.DIFFERENT: Tone.AMBER,
    StudyState.ATTENTION: Tone.RED,
    StudyState.FAILED: Tone.RED,
    StudyState.CANCELLED: Tone.GREY,
}

DELIVERY_WORDS: dict[DeliveryState, tuple[str, Tone]] = {
    DeliveryState.PLANNED: ("Waiting", Tone.GREY),
    DeliveryState.SENDING: ("Sending", Tone.BLUE),
    DeliveryState.SENT: ("Sent, not confirmed", Tone.AMBER),
    DeliveryState.VERIFIED: ("Confirmed", Tone.GREEN),
    DeliveryState.COMMITTED: ("Committed", Tone.GREEN),
    DeliveryState.SKIPPED: ("Already there", Tone.GREY),
    DeliveryState.CONFLICT: ("Different at destination", Tone.AMBER),
    DeliveryState.FAILED: ("Failed", Tone.RED),
    DeliveryState.CANCELLED: ("Cancelled", Tone.GREY),
}

# Failures that have a name of their own among people who migrate archives.
FAILURE_WORDS: dict[str, str] = {
    "not-received-in-time": "Not received in time",
    "not-found-at-source": "Not found at the source",
}

METHOD_WORDS: dict[Method, str] = {
    Method.COMMITMENT: "by storage commitment",
    Method.DIGEST: "by digest",
    Method.UID: "by SOP Instance UID",
    Method.HEADER: "by its attributes (re-encoded)",
    Method.ACKNOWLEDGEMENT: "by acknowledgement only",
}

JOB_WORDS: dict[JobState, tuple[str, Tone]] = {
    JobState.SAVED: ("Not started", Tone.GREY),
    JobState.RUNNING: ("Running", Tone.BLUE),
    JobState.PAUSED: ("Paused", Tone.GREY),
    JobState.CANCELLED: ("Cancelled", Tone.GREY),
    JobState.FINISHED: ("Finished", Tone.GREEN),
    JobState.STOPPED: ("Stopped", Tone.AMBER),
}

HEALTH_WORDS: dict[NodeHealth, tuple[str, Tone]] = {
    NodeHealth.UNKNOWN: ("Not tested", Tone.GREY),
    NodeHealth.WORKS: ("Works", Tone.GREEN),
    NodeHealth.DOWN: ("Unreachable", Tone.RED),
}


def count(number: int) -> str:
    return QLocale().toString(number)


def plural(number: int, one: str, many: str = "") -> str:
    """ "1 study", "1,204 studies"; `many` is given where it isn't the noun with an s."""
    return f"{count(number)} {one if number == 1 else (many or one + 's')}"


def studies(number: int) -> str:
    return plural(number, "study", "studies")


def size(octets: float) -> str:
    """Bytes in decimal units: "939 MB"."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return _figure(value, unit)
        value /= 1000
    return _figure(value, "TB")


def speed(octets_a_second: float) -> str:
    return size(octets_a_second) + "/s" if octets_a_second >= 1 else ""


def _figure(value: float, unit: str) -> str:
    digits = 0 if unit in ("B", "kB") or value >= 10 else 1
    return f"{QLocale().toString(value, 'f', digits)} {unit}"


def duration(seconds: float) -> str:
    """ "0:12", "4:05", "2:10:00"."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def roughly(seconds: float) -> str:
    """ "12 s", "5 min", "3 h"."""
    if seconds < 90:
        return f"{round(seconds)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"


def local(moment: datetime) -> datetime:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone()


def clock(moment: datetime | None) -> str:
    """The time of day: "08:41"; with the date when it is not today."""
    if moment is None:
        return ""
    here = local(moment)
    text = QLocale().toString(QTime(here.hour, here.minute), QLocale.FormatType.ShortFormat)
    return text if here.date() == datetime.now().astimezone().date() else f"{day(here)} {text}"


def exact(moment: datetime | None) -> str:
    """To the second, with the date: for evidence."""
    if moment is None:
        return ""
    here = local(moment)
    return f"{_date(QDate(here.year, here.month, here.day))} {here:%H:%M:%S}"


def stamp(moment: datetime | None) -> str:
    """To the second, with the date only where it is not today's: for tables."""
    if moment is None:
        return ""
    here = local(moment)
    today = here.date() == datetime.now().astimezone().date()
    return f"{here:%H:%M:%S}" if today else f"{day(here)} {here:%H:%M:%S}"


def ago(moment: datetime | None) -> str:
    """ "just now", "2 min ago", "08:41", "20 Nov 08:41"."""
    if moment is None:
        return ""
    past = datetime.now().astimezone() - local(moment)
    if past < timedelta(seconds=50):
        return "just now"
    if past < timedelta(hours=1):
        return f"{max(1, round(past.total_seconds() / 60))} min ago"
    return clock(moment)


def day(moment: datetime) -> str:
    return _date(QDate(moment.year, moment.month, moment.day), short=moment.year == datetime.now().year)


def _date(date: QDate, *, short: bool = False) -> str:
    """A date as the locale orders it, with the month's short name; `short` leaves out the year."""
    pattern = QLocale().dateFormat(QLocale.FormatType.LongFormat)
    for part in ("dddd, ", ", dddd", "dddd ", " dddd", "dddd"):
        pattern = pattern.replace(part, "")
    pattern = pattern.replace("MMMM", "MMM")
    if short:
        for part in (", yyyy", " 'de' yyyy", " yyyy", "yyyy"):
            pattern = pattern.replace(part, "")
    return QLocale().toString(date, pattern.strip())


def dicom_date(text: str) -> str:
    """(0008,0020) "20261121" as the locale writes it; what is no date is shown as it is."""
    date = QDate.fromString(text.replace(".", ""), "yyyyMMdd")
    return _date(date, short=date.year() == QDate.currentDate().year()) if date.isValid() else text


def person(name: str) -> str:
    """(0010,0010) "MUELLER^Anna^^Dr" as "MUELLER, Anna"; the alphabetic group when there are several."""
    group = next((g for g in name.split("=") if g.strip("^ ")), "")
    parts = [p.strip() for p in group.split("^")]
    family, given = parts[0], " ".join(p for p in parts[1:3] if p)
    return ", ".join(p for p in (family, given) if p) or "No name"


def patient_line(study: StudyInfo) -> str:
    """ "4711-02 · F 1958"."""
    who = " ".join(p for p in (study.sex, study.birth_date[:4]) if p)
    return " · ".join(p for p in (study.patient_id, who) if p)


def study_when(study: StudyInfo) -> str:
    time = study.study_time[:4]
    written = ""
    if len(time) == 4 and time.isdigit():
        written = QLocale().toString(QTime(int(time[:2]), int(time[2:])), QLocale.FormatType.ShortFormat)
    return " ".join(p for p in (dicom_date(study.study_date), written) if p) or "No date"


def study_what(study: StudyInfo) -> str:
    """ "CT · Thorax / Abdomen"."""
    return " · ".join(p for p in ("/".join(study.modalities), study.description) if p)


def state(row: TransferRow) -> str:
    """The pill's words: "Waiting (retry at 09:10)", "Sending"."""
    words = STUDY_STATE_WORDS[row.state]
    if row.state is not StudyState.WAITING:
        return words
    if row.next_attempt is not None:
        return f"{words} (retry at {clock(row.next_attempt)})"
    return f"{words} ({row.reason[0].lower() + row.reason[1:].rstrip('.')})" if 0 < len(row.reason) <= 28 else words


def state_more(row: TransferRow, note: str = "") -> str:
    """The line below the pill: why it waits or fails, or that the source sends by itself.

    Parameters
    ----------
    note : str
        What the row's job says of itself as a whole.
    """
    if row.state is StudyState.WAITING and row.next_attempt is None:
        mine = note.startswith("Waiting for") or any(node in note for node in (row.source, row.destination))
        waiting = note.removeprefix("Waiting").strip(":. ") if mine else ""
        in_pill = 0 < len(row.reason) <= 28
        return row.reason if row.reason and not in_pill else waiting[:1].upper() + waiting[1:]
    if row.state in (StudyState.SENDING, StudyState.CONFIRMING) and row.path == "push":
        return f"{row.source} sends by itself"
    return row.reason


def images(counts: Counts) -> str:
    """ "1,204 / 1,788": what is confirmed or acknowledged, of all."""
    return f"{count(counts.confirmed + counts.sent)} / {count(counts.total)}"


def path(name: str) -> str:
    return {"relay": "through this computer", "push": "by the server itself"}.get(name, name)


def short_uid(uid: str) -> str:
    return uid if len(uid) <= 18 else f"…{uid[-16:]}"


def without_options(text: str) -> str:
    """A sentence without the names that the command line has for what it speaks of: " (--callers)"."""
    return re.sub(r" \(--[a-z-]+\)", "", text)


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if not text[:2].isupper() else text


def sentence_of(error: BaseException) -> tuple[str, str, str]:
    """Sentence, next step and detail of any error; one that is not ours is said to be unexpected."""
    if isinstance(error, FerryError):
        return error.sentence, error.next_step, error.detail
    name = type(error).__name__
    return (
        "Something unexpected went wrong in the program.",
        "Try again; if it comes back, copy the details and report them.",
        f"{name}: {error}",
    )
