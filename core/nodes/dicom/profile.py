"""Which kinds of image a DICOM node takes in which encodings: found out, and put in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from core.model.diagnosis import AcceptedContexts
from core.wire.dimse.negotiation import MOST_CONTEXTS, Proposed
from core.wire.dimse.sop_classes import (
    CT,
    SECONDARY_CAPTURE,
    STORAGE_CLASSES,
    SYNTAXES,
    UNCOMPRESSED,
    VIDEO_ENDOSCOPIC,
    name_of,
    syntaxes_of,
)

T = TypeVar("T")

Negotiate = Callable[[Sequence[Proposed]], Iterable[tuple[str, str]]]
"""Propose these contexts on an association; SOP class and transfer syntax of each that was accepted."""

#: Kinds that stand for the others when it is found out which encodings the node knows at all.
_SAMPLES = (CT, SECONDARY_CAPTURE, VIDEO_ENDOSCOPIC)


def accepted_contexts(negotiate: Negotiate) -> tuple[AcceptedContexts, ...]:
    """Find out what a node takes, one association after the other.

    At first each kind in any encoding, and each encoding for some kinds; then only what can come out of these two.
    An acceptor picks one encoding out of a context, so each pair has a context of its own: for a node that takes
    everything this makes some fifty associations.
    """
    taken: dict[str, set[str]] = defaultdict(set)

    def propose(contexts: Iterable[Proposed]) -> None:
        for part in _parts(contexts, MOST_CONTEXTS):
            for sop_class, syntax in negotiate(part):
                taken[sop_class].add(syntax)

    propose(Proposed(sop_class, SYNTAXES) for sop_class in STORAGE_CLASSES)
    samples = [s for s in _SAMPLES if s in taken] or list(taken)[:1]
    propose(Proposed(sample, (syntax,)) for sample in samples for syntax in SYNTAXES)
    known = set().union(*taken.values())
    propose(
        Proposed(sop_class, (syntax,))
        for sop_class in list(taken)
        if sop_class not in samples
        for syntax in syntaxes_of(sop_class)
        if syntax in known and syntax not in taken[sop_class]
    )
    return _grouped(taken)


def _grouped(taken: Mapping[str, set[str]]) -> tuple[AcceptedContexts, ...]:
    """Kinds with the same encodings together; the refused ones last."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for sop_class in STORAGE_CLASSES:
        groups[tuple(s for s in SYNTAXES if s in taken.get(sop_class, ()))].append(sop_class)
    made = [AcceptedContexts(tuple(classes), syntaxes) for syntaxes, classes in groups.items()]
    return tuple(sorted(made, key=lambda g: (not g.transfer_syntaxes, -len(g.sop_classes))))


_FAMILIES = (
    ("1.2.840.10008.1.2.1.99", "deflated"),
    ("1.2.840.10008.1.2.4.5", "JPEG"),
    ("1.2.840.10008.1.2.4.70", "JPEG"),
    ("1.2.840.10008.1.2.4.8", "JPEG-LS"),
    ("1.2.840.10008.1.2.4.9", "JPEG 2000"),
    ("1.2.840.10008.1.2.4.100", "MPEG-2"),
    ("1.2.840.10008.1.2.4.101", "MPEG-2"),
    ("1.2.840.10008.1.2.4.107", "HEVC"),
    ("1.2.840.10008.1.2.4.108", "HEVC"),
    ("1.2.840.10008.1.2.4.10", "MPEG-4"),
    ("1.2.840.10008.1.2.4.20", "HTJ2K"),
    ("1.2.840.10008.1.2.5", "RLE"),
)
"""Beginnings of transfer syntaxes and what people call them; the first that fits."""


def summary(groups: Sequence[AcceptedContexts]) -> str:
    """The matrix in one line."""
    taken = sum(len(g.sop_classes) for g in groups if g.transfer_syntaxes)
    syntaxes = {s for g in groups for s in g.transfer_syntaxes if s not in UNCOMPRESSED[:2]}
    families = dict.fromkeys(
        next((f for start, f in _FAMILIES if s.startswith(start)), "") for s in SYNTAXES if s in syntaxes
    )
    names = [name for name in families if name]
    encodings = f"uncompressed, {', '.join(names)}" if names else "uncompressed only"
    return f"{taken} of {len(STORAGE_CLASSES)} kinds of image; {encodings}"


def text(groups: Sequence[AcceptedContexts]) -> str:
    """The matrix as plain text, for a terminal or an e-mail: the kinds, then the encodings they share."""
    lines: list[str] = []
    for group in groups:
        count = len(group.sop_classes)
        kinds = "; ".join(name_of(c) for c in group.sop_classes)
        if group.transfer_syntaxes:
            lines.append(f"{count} kinds: {kinds}")
            lines.append("  in " + "; ".join(name_of(s) for s in group.transfer_syntaxes))
        else:
            lines.append(f"{count} kinds that it refuses: {kinds}")
    return "\n".join(lines)


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while part := list(islice(left, size)):
        yield part
