"""What an answer or a broken connection means for a delivery: `resources/status_policy.toml`, read and applied."""

from __future__ import annotations

import functools
import tomllib
from enum import StrEnum
from importlib import resources
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.model.errors import (
    AnswerError,
    ConfigurationError,
    FerryError,
    LocalError,
    TransportError,
    TransportFault,
)
from core.model.outcome import Failure, FailureClass


class PolicyRow(BaseModel):
    """One row of the policy.

    Attributes
    ----------
    cls : FailureClass
        Column ``class``.
    source : FailureClass | None
        The class while reading, where it differs.
    unsent : FailureClass | None
        The class when nothing of the request had reached the other side, where it differs.
    asked : FailureClass | None
        The class when the server said how long to wait (``Retry-After``), where it differs.
    delays : tuple[float, ...]
        Seconds before each retry, where they are not the job's.
    status : tuple[int, ...]
        HTTP statuses that mean this row.
    sentence, next_step : str
        For a person; ``{node}`` stands for the node's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cls: FailureClass = Field(alias="class")
    source: FailureClass | None = None
    unsent: FailureClass | None = None
    asked: FailureClass | None = None
    delays: tuple[float, ...] = ()
    status: tuple[int, ...] = ()
    sentence: str = Field(min_length=10)
    next_step: str = ""


class Meaning(StrEnum):
    """What a DIMSE status says about the operation itself (PS3.7 Annex C)."""

    DONE = "done"  # 0000
    WARNING = "warning"  # done, and there is something to tell
    DUPLICATE = "duplicate"  # the other side says that it has this already
    PENDING = "pending"  # more answers follow; never the last one
    CANCELLED = "cancelled"  # ended by a C-CANCEL
    FAILURE = "failure"


class DimseRow(BaseModel):
    """One row of a DIMSE table.

    Attributes
    ----------
    cls : FailureClass
        Column ``class``: for a delivery that this answer leaves undone.
    source : FailureClass | None
        The class while reading, where it differs.
    meaning : Meaning
    status : tuple[int | tuple[int, int], ...]
        Statuses, or first and last of a range; none for what is no status, or for all that no other row names.
    rejected : tuple[tuple[int, int, int], ...]
        Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21).
    delays : tuple[float, ...]
        Seconds before each retry, where they are not the job's.
    sentence, next_step : str
        For a person; ``{node}`` stands for the node's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cls: FailureClass = Field(alias="class")
    source: FailureClass | None = None
    meaning: Meaning = Meaning.FAILURE
    status: tuple[int | tuple[int, int], ...] = ()
    rejected: tuple[tuple[int, int, int], ...] = ()
    delays: tuple[float, ...] = ()
    sentence: str = Field(min_length=10)
    next_step: str = ""


class StowRow(PolicyRow):
    """What a Failure Reason (0008,1197) of STOW-RS means for its image (PS3.18 Table I.2-2).

    Attributes
    ----------
    reason : tuple[int | tuple[int, int], ...]
        Values, or first and last of a range; none for what has no value, or for all that no other row names.
    meaning : Meaning
        ``FAILURE`` or ``DUPLICATE``.
    """

    reason: tuple[int | tuple[int, int], ...] = ()
    meaning: Meaning = Meaning.FAILURE


class StowWarningRow(BaseModel):
    """What a Warning Reason (0008,1196) of STOW-RS says of a stored image (PS3.18 Table I.2-1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: tuple[int, ...] = ()
    sentence: str = Field(min_length=10)


DimseTable = Literal["general", "echo", "store", "find", "retrieve", "action", "commitment", "association"]


class StatusPolicy(BaseModel):
    """The whole file: rows by table and code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    transport: dict[TransportFault, PolicyRow]
    http: dict[str, PolicyRow]
    answer: dict[str, PolicyRow]
    stow: dict[str, StowRow]
    stow_warning: dict[str, StowWarningRow] = Field(alias="stow-warning")
    local: dict[str, PolicyRow]
    dimse: dict[DimseTable, dict[str, DimseRow]]

    def http_row(self, status: int) -> tuple[str, PolicyRow]:
        """Code and row of an HTTP status; every status has one."""
        code = _codes_by_status().get(status)
        if code is None:
            code = f"other-{min(max(status // 100, 1), 5)}xx"
        return code, self.http[code]


@functools.cache
def policy() -> StatusPolicy:
    """The policy that the program was delivered with.

    Raises
    ------
    ConfigurationError
        The file is damaged.
    """
    text = resources.files("resources").joinpath("status_policy.toml").read_text(encoding="utf-8")
    try:
        found = StatusPolicy.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigurationError(
            "The program's table of answers (status_policy.toml) is damaged.",
            "Install the program again.",
            detail=str(error),
            code="policy",
        ) from error
    missing = [fault.value for fault in TransportFault if fault not in found.transport]
    missing += [f"other-{n}xx" for n in range(1, 6) if f"other-{n}xx" not in found.http]
    missing += [f"stow.{code}" for code in ("other", "untold") if code not in found.stow]
    if missing or "other" not in found.local or "other" not in found.stow_warning:
        raise ConfigurationError(
            "The program's table of answers (status_policy.toml) is incomplete.",
            "Install the program again.",
            detail=", ".join(missing),
            code="policy",
        )
    return found


