"""What forwards have in common: which studies, when, what becomes of them at the source, and a fallback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from core.jobs.base import Discovery, Found, TransferKind, TransferOptions
from core.jobs.discovery import discover
from core.jobs.transfers import check_transfer, transfer_options
from core.model.fields import FieldType, declared
from core.model.job import After, ExtraFields, FilterFields, JobFields, ProcessingFields, TransferFields, Trigger
from core.nodes.base import Node


class ForwardingFields(TransferFields, FilterFields, ProcessingFields, ExtraFields):
    """Fields of a job that forwards."""

    after: After = declared(
        After.KEEP,
        title="At the source",
        help="Move deletes at the source exactly the images that were confirmed at every destination, nothing else.",
        labels={"keep": "Keep the images", "move": "Move: delete once confirmed"},
        group="What",
    )
    trigger: Trigger = declared(
        Trigger.STUDY,
        title="Send when",
        help="For a forward that follows: what makes it send.",
        labels={
            "instance": "An image has arrived",
            "series": "A series is complete (stable)",
            "study": "A study is complete (stable)",
        },
        group="When",
    )
    existing: bool = declared(
        True,
        title="Also what is there already",
        help="For a forward that follows: send what the sources hold at the start, too.",
        advanced=True,
        group="When",
    )
    poll_interval: float = declared(
        2.0, title="Look for new images every", unit="s", ge=0.2, le=3600, advanced=True, group="When",
        help="When following: how often the sources are asked what has arrived.",
    )  # fmt: skip
    fallback: str = declared(
        "",
        title="Instead, when a destination is down",
        help="Takes over whole studies while a destination does not answer.",
        type=FieldType.NODE,
        advanced=True,
        group="How",
    )
    fallback_after: float = declared(
        30.0, title="… after", unit="s", ge=0, le=86400, advanced=True, group="How",
        help="How long a destination must be down before the fallback takes over.",
    )  # fmt: skip
    label_success: str = declared(
        "",
        title="Label when confirmed",
        help="Put on the study at the source (at the destination, when it was moved), where the server has labels.",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        advanced=True,
        group="Labels",
    )
    label_failure: str = declared(
        "",
        title="Label when failed",
        help="Put on the study at the source, where the server has labels.",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        advanced=True,
        group="Labels",
    )


class Forwarding(TransferKind):
    """Sends what matches, with proof for every image; base of the kinds that do."""

    Fields: ClassVar[type[TransferFields]] = ForwardingFields

    @property
    def can_follow(self) -> bool:
        return True

    def check(self, fields: JobFields, nodes: Mapping[str, Node], *, follow: bool) -> None:
        assert isinstance(fields, ForwardingFields)
        check_transfer(self.options(fields, follow=follow), nodes, fields.trigger)

    def options(self, fields: TransferFields, *, follow: bool) -> TransferOptions:
        assert isinstance(fields, ForwardingFields)
        return transfer_options(
            fields,
            follow=follow,
            after=fields.after,
            fallback=fields.fallback,
            fallback_after=fields.fallback_after,
            label_success=fields.label_success,
            label_failure=fields.label_failure,
            filtered=bool(fields.rule.parts),
        )

    def discover(self, fields: TransferFields, discovery: Discovery) -> Iterator[Found]:
        assert isinstance(fields, ForwardingFields)
        yield from discover(
            discovery,
            rule=fields.rule,
            trigger=fields.trigger,
            poll=fields.poll_interval,
            existing=fields.existing,
        )
