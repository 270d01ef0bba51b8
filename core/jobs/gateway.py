"""Gateway: a standing forward of what arrives, from this computer or an Orthanc, through steps, to any node."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import field_validator

from core.jobs.base import Discovery, Found, TransferOptions
from core.jobs.discovery import discover
from core.jobs.forwarding import Forwarding, ForwardingFields
from core.jobs.registry import register
from core.jobs.transfers import check_transfer
from core.model.fields import FieldType, declared
from core.model.gateway import HeartBeat
from core.model.job import After, JobFields, TransferFields
from core.nodes.base import Node

HOUR = 3600.0


class GatewayFields(ForwardingFields):
    """Fields of a gateway: those of a forward, and what lets it stand for years."""

    after: After = declared(
        After.MOVE,
        title="Once confirmed",
        help="What was received by this computer is deleted here after a time, exactly the images that were confirmed "
        "at every destination, nothing else. What is not confirmed is never deleted.",
        labels={"keep": "Keep the images for ever", "move": "Delete them here after a time"},
        group="What",
    )
    keep_hours: float = declared(
        24.0,
        title="Keep confirmed studies for",
        help="Counted from the moment when the last image of a study was confirmed. Earlier when the disk of this "
        "computer runs short. 0 deletes at once.",
        unit="h",
        ge=0,
        le=87_600,
        group="What",
    )
    empty_servers: bool = declared(
        False,
        title="Delete at other sources, too",
        help="For images that come from an Orthanc: delete them there as well. Off: only this computer's own store is "
        "emptied, and servers keep what they have.",
        advanced=True,
        group="What",
    )
    routing: bool = declared(
        True,
        title="Auto-routing",
        help="Off: images go on being received and nothing is sent, until it is switched on again.",
        group="When",
    )
    heartbeat_port: int = declared(
        0,
        title="Heart-beat at port",
        help="A small web server of this gateway's own for monitoring systems: it answers 200 while all is well and "
        "503 with the reason when not, as JSON and without patient data. 0 is none.",
        ge=0,
        le=65_535,
        group="Heart-beat",
    )
    heartbeat_address: str = declared(
        "127.0.0.1",
        title="… at address",
        help="127.0.0.1 answers programs of this computer alone. The address of a network card (0.0.0.0: of all) lets "
        "others in the network ask as well; whoever asks sees node names and counts.",
        placeholder="127.0.0.1",
        advanced=True,
        group="Heart-beat",
    )
    heartbeat_file: str = declared(
        "",
        title="Heart-beat file",
        help="A file with the same JSON that is replaced again and again: too old means that nothing runs any more.",
        type=FieldType.FILE,
        group="Heart-beat",
    )
    heartbeat_every: float = declared(
        30.0,
        title="Write the file every",
        help="How old the file is at most while the gateway lives.",
        unit="s",
        ge=1,
        le=3600,
        advanced=True,
        group="Heart-beat",
    )
    late_after: float = declared(
        60.0,
        title="Late after",
        help="An image that is not confirmed for so long makes the heart-beat tell of trouble.",
        unit="min",
        ge=1,
        le=10_080,
        advanced=True,
        group="Heart-beat",
    )

    @field_validator("heartbeat_address")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value or "127.0.0.1"))
        except ValueError as error:
            raise ValueError(f"“{value}” is no IP address of this computer, such as 127.0.0.1") from error

    @property
    def heartbeat(self) -> HeartBeat:
        return HeartBeat(
            self.heartbeat_port, self.heartbeat_address, self.heartbeat_file, self.heartbeat_every, self.late_after * 60
        )


class Gateway(Forwarding):
    """Brings on whatever arrives, for as long as it takes."""

    name = "gateway"
    title = "Gateway"
    summary = "A standing route: what this computer or an Orthanc receives goes on to other nodes, day and night."
    icon = "gateway"
    Fields = GatewayFields

    @property
    def always_follows(self) -> bool:
        return True

    def check(self, fields: JobFields, nodes: Mapping[str, Node], *, follow: bool) -> None:
        assert isinstance(fields, GatewayFields)
        check_transfer(self.options(fields, follow=True), nodes, fields.trigger)

    def options(self, fields: TransferFields, *, follow: bool) -> TransferOptions:
        assert isinstance(fields, GatewayFields)
        return replace(
            super().options(fields, follow=follow),
            own_only=not fields.empty_servers,
            keep_confirmed=fields.keep_hours * HOUR,
            routing=fields.routing,
            heartbeat=fields.heartbeat,
        )

    def discover(self, fields: TransferFields, discovery: Discovery) -> Iterator[Found]:
        assert isinstance(fields, GatewayFields)
        yield from discover(
            discovery,
            rule=fields.rule,
            trigger=fields.trigger,
            poll=fields.poll_interval,
            existing=fields.existing,
            catch_up=True,
        )


register(Gateway())
