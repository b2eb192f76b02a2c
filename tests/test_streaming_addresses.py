"""Addresses, held against IANA's registries and the C library's own reading of them."""

import asyncio
import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.streaming.addresses import PrivateAddress, Resolver, is_public, literal_address, socket_factory
from toolkit.streaming.threads import DaemonPool

# Addresses of well-known public hosts: example.org, Cloudflare's, Google's and Quad9's resolvers, Wikipedia.
PUBLIC = [
    *("93.184.216.34", "1.1.1.1", "8.8.8.8", "9.9.9.9", "185.15.59.224", "223.255.255.254", "172.32.0.1"),
    *("2606:4700:4700::1111", "2001:4860:4860::8888", "2a02:ec80:300:ed1a::1", "2620:fe::fe"),
    *("::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"),
]
# IANA's special-purpose registries (https://www.iana.org/assignments/iana-ipv4-special-registry and ipv6), and the
# addresses at which clouds keep their machines' secrets.
NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.1"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:10::1"),
    *("2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:1::1", "3fff::1", "5f00::1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1"),
    *("", "localhost", "1.2.3", "2130706433", "[::1]"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_hosts_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_everything_else_is_not(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_as_public_in_each_of_its_ipv6_forms(address: object) -> None:
    number = int.from_bytes(socket.inet_aton(str(address)))
    high, low = number >> 16, number & 0xFFFF
    for form in (f"::ffff:{high:x}:{low:x}", f"64:ff9b::{high:x}:{low:x}", f"2002:{high:x}:{low:x}::1"):
        assert is_public(form) == is_public(str(address)), form


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.0.1", "127.0.0.1."],
)
def test_every_form_of_an_address_that_the_c_library_reads(host: str) -> None:
    assert literal_address(host) == "127.0.0.1" == socket.getaddrinfo(host.rstrip("."), 80)[0][4][0]


@pytest.mark.parametrize("host", ["example.org", "1.2.3.4.5", "127.0.0.1.nip.io", "0x", "", "256.256.256.256", "de.ad"])
def test_names_are_no_addresses(host: str) -> None:
    assert literal_address(host) is None


def resolve(host: str, public_only: bool) -> list[str]:
    async def look_up() -> list[str]:
        with DaemonPool(1) as pool:
            return [each["host"] for each in await Resolver(pool, public_only).resolve(host, 80)]

    return asyncio.run(look_up())


def test_a_name_that_leads_home_is_refused() -> None:
    with pytest.raises(PrivateAddress, match=r"localhost resolves to .*, which is not public"):
        resolve("localhost", public_only=True)
    assert set(resolve("localhost", public_only=False)) <= {"127.0.0.1", "::1"}


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, 3)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: answers)
    assert resolve("two.example", public_only=False) == ["93.184.216.34", "fe80::1%3"]
    with pytest.raises(PrivateAddress, match="fe80::1%3"):
        resolve("two.example", public_only=True)


def test_the_socket_itself_is_refused() -> None:
    home = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    with pytest.raises(PrivateAddress, match=r"127\.0\.0\.1 is not public"):
        socket_factory(True, 1 << 16)(home)
    with socket_factory(False, 1 << 16)(home) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 1 << 17
        assert made.connect_ex(("127.0.0.1", 1)) == errno.ECONNREFUSED
