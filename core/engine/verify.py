"""What a destination's answer proves: pure judgements, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.model.outcome import DeliveryState, Evidence, Failure, FailureClass, Method
from core.model.study import Holding, InstanceRef, Presence


class Verdict(StrEnum):
    ABSENT = "absent"
    SAME = "same"
    DIFFERENT = "different"
    COMPARE = "compare"  # listed in another encoding, or without a digest: the attributes decide
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known about one instance at the destination; `evidence` where it is there.

    With `Verdict.COMPARE` it is what counts where the attributes can't be compared.
    """

    verdict: Verdict
    evidence: Evidence | None = None


def judge(
    instance: InstanceRef, known_digest: str | None, holding: Holding, at: datetime, *, newly_stored: bool
) -> Judgement:
    """Judge what a destination holds against what the source holds.

    Parameters
    ----------
    known_digest : str | None
        MD5 of the source's file, where known.
    newly_stored : bool
        The destination said that it stored this very sending; what it holds then comes from us.
    """
    if holding.presence is Presence.ABSENT:
        return Judgement(Verdict.ABSENT)
    if holding.presence is Presence.UNKNOWN:
        return Judgement(Verdict.UNKNOWN)
    if known_digest and holding.digest:
        if known_digest.lower() == holding.digest.lower():
            return Judgement(Verdict.SAME, Evidence(Method.DIGEST, at, holding.digest.lower()))
        recoded = (
            holding.transfer_syntax is not None
            and instance.transfer_syntax is not None
            and holding.transfer_syntax != instance.transfer_syntax
        )
        if recoded and newly_stored:
            return Judgement(Verdict.SAME, Evidence(Method.UID, at, note=_recoded_note(holding)))
        if recoded:
            return Judgement(Verdict.COMPARE)
        return Judgement(Verdict.DIFFERENT, _difference(known_digest, holding, at))
    note = (
        "The destination can't tell digests."
        if not holding.digest
        else "The source can't tell digests."
    )  # fmt: skip
    by_uid = Evidence(Method.UID, at, note=note)
    if newly_stored:
        return Judgement(Verdict.SAME, by_uid)
    # What lies there under this UID may be anything.
    return Judgement(Verdict.COMPARE, by_uid)


def judge_attributes(
    known_digest: str | None,
    holding: Holding,
    source: Mapping[str, str] | None,
    destination: Mapping[str, str] | None,
    at: datetime,
) -> Judgement:
    """Judge a copy whose digest can't be compared by all attributes but pixels and encoding."""
    if source is not None and destination is not None and dict(source) == dict(destination):
        if known_digest and holding.digest:
            note = _recoded_note(holding)
        else:
            note = f"The {'source' if holding.digest else 'destination'} can't tell digests."
        return Judgement(Verdict.SAME, Evidence(Method.HEADER, at, note=note + " All attributes are equal."))
    return Judgement(Verdict.DIFFERENT, _difference(known_digest or "", holding, at))


def _recoded_note(holding: Holding) -> str:
    syntax = f" (transfer syntax {holding.transfer_syntax})" if holding.transfer_syntax else ""
    return f"The destination re-encodes what it stores{syntax}; listed by SOP Instance UID."


def _difference(known_digest: str, holding: Holding, at: datetime) -> Evidence:
    return Evidence(
        Method.DIGEST,
        at,
        (holding.digest or "").lower(),
        f"The source holds {known_digest or 'another digest'}, the destination {holding.digest or 'none'}.",
    )


def proved_state(tried: bool) -> DeliveryState:
    """State of an instance found identical before sending: ours from an earlier attempt, or already there.

    `tried` says whether it was ever sent: an attempt may have got no further than asking the destination.
    """
    return DeliveryState.VERIFIED if tried else DeliveryState.SKIPPED


def not_listed(node: str) -> Failure:
    """The destination acknowledged an instance, and doesn't list it."""
    return Failure(
        code="not-confirmed",
        cls=FailureClass.RETRY,
        sentence=f"{node} said that it stored the image, but doesn't list it.",
        next_step=f"Check the free space, filters and forwarding rules of {node}; nothing was deleted at the source.",
        side="destination",
    )


def cannot_tell(node: str) -> Failure:
    """The destination couldn't say whether it holds an instance."""
    return Failure(
        code="unknown-at-destination",
        cls=FailureClass.RETRY,
        sentence=f"{node} could not say whether it holds the image.",
        next_step=f"Test {node} on the Nodes page.",
        side="destination",
    )
