"""Names of hosts: whether one can be a name at all, and whether it is this computer."""

from __future__ import annotations

import ipaddress

_NEVER = set("\\/<>\"'`{}|^,;@?#%&=+*!()[]")


def checked_host(value: str) -> str:
    """A host's name or address as it is dialled: without brackets round an IPv6 address.

    Raises
    ------
    ValueError
        With what is wrong.
    """
    if not value:
        raise ValueError("the host is empty; write its name or address, such as pacs.hospital.lan or 10.4.2.17")
    if "://" in value:
        raise ValueError("write the host's name alone, without “://” and what stands before it")
    plain = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if plain.count(":") > 1:
        try:
            ipaddress.IPv6Address(plain.partition("%")[0])
        except ValueError as error:
            raise ValueError(f"“{plain}” is not an IPv6 address") from error
        return plain
    if ":" in plain:
        raise ValueError("write the port as the port (--port), not behind the host")
    if any(c.isspace() or not c.isprintable() for c in plain) or set(plain) & _NEVER:
        raise ValueError(f"“{plain}” is not the name of a host")
    if len(plain) > 253 or not all(label and len(label) <= 63 for label in plain.rstrip(".").split(".")):
        raise ValueError(f"“{plain}” is not the name of a host")
    if plain.replace(".", "").isdigit():
        try:
            ipaddress.IPv4Address(plain)
        except ValueError as error:
            raise ValueError(f"“{plain}” is not an IPv4 address: it has four numbers from 0 to 255") from error
    return plain


def is_loopback(host: str) -> bool:
    """Whether this host is certainly this computer itself, judged by its name alone."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
