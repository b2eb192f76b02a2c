"""Which addresses on the internet may be visited: none that leads back into our own machine or network.

A page on the internet can name `http://169.254.169.254/` or let its own name resolve to 127.0.0.1, and a server that
fetches it for a stranger would read out its own secrets (server-side request forgery, OWASP's SSRF). So every address
is checked that a name resolves to, and once more when the connection to it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Global by their number, though no host of the internet answers there: IETF's block (RFC 6890), 6to4 relays (RFC 7526),
# AS112's sinks (RFC 7535), and the host of every machine in Azure (its "wire server").
_NOT_PUBLIC_4 = tuple(
    map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "192.31.196.0/24", "168.63.129.16/32"))
)
# All that is assigned to hosts on the internet so far (RFC 4291, section 2.4, and IANA's registry).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Within it: Teredo, benchmarks, ORCHID, and the rest of IETF's block (RFC 6890), documentation (RFC 3849, RFC 9637).
_NOT_PUBLIC_6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What the C library's inet_aton would read as an address: decimal, octal and hexadecimal numbers, one to four of them.
_NUMBERS = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}\.?", re.IGNORECASE)


class PrivateAddress(OSError):  # noqa: N818 - it says what was met
    """A connection to an address that is not public was refused."""


def is_public(address: str) -> bool:
    """Whether an IP address is that of a host on the public internet; text that is no address is not.

    An IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4) is as public as that one.

    >>> is_public("93.184.216.34"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1"), is_public("64:ff9b::7f00:1")
    (True, False, False, False)
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return _is_public(parsed)


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        special = address.is_multicast or address.is_reserved or any(address in net for net in _NOT_PUBLIC_4)
        return address.is_global and not special
    carried = _carried(address)
    if carried is not None:
        return _is_public(carried)
    return address in _GLOBAL_UNICAST and not any(address in net for net in _NOT_PUBLIC_6)


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address at which a packet for this IPv6 address ends, if there is one."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def literal_address(host: str) -> str | None:
    """The address that a URL's host is, in any form that the C library reads, or None where it is a name.

    >>> literal_address("2130706433"), literal_address("0x7f.1"), literal_address("[::1]"), literal_address("a.org")
    ('127.0.0.1', '127.0.0.1', '::1', None)
    """
    bare = host.removeprefix("[").removesuffix("]")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(bare))
    if not _NUMBERS.fullmatch(bare):
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(bare.removesuffix(".")))
    except OSError:
        return None


class Resolver(AbstractResolver):
    """Names into addresses, in threads that nobody waits for at the end.

    With `public_only`, a name with even one address that is not public raises PrivateAddress: its owner chooses
    which of them we would meet. The connection is made to the very addresses that were checked, so that a name which
    resolves differently a moment later (DNS rebinding) gains nothing.
    """

    def __init__(self, executor: Executor, public_only: bool = True) -> None:
        self._executor, self._public_only = executor, public_only

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._executor, _look_up, host, port, family)
        private = [each["host"] for each in found if not is_public(each["host"])] if self._public_only else []
        if private:
            raise PrivateAddress(f"{host} resolves to {private[0]}, which is not public")
        return found

    async def close(self) -> None:
        pass


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return [
        ResolveResult(hostname=host, host=_host(address), port=port, family=kind, proto=proto, flags=_NUMERIC)
        for kind, _, proto, _, address in found
    ]


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _host(address: tuple[Any, ...]) -> str:
    """The numeric address with its scope, which a link-local one needs."""
    return f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else str(address[0])


def socket_factory(public_only: bool, receive_buffer: int) -> Callable[[tuple[Any, ...]], socket.socket]:
    """What makes the sockets of aiohttp's connector: the last place that an address can be refused at.

    A small receive buffer (bytes) bounds what a server can push to us before anybody asked for it.
    """

    def make(info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, address = info
        if public_only and not is_public(address[0]):
            raise PrivateAddress(f"{address[0]} is not public")
        made = socket.socket(family, kind, proto)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        return made

    return make
