"""The diagnosis of this computer as a DICOM node: can it keep images, can it be called, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import ConfigurationError, FerryError
from core.nodes.local.faults import speaking
from core.nodes.this_computer.standing import addresses_of, for_others
from core.nodes.this_computer.storage_scp import try_port
from core.wire.dimse.association import Association, Proposed
from core.wire.dimse.peer import Peer
from core.wire.tls import TlsSettings

if TYPE_CHECKING:
    from core.nodes.this_computer.node import ThisComputerNode

_VERIFICATION = "1.2.840.10008.1.1"
_SECONDS = 3.0


def diagnose(node: ThisComputerNode, facts: dict[str, str]) -> Iterator[DiagnosisStep]:
    """Named steps; what was learned goes into `facts`."""
    yield from _store(node, facts)
    yield _certificate(node)
    yield _port(node, facts)
    yield _callers(node)
    yield _addresses(node, facts)


def _store(node: ThisComputerNode, facts: dict[str, str]) -> Iterator[DiagnosisStep]:
    try:
        with speaking(node.name):
            with node.spool.receive_file() as incoming:
                incoming.write(memoryview(b"DICOM Ferry writes here"))
            studies, instances, size = node.spool.catalogue.totals()
            free = node.spool.free()
    except FerryError as error:
        yield _failed("Images can be kept", error)
        yield DiagnosisStep("Room on the disk", StepResult.SKIPPED)
        return
    facts["images"] = str(instances)
    held = f"{node.folder}; it held {instances:,} images of {studies:,} studies, {size / 1e9:,.1f} GB"
    yield DiagnosisStep("Images can be kept", StepResult.OK, held)
    room = f"{free / 1e9:,.1f} GB free, {node.fields.reserve:g} GB of it reserved"
    facts["free-bytes"] = str(free)
    if free < node.fields.watermark:
        yield DiagnosisStep(
            "Room on the disk",
            StepResult.FAILED,
            f"{room}: images are refused",
            "Free some space, or lower what is reserved (--reserve).",
        )
    elif free < 2 * node.fields.watermark:
        yield DiagnosisStep("Room on the disk", StepResult.WARNING, room, "Free some space soon.")
    else:
        yield DiagnosisStep("Room on the disk", StepResult.OK, room)


def _certificate(node: ThisComputerNode) -> DiagnosisStep:
    step = "Own certificate"
    try:
        tls = node.server_tls()
    except FerryError as error:
        return _failed(step, error)
    if tls is None:
        return DiagnosisStep(step, StepResult.SKIPPED, "connections are not encrypted")
    demanded = " and callers must show theirs" if node.fields.caller_ca_file else ""
    return DiagnosisStep(step, StepResult.OK, f"{node.fields.certificate} is shown to callers{demanded}")


def _port(node: ThisComputerNode, facts: dict[str, str]) -> DiagnosisStep:
    """Whether it listens: asked by a C-ECHO to itself; else whether it could."""
    step = "Takes calls"
    f = node.fields
    facts["listening"] = "no"
    if not node.is_listening:
        try:
            try_port(node.name, f)
        except FerryError as error:
            if error.code != "port-in-use" or not _answers(node):
                return _failed(step, error)
        else:
            return DiagnosisStep(
                step, StepResult.OK, f"port {f.port} is free; this computer listens there while DICOM Ferry runs"
            )
    elif not _answers(node):
        return DiagnosisStep(
            step,
            StepResult.WARNING,
            f"It listens at port {f.port}, but did not answer to its own C-ECHO.",
            "Try again; if it stays so, see the log.",
        )
    facts["listening"] = "yes"
    return DiagnosisStep(step, StepResult.OK, f"listens as {f.aet} at port {f.port} and answers to C-ECHO")


def _answers(node: ThisComputerNode) -> bool:
    """Whether at our port somebody answers to our AE title, as we do ourselves."""
    f = node.fields
    tls = None
    if f.tls:
        if f.caller_ca_file:
            return node.is_listening  # it demands a certificate that we need not have
        try:
            tls = TlsSettings(pinned_sha256=node.own_fingerprint())
        except ConfigurationError:
            return False
    host = f.bind or "127.0.0.1"
    peer = Peer(node.name, host, f.port, f.aet, f.aet, tls, _SECONDS, _SECONDS, _SECONDS, _SECONDS)
    try:
        with Association.open(peer, (Proposed(_VERIFICATION, ("1.2.840.10008.1.2",)),)) as association:
            return association.context(_VERIFICATION) is not None
    except FerryError:
        return False


def _callers(node: ThisComputerNode) -> DiagnosisStep:
    step = "Who may call"
    callers = (*node.fields.callers, *node.registered_callers())
    if not callers:
        return DiagnosisStep(
            step,
            StepResult.WARNING,
            "Nobody.",
            "Add each device that shall send or ask here, with its AE title and address (--callers).",
        )
    if "*@*" in callers:
        return DiagnosisStep(
            step,
            StepResult.WARNING,
            "Anybody in the network.",
            "Name the devices that may, with AE title and address (--callers).",
        )
    return DiagnosisStep(step, StepResult.OK, ", ".join(callers))


def _addresses(node: ThisComputerNode, facts: dict[str, str]) -> DiagnosisStep:
    """What others need to know; `tell` is text to paste for their administrators."""
    step = "Reached by others"
    f = node.fields
    addresses = addresses_of(f)
    if not addresses or addresses[0] in ("127.0.0.1", "::1"):
        return DiagnosisStep(
            step,
            StepResult.WARNING,
            "This computer has no address that others could reach.",
            "Connect it to the network, or correct the address that it listens at (--bind).",
        )
    facts["addresses"] = " ".join(addresses)
    return DiagnosisStep(step, StepResult.OK, f"{f.aet} at {', '.join(addresses)}, port {f.port}", tell=for_others(f))


def _failed(step: str, error: FerryError) -> DiagnosisStep:
    return DiagnosisStep(step, StepResult.FAILED, error.sentence, error.next_step, error.detail)
