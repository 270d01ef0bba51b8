"""How this computer stands as a node: how it is called, who may call, what it holds, whom it turned away."""

from __future__ import annotations

import socket
from datetime import datetime
from typing import TYPE_CHECKING

from core.model.diagnosis import Standing
from core.nodes.local.faults import speaking
from core.nodes.this_computer.addresses import own_addresses
from core.nodes.this_computer.refusals import Refusal, read_refusals

if TYPE_CHECKING:
    from core.nodes.this_computer.fields import ThisComputerFields
    from core.nodes.this_computer.node import ThisComputerNode

_SHOWN = 3  # refused callers, and callers by name


def standing(node: ThisComputerNode) -> Standing:
    """Asked now; raises a `FerryError` where the store can't be read."""
    fields = node.fields
    with speaking(node.name):
        studies, instances, size = node.spool.catalogue.totals()
        free = node.spool.free()
    lines = [
        ("Called as", f"{fields.aet} at {', '.join(addresses_of(fields)) or 'no address'}, port {fields.port}"),
        ("Who may call", may_call(node)),
        ("Holds", f"{_count(studies, 'study', 'studies')} with {_count(instances, 'image', 'images')}, {_size(size)}"),
        ("Disk", _disk(free, fields)),
    ]
    refused = [_refusal(r) for r in reversed(read_refusals(node.refusals_file)[-_SHOWN:])]
    if refused:
        lines.append(("Turned away", "\n".join((*refused, "Edit this node to let one in."))))
    return Standing(tuple(lines), for_others(fields))


def _disk(free: int, fields: ThisComputerFields) -> str:
    if free >= fields.watermark:
        return f"{_size(free)} free, {fields.reserve:g} GB of it reserved"
    return (
        f"{_size(free)} free, and {fields.reserve:g} GB are reserved: images are refused (A700, out of resources). "
        "Nothing that is held is given up for that. Make room on this disk, or bring what is held to its destination."
    )


def addresses_of(fields: ThisComputerFields) -> tuple[str, ...]:
    """Under which addresses it can be called from outside."""
    return (fields.bind,) if fields.bind else own_addresses()


def for_others(fields: ThisComputerFields) -> str:
    """What the administrator of another node has to enter, to be pasted into a message."""
    addresses = addresses_of(fields)
    return "\n".join(
        (
            "Please register this DICOM node, as a destination of C-STORE and C-MOVE and as a caller:",
            f"AE title: {fields.aet}",
            f"Host: {addresses[0] if addresses else '(no address yet)'} ({socket.gethostname()})",
            f"Port: {fields.port}",
            f"TLS: {'yes' if fields.tls else 'no'}",
            "Services: Verification, Storage, Query/Retrieve",
        )
    )


def may_call(node: ThisComputerNode) -> str:
    """In words; closed where nobody was let in."""
    registered = node.registered_callers()
    callers = [*node.fields.callers, *(f"“{name}”" for name in registered)]
    if "*@*" in node.fields.callers:
        return "anybody in the network"
    if not callers:
        return "nobody"
    more = len(callers) - 2 * _SHOWN
    return ", ".join(callers[: 2 * _SHOWN]) + (f" and {more} more" if more > 0 else "")


def _refusal(one: Refusal) -> str:
    when = datetime.fromtimestamp(one.at).astimezone()
    today = when.date() == datetime.now().astimezone().date()
    return (
        f"{one.aet or '(no AE title)'}@{one.address}, {when:%H:%M}{'' if today else f' on {when:%Y-%m-%d}'}: {one.why}"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _size(octets: float) -> str:
    for unit in ("B", "kB", "MB"):
        if octets < 999.5:
            return f"{octets:.0f} {unit}"
        octets /= 1000
    return f"{octets:,.1f} GB"
