"""Who may call this computer: the allow-list of AE titles and addresses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Caller:
    """One entry: an AE title (None for any) and a network (None for anywhere)."""

    aet: str | None
    network: Network | None

    def __str__(self) -> str:
        where = "*" if self.network is None else str(self.network)
        if self.network is not None and self.network.num_addresses == 1:
            where = str(self.network.network_address)
        return f"{'*' if self.aet is None else self.aet}@{where}"


@lru_cache(maxsize=1024)
def parse_caller(text: str) -> Caller:
    """Read "AET@address"; either part may be ``*``, the address a network such as 10.4.0.0/16.

    Raises
    ------
    ValueError
        With what is wrong and an example.
    """
    example = "write it as MODALITY1@10.4.2.17, *@10.4.0.0/16 or MODALITY1@*"
    aet, at, address = (part.strip() for part in text.strip().rpartition("@"))
    if not at or not aet or not address:
        raise ValueError(f"“{text}” is no caller; {example}")
    if len(aet) > 16 or "\\" in aet or not all(" " <= c <= "~" for c in aet):
        raise ValueError(f"“{aet}” is no AE title: at most 16 characters of ASCII, no backslash")
    if aet != "*" and "*" in aet:
        raise ValueError(f"“{aet}”: * stands for any AE title, not for a part of one")
    return Caller(None if aet == "*" else aet, None if address == "*" else _network(address, example))


def _network(address: str, example: str) -> Network:
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        return ipaddress.ip_network(address, strict=False)
    except ValueError:
        raise ValueError(
            f"“{address}” is neither an IP address nor a network (names of hosts can be forged); {example}"
        ) from None


class AllowList:
    """Which callers are let in: those that were entered, and nobody else, not even on this computer."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._callers = tuple(parse_caller(entry) for entry in entries)

    def lets_connect(self, address: str) -> bool:
        """Whether anybody at this address may call, as far as can be said before the AE title is known.

        On this computer run the diagnosis and the program's own jobs: who it is, the AE title tells.
        """
        ip = plain_address(address)
        return ip.is_loopback or any(c.network is None or ip in c.network for c in self._callers)

    def lets_in(self, aet: str, address: str) -> bool:
        """Whether this AE title (PS3.8 section 9.3.2, without spaces around it) may call from this address."""
        ip = plain_address(address)
        return any(
            (c.aet is None or c.aet == aet.strip()) and (c.network is None or ip in c.network) for c in self._callers
        )

    def describe(self) -> str:
        return ", ".join(str(caller) for caller in self._callers)


def plain_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as it is compared: without zone, and IPv4 as such where a socket shows it as IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