@functools.cache
def _codes_by_status() -> dict[int, str]:
    codes: dict[int, str] = {}
    for code, row in policy().http.items():
        for status in row.status:
            codes[status] = code
    return codes


def answer_error(
    code: str, *, node: str, status: int = 0, detail: str = "", retry_after: float | None = None
) -> AnswerError:
    """An `AnswerError` with the policy's words for `code` (of the tables ``answer`` and ``http``)."""
    row = policy().answer.get(code) or policy().http[code]
    return AnswerError(
        status,
        words(row.sentence, node),
        words(row.next_step, node),
        detail=detail,
        code=code,
        retry_after=retry_after,
    )


def status_error(
    status: int, *, node: str, detail: str = "", retry_after: float | None = None, location: str = ""
) -> AnswerError:
    """An `AnswerError` for an HTTP status for which the node found no better word.

    `location` is the answer's header of that name: a redirect, which is never followed, is told with its address.
    """
    code, _ = policy().http_row(status)
    error = answer_error(code, node=node, status=status, detail=detail, retry_after=retry_after)
    if code == "redirect" and (address := _shown_address(location)):
        error.sentence = f"“{node}” sends this computer on to {address}, which is not followed."
        error.args = (error.sentence,)
    return error


def stow_row(reason: int | None) -> tuple[str, StowRow]:
    """Code and row of a Failure Reason (0008,1197) of STOW-RS; None where an image failed without one."""
    rows = policy().stow
    code = "untold"
    if reason is not None:
        code = next((name for name, row in rows.items() if _names(row.reason, reason)), "other")
    return f"stow-{code}", rows[code]


def stow_error(reason: int | None, *, node: str, detail: str = "", retry_after: float | None = None) -> AnswerError:
    """An `AnswerError` for an image that STOW-RS did not store; its status is the reason."""
    code, row = stow_row(reason)
    said = "no Failure Reason" if reason is None else f"Failure Reason {reason} ({reason:04X})"
    return AnswerError(
        reason or 0,
        words(row.sentence, node),
        words(row.next_step, node),
        detail=f"{said}. {detail}".strip(),
        code=code,
        retry_after=retry_after,
    )


def stow_warning(reason: int | None, *, node: str) -> str:
    """One sentence for a Warning Reason (0008,1196) of STOW-RS; empty without one."""
    if reason is None:
        return ""
    rows = policy().stow_warning
    row = next((row for row in rows.values() if reason in row.reason), rows["other"])
    return words(row.sentence, node)


def http_failure(error: FerryError, *, side: str, node: str) -> Failure:
    """What an error means for a delivery.

    Parameters
    ----------
    error : FerryError
    side : str
        "source", "destination" or "here": where it happened.
    node : str
        The node's name, for the sentence.
    """
    code, row = _row(error)
    if row is None:
        cls = FailureClass.PERSON if isinstance(error, ConfigurationError) else FailureClass.RETRY
        return Failure(error.code, cls, error.sentence, error.next_step, error.detail, side)
    cls = row.cls
    if isinstance(error, TransportError) and not error.request_sent and row.unsent is not None:
        cls = row.unsent
    elif side == "source" and row.source is not None:
        cls = row.source
    wait = error.retry_after if isinstance(error, AnswerError) else None
    if wait is not None and row.asked is not None:
        cls = row.asked
    return Failure(
        code=code,
        cls=cls,
        sentence=error.sentence if error.code == "redirect" else words(row.sentence, node),
        next_step=words(row.next_step, node),
        detail=f"{error.sentence} {error.detail}".strip() if isinstance(error, TransportError) else error.detail,
        side=side,
        retry_after=wait,
        delays=row.delays,
    )


def _row(error: FerryError) -> tuple[str, PolicyRow | None]:
    rows = policy()
    if isinstance(error, TransportError):
        return error.fault.value, rows.transport[error.fault]
    if isinstance(error, AnswerError):
        if error.code in rows.answer:
            return error.code, rows.answer[error.code]
        if error.code in rows.http:
            return error.code, rows.http[error.code]
        stow = rows.stow.get(error.code.removeprefix("stow-")) if error.code.startswith("stow-") else None
        if stow is not None:
            return error.code, stow
        if 100 <= error.status < 600:
            return rows.http_row(error.status)
        return error.code, None
    if isinstance(error, LocalError):
        code = error.code if error.code in rows.local else "other"
        return error.code, rows.local[code]
    return error.code, None


def _shown_address(location: str) -> str:
    """Where a redirect leads, without a query or login, in which there may be secrets; empty for what can't be read."""
    try:
        parts = urlsplit(location.strip())
        netloc = parts.netloc.rpartition("@")[2]
        address = urlunsplit((parts.scheme, netloc, parts.path, "", ""))
    except ValueError:
        return ""
    return address[:200] if address.isprintable() else ""


def _names(ranges: tuple[int | tuple[int, int], ...], value: int) -> bool:
    return any(value == one if isinstance(one, int) else one[0] <= value <= one[1] for one in ranges)


def words(template: str, node: str) -> str:
    """A sentence of the table with the node's name in it."""
    return template.replace("{node}", node)
