"""Addresses: where a service can be reached, as text and taken apart.

    tcp://host:port      tls://host:port      tcp://[::1]:port       sockets between machines
    unix:///run/x.sock                                               a socket file of this machine
    memory://name                                                    within this process
    sim://name                                                       within a simulated world
    name://service                                                   to be resolved into one or more of the others

The rule: an address has one canonical text, so that addresses may be compared and serve as keys.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import msgspec

from onerack.errors import UsageError

EXPECTED: Final = "tcp://host:port, tls://host:port, unix://path, memory://name, sim://name or name://service"
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_NAMED: Final = ("memory", "sim", "name")


class Address(msgspec.Struct, frozen=True):
    """One address. `host` is the name for memory, sim and name; `path` is for unix only."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        if self.scheme in _NAMED:
            return f"{self.scheme}://{self.host}"
        return f"{self.scheme}://{host_and_port(self.host, self.port)}"

    @property
    def is_loopback(self) -> bool:
        """Whether what is said there cannot leave this machine."""
        if self.scheme in ("unix", "memory", "sim"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises: UsageError: it is none; says what was found and what is expected."""
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in ("tcp", "tls", "unix", *_NAMED):
            raise UsageError(f"{text!r} is not an address; expected {EXPECTED}")
        if scheme == "unix":
            if not rest or "\0" in rest:
                raise UsageError(
                    f"{text!r} names no socket file; expected unix://path, for instance unix:///run/x.sock"
                )
            return cls(scheme, path=rest)
        if scheme in _NAMED:
            if not _NAME.fullmatch(rest):
                raise UsageError(f"{text!r} has no name of letters, digits and . _ - after {scheme}://")
            return cls(scheme, rest)
        return cls(scheme, *_host_and_port(text, rest))


def host_and_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_and_port(text: str, rest: str) -> tuple[str, int]:
    host, separator, port = rest.rpartition(":")
    if not separator or not host:
        raise UsageError(f"{text!r} has no host and port; expected {text.partition('://')[0]}://host:port")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 65536):
        raise UsageError(f"{text!r} has port {port!r}; expected a number from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), int(port)
        except ValueError:
            raise UsageError(f"{text!r} has {host!r} in brackets, which is not an IPv6 address") from None
    if ":" in host:
        raise UsageError(f"{text!r} has host {host!r}; an IPv6 address stands in brackets, as in tcp://[::1]:7000")
    if not _NAME.fullmatch(host):
        raise UsageError(f"{text!r} has host {host!r}; expected a name or an IP address")
    return host.lower(), int(port)
