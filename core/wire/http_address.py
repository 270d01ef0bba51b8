"""Where requests go: the server's address, and the proxy on the way if there is one."""

from __future__ import annotations

import base64
import ipaddress
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from core.model.errors import ConfigurationError
from core.wire.failures import place
from core.wire.host import is_loopback


@dataclass(frozen=True, slots=True)
class Address:
    """A server, as its URL names it.

    Attributes
    ----------
    host : str
        In ASCII (IDNA), IPv6 without brackets.
    base_path : str
        Goes before every path; empty, or begins with a slash and ends without one.
    """

    secure: bool
    host: str
    port: int
    base_path: str

    @property
    def where(self) -> str:
        """ "host:port", for sentences."""
        return place(self.host, self.port)

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that was named explicitly.

    Attributes
    ----------
    authorization : str
        Value of the header Proxy-Authorization, or empty.
    """

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @property
    def where(self) -> str:
        return place(self.host, self.port)


def parse_address(url: str) -> Address:
    """Read "https://host:port/base".

    Raises
    ------
    ConfigurationError
        It is no such URL, or has a password in it.
    """
    parts, host, port = _split(url, "address", ("http", "https"))
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "The address has a user name or password in it.", "Enter them in their own fields, not in the address."
        )
    if parts.query or parts.fragment or url.rstrip().endswith(("?", "#")):
        raise ConfigurationError("The address has a ? or # in it.", "Give only the server's address and base path.")
    secure = parts.scheme == "https"
    base = quote(unquote(parts.path), safe="/:@!$&'()*+,;=~").rstrip("/")
    return Address(secure, host, port or (443 if secure else 80), base)


def parse_proxy(url: str) -> Proxy:
    """Read "http://user:password@host:port"; raises `ConfigurationError` when it is no such URL."""
    parts, host, port = _split(url if "://" in url else f"http://{url}", "proxy's address", ("http",))
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = "Basic " + base64.b64encode(pair).decode("ascii")
    return Proxy(host, port or 80, authorization)


def system_proxy(url: str) -> str | None:
    """The proxy that this computer's settings (environment, Windows, macOS) name for a URL.

    None for none, and for this computer itself, to which no proxy knows the way.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    if urllib.request.proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all") or None


def _split(url: str, what: str, schemes: tuple[str, ...]) -> tuple[_Parts, str, int | None]:
    """The parts of a URL, its host in ASCII and its port. The URL is never quoted: it may hold a password."""
    try:
        split = urlsplit(url.strip())
        port = split.port
        host = split.hostname or ""
    except ValueError:
        raise ConfigurationError(
            f"The {what} has no valid host or port.", "It looks like http://192.168.1.5:8042; ports go up to 65535."
        ) from None
    if split.scheme not in schemes:
        raise ConfigurationError(
            f"The {what} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}.",
            "It looks like http://192.168.1.5:8042.",
        )
    if port == 0:
        raise ConfigurationError(f"The {what} has the port 0.", "Ports go from 1 to 65535.")
    if any(letter <= " " or letter == "\x7f" for letter in url.strip()):
        raise ConfigurationError(f"The {what} has blanks or control characters in it.", "Enter it again.")
    parts = _Parts(split.scheme, split.username, split.password, split.path, split.query, split.fragment)
    return parts, _ascii_host(host, what), port


@dataclass(frozen=True, slots=True)
class _Parts:
    scheme: str
    username: str | None
    password: str | None = field(repr=False)
    path: str
    query: str
    fragment: str


def _ascii_host(host: str, what: str) -> str:
    if not host:
        raise ConfigurationError(f"The {what} names no host.", "It looks like http://192.168.1.5:8042.")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass  # a name
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ConfigurationError(f"The {what} has a host name that can't exist.", "Check its spelling.") from error
    if not all(letter.isalnum() or letter in "-._" for letter in name):
        raise ConfigurationError(f"The {what} has a host name that can't exist.", "Check its spelling.")
    return name
