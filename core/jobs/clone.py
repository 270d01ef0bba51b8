"""Clone: everything that one server holds into another, once or then following it. Never deletes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from core.jobs.base import Discovery, Found, TransferKind, TransferOptions
from core.jobs.discovery import discover
from core.jobs.registry import register
from core.jobs.transfers import check_transfer, transfer_options
from core.model.errors import ConfigurationError
from core.model.fields import declared
from core.model.job import After, ExtraFields, JobFields, TransferFields, Trigger
from core.model.rules import Rule
from core.nodes.base import Node


class CloneFields(TransferFields, ExtraFields):
    """Fields of a clone."""

    poll_interval: float = declared(
        2.0, title="Look for new images every", unit="s", ge=0.2, le=3600, advanced=True, group="When",
        help="When following: how often the source is asked what has arrived.",
    )  # fmt: skip


class Clone(TransferKind):
    """Content first, then what arrives; finds by inventory what the change log no longer lists."""

    name = "clone"
    title = "Clone"
    summary = "Copy everything from one server to another, and keep the copy current if you like."
    icon = "clone"
    Fields: ClassVar[type[TransferFields]] = CloneFields

    @property
    def can_follow(self) -> bool:
        return True

    def check(self, fields: JobFields, nodes: Mapping[str, Node], *, follow: bool) -> None:
        assert isinstance(fields, CloneFields)
        if len(fields.source) != 1:
            raise ConfigurationError(
                "A clone has one source.", "Use a forward to send from several nodes.", code="clone-source"
            )
        check_transfer(self.options(fields, follow=follow), nodes, Trigger.INSTANCE)

    def options(self, fields: TransferFields, *, follow: bool) -> TransferOptions:
        return transfer_options(fields, follow=follow, after=After.KEEP)

    def discover(self, fields: TransferFields, discovery: Discovery) -> Iterator[Found]:
        assert isinstance(fields, CloneFields)
        yield from discover(discovery, rule=Rule(), trigger=Trigger.INSTANCE, poll=fields.poll_interval, existing=True)


register(Clone())
