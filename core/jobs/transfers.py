"""What all transfer kinds share: options from fields, and the check of the nodes before the start."""

from __future__ import annotations

from collections.abc import Mapping

from core.jobs.base import TransferOptions, need
from core.model.disk import DiskLimit
from core.model.errors import ConfigurationError, NotSupportedError
from core.model.job import After, ExtraFields, Path, ProcessingFields, TransferFields, Trigger
from core.model.outcome import EvidenceLevel
from core.nodes.base import Commit, Confirm, Delete, Extras, Follow, Inventory, Node, Read, Write

MEGABYTE = 1_000_000


def transfer_options(
    fields: TransferFields,
    *,
    follow: bool,
    after: After,
    fallback: str = "",
    fallback_after: float = 30.0,
    label_success: str = "",
    label_failure: str = "",
    retry_delays: tuple[float, ...] = (),
    filtered: bool = False,
    unconfirmed_pushes: int = 2,
    check_interval: float = 5.0,
    arrival_wait: float = 60.0,
    disk_limit: DiskLimit | None = None,
    stop_at_error: bool = False,
) -> TransferOptions:
    """The engine's view of a transfer's fields; the others are as a kind's own fields say (`TransferOptions`)."""
    return TransferOptions(
        sources=fields.source,
        destinations=fields.destination,
        after=after,
        evidence=fields.evidence,
        path=fields.path,
        overwrite=fields.overwrite,
        workers=fields.workers,
        max_attempts=fields.max_attempts,
        retry_delays=retry_delays or fields.retry_delays,
        bandwidth=fields.bandwidth * MEGABYTE,
        schedule=fields.windows,
        follow=follow,
        fallback=fallback,
        fallback_after=fallback_after,
        label_success=label_success,
        label_failure=label_failure,
        extras=fields.extras if isinstance(fields, ExtraFields) else frozenset(),
        filtered=filtered,
        unconfirmed_pushes=unconfirmed_pushes,
        check_interval=check_interval,
        arrival_wait=arrival_wait,
        disk_limit=disk_limit,
        stop_at_error=stop_at_error,
        steps=fields.step if isinstance(fields, ProcessingFields) else (),
        originals_elsewhere=isinstance(fields, ProcessingFields) and fields.originals_elsewhere,
        paths=_paths(fields),
    )


def _paths(fields: TransferFields) -> dict[str, Path]:
    """The path to each destination for which one was chosen of its own."""
    both = [name for name in fields.push_to if name in fields.relay_to]
    if both:
        raise ConfigurationError(
            f"{both[0]} can't get its images through this computer and by the server itself at the same time.",
            f"Choose one path to {both[0]}.",
            code="two-paths",
        )
    return {**dict.fromkeys(fields.push_to, Path.PUSH), **dict.fromkeys(fields.relay_to, Path.RELAY)}


def check_transfer(options: TransferOptions, nodes: Mapping[str, Node], trigger: Trigger) -> None:
    """Refuse what can't work, in words, before anything is planned.

    Raises
    ------
    ConfigurationError
        The same node on both sides, or a move without proof.
    NotSupportedError
        A node lacks a capability.
    """
    targets = [n for n in (*options.destinations, options.fallback) if n]
    both = [n for n in targets if n in options.sources]
    if both:
        raise ConfigurationError(
            f"{both[0]} is source and destination at the same time.", "Choose another destination.", code="same-node"
        )
    if options.fallback and options.fallback in options.destinations:
        raise ConfigurationError(
            f"{options.fallback} is a destination already, so it can't be the fallback.",
            "Choose another fallback.",
            code="fallback",
        )
    astray = [name for name in options.paths if name not in targets]
    if astray:
        raise ConfigurationError(
            f"A path to {astray[0]} was chosen, but nothing is sent there.",
            f"Choose {astray[0]} as a destination too, or leave out its path.",
            code="path-astray",
        )
    if options.after is After.MOVE and options.evidence is EvidenceLevel.SENT:
        raise ConfigurationError(
            "A move needs proof that the images arrived: “sent” is not enough to delete at the source.",
            "Choose “verified” as the proof wanted, or keep the images at the source.",
            code="move-evidence",
        )
    if options.steps:
        _check_steps(options)
    for name in options.sources:
        need(nodes[name], Inventory, Read)
        if options.follow:
            need(nodes[name], Follow)
        if options.deletes_at(nodes[name]):
            need(nodes[name], Delete)
    for name in targets:
        need(nodes[name], Write)
        _need_evidence(nodes[name], options.evidence)
    if options.extras:
        for name in (*options.sources, *targets):
            need(nodes[name], Extras)
    _require_apart(options, nodes, targets)
    if options.after is After.MOVE:
        _require_other_servers(options, nodes, targets)


def _check_steps(options: TransferOptions) -> None:
    if Path.PUSH in (options.path, *options.paths.values()):
        raise ConfigurationError(
            "A server that sends by itself sends the images as they are: its images can't go through processing steps.",
            "Choose “Through this computer” as the path, or leave out the steps.",
            code="steps-push",
        )
    if options.extras:
        raise ConfigurationError(
            "Labels, metadata and attachments can't go along with images that processing steps change: they belong to "
            "the images as they were, and may say whose they are.",
            "Leave them out, or leave out the steps.",
            code="steps-extras",
        )


def _need_evidence(node: Node, wanted: EvidenceLevel) -> None:
    if wanted is EvidenceLevel.COMMITTED and not isinstance(node, Commit):
        raise NotSupportedError(
            f"{node.name} doesn't offer storage commitment.",
            "Choose “verified” as the proof wanted.",
            code="no-commitment",
        )
    if wanted is EvidenceLevel.VERIFIED and not isinstance(node, Confirm):
        raise NotSupportedError(
            f"{node.name} can't say which images it holds, so nothing sent there can be confirmed.",
            "Choose another destination, or ask for no more than “sent” (--evidence sent).",
            code="cannot-be-confirmed",
        )


def _require_apart(options: TransferOptions, nodes: Mapping[str, Node], targets: list[str]) -> None:
    places: dict[tuple[str, str], str] = {}
    for name in options.sources:
        places[type(nodes[name]).__name__, nodes[name].place] = name
    for name in targets:
        twin = places.get((type(nodes[name]).__name__, nodes[name].place))
        if twin:
            raise ConfigurationError(
                f"{twin} and {name} are the same place ({nodes[name].place}).",
                "Choose another destination.",
                code="same-storage",
            )


def _require_other_servers(options: TransferOptions, nodes: Mapping[str, Node], targets: list[str]) -> None:
    """A server's web interface and the services below it are one storage: a move would delete the only copy."""
    for source in options.sources:
        for target in targets:
            here, there = nodes[source], nodes[target]
            if type(here) is type(there) or not (hasattr(here.fields, "url") and hasattr(there.fields, "url")):
                continue
            shorter, longer = sorted((f"{here.place}/", f"{there.place}/"), key=len)
            if longer.startswith(shorter):
                raise ConfigurationError(
                    f"{source} and {target} are the same server ({shorter.rstrip('/')}): a move would delete the only "
                    "copy.",
                    "Choose another destination.",
                    code="same-storage",
                )
