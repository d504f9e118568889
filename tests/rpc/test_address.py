"""Tests of addresses: what is one, what is none and why, and what stays on this machine."""

from __future__ import annotations

import pytest

from onerack.errors import UsageError
from onerack.rpc.transports import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:7000", Address("tcp", "127.0.0.1", 7000)),
        ("tcp://Some-Host.example:0", Address("tcp", "some-host.example", 0)),
        ("tls://[::1]:65535", Address("tls", "::1", 65535)),
        ("tls://[0:0:0::0001]:1", Address("tls", "::1", 1)),
        ("unix:///run/x y.sock", Address("unix", path="/run/x y.sock")),
        ("unix://relative.sock", Address("unix", path="relative.sock")),
        ("memory://bank", Address("memory", "bank")),
        ("sim://node-1.rack_2", Address("sim", "node-1.rack_2")),
        ("name://accounts", Address("name", "accounts")),
    ],
)
def test_an_address_is_taken_apart_and_its_text_gives_it_again(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("tls://[0::1]:07", "tls://[::1]:7"), ("tcp://LocalHost:1", "tcp://localhost:1")],
)
def test_the_same_address_has_the_same_text(text: str, canonical: str) -> None:
    assert str(parse_address(text)) == canonical


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not an address; expected tcp://host:port"),
        ("127.0.0.1:7000", "is not an address"),
        ("http://host:80", "is not an address"),
        ("TCP://host:80", "is not an address"),
        ("tcp://host", "has no host and port; expected tcp://host:port"),
        ("tls://:80", "has no host and port; expected tls://host:port"),
        ("tcp://host:", "has port ''"),
        ("tcp://host:65536", "has port '65536'; expected a number from 0 to 65535"),
        ("tcp://host:-1", "has port '-1'"),
        ("tcp://host:٣", "has port '٣'"),
        ("tcp://host:" + "9" * 5000, "has port"),
        ("tcp://::1:80", "stands in brackets"),
        ("tcp://[host]:80", "is not an IPv6 address"),
        ("tcp://[::1:80", "stands in brackets"),
        ("tcp://ho st:80", "expected a name or an IP address"),
        ("tcp://user@host:80", "expected a name or an IP address"),
        ("tcp://a..b:80", "expected a name or an IP address"),
        ("tls://.a:80", "expected a name or an IP address"),
        ("tcp://" + "a" * 64 + ":80", "expected a name or an IP address"),
        ("tcp://" + "a.b" * 100 + ":80", "expected a name or an IP address"),
        ("unix://", "names no socket file"),
        ("unix:///run/\0x", "names no socket file"),
        ("memory://", "has no name"),
        ("memory://a/b", "has no name"),
        ("name://a b", "has no name"),
        ("sim://node:1", "has no name"),
    ],
)
def test_what_is_none_is_refused_with_what_was_found(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_address(text)
    assert complaint in str(refusal.value)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.9.9.9:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://localhost:1", True),
        ("unix:///x", True),
        ("memory://x", True),
        ("sim://x", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://10.0.0.1:1", False),
        ("tcp://localhost.example:1", False),
        ("tls://example.com:1", False),
        ("name://x", False),
    ],
)
def test_what_stays_on_this_machine(text: str, expected: bool) -> None:
    assert parse_address(text).is_loopback is expected
