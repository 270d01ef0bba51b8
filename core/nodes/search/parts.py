"""Parts of a question: what is too much for one answer is asked for by shorter ranges of dates, times, kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

_EARLIEST = date(1990, 1, 1)  # where there is no bound, dates before this are halved last
_FIRST = date(1900, 1, 1)
_DAY = timedelta(days=1)
_MINUTES = 24 * 60

#: Modalities (PS3.3 C.7.3.1.1.1) by which the studies of one minute are told apart.
MODALITIES = (
    "CR", "CT", "MR", "US", "DX", "MG", "NM", "PT", "XA", "RF", "OT", "SC", "SR", "PR", "KO", "DOC", "ECG", "EPS",
    "ES", "GM", "HD", "IO", "IVOCT", "IVUS", "KER", "LEN", "OAM", "OCT", "OP", "OPM", "OPT", "OPV", "OSS", "PX",
    "REG", "RESP", "RG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SRF",
    "TG", "VA", "XC", "BI", "BMD", "BDUS", "AU", "DG", "FID", "LS", "MS", "PLAN", "POS", "STAIN", "TEXTUREMAP",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the studies that are asked for.

    Attributes
    ----------
    first, last : date | None
        Range of Study Date (0008,0020), both included; None for an open end.
    begin, end : int
        Range of Study Time (0008,0030) in minutes of the day; 0 and 1440 for the ends.
    uids : tuple[str, ...]
        Study Instance UIDs, where these are asked for.
    modality : str
    """

    first: date | None = None
    last: date | None = None
    begin: int = 0
    end: int = _MINUTES
    uids: tuple[str, ...] = ()
    modality: str = ""

    @property
    def any_date(self) -> bool:
        return self.first is None and self.last is None

    @property
    def any_time(self) -> bool:
        return self.begin == 0 and self.end == _MINUTES

    def keys(self) -> dict[str, str]:
        """What stands in the question for it (PS3.4 C.2.2.2.2 and C.2.2.2.5)."""
        found = {}
        if self.uids:
            found["StudyInstanceUID"] = "\\".join(self.uids)
        if not self.any_date:
            first, last = _day(self.first), _day(self.last)
            found["StudyDate"] = first if first == last else f"{first}-{last}"
        if not self.any_time:
            # Ends that two parts share: a time with fractions of a second is in one of them whatever is compared.
            found["StudyTime"] = f"{_time(self.begin)}-{_time(self.end) if self.end < _MINUTES else ''}"
        if self.modality:
            found["ModalitiesInStudy"] = self.modality
        return found

    def smaller(self, *, today: date, by_modality: bool) -> tuple[Part, ...]:
        """Parts that it consists of, but for studies without the date or time; none where it can't be made smaller."""
        if len(self.uids) > 1:
            middle = len(self.uids) // 2
            return replace(self, uids=self.uids[:middle]), replace(self, uids=self.uids[middle:])
        if self.uids:
            return ()
        first = self.first or (_EARLIEST if self.last is None or self.last > _EARLIEST else _FIRST)
        last = self.last or max(today + _DAY, first)
        if first < last:
            middle_day = first + (last - first) // 2
            return replace(self, last=middle_day), replace(self, first=middle_day + _DAY)
        if self.end - self.begin > 1:
            middle = (self.begin + self.end) // 2
            return replace(self, end=middle), replace(self, begin=middle)
        if by_modality and not self.modality:
            return tuple(replace(self, modality=m) for m in MODALITIES)
        return ()


def beyond(part: Part, first: date, last: date) -> tuple[Part, ...]:
    """What lies before and after the dates that were answered, within the part."""
    found = []
    if part.first is None or part.first < first:
        found.append(replace(part, last=first - _DAY))
    if part.last is None or part.last > last:
        found.append(replace(part, first=last + _DAY))
    return tuple(found)


def as_date(text: str) -> date | None:
    """YYYYMMDD as a date; None for anything else."""
    if len(text) != 8 or not text.isascii() or not text.isdigit():
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _day(value: date | None) -> str:
    return "" if value is None else f"{value.year:04}{value.month:02}{value.day:02}"


def _time(minute: int) -> str:
    return f"{minute // 60:02}{minute % 60:02}00"
