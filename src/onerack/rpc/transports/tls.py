"""TLS: what a context must be like, and who the peer's certificate says it is.

The rule: TLS 1.3, and both ends show a certificate. A context that would do with less is refused and not changed: it is
the caller's, who may use it elsewhere too.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from onerack.errors import UsageError
from onerack.rpc.link import Peer

_ONLY_1_3: Final = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED)


def check_context(context: ssl.SSLContext | None, address: str, *, is_server: bool) -> ssl.SSLContext:
    """Raises: UsageError: it is missing, or would speak with anybody, or in an old version."""
    if context is None:
        raise UsageError(f"{address} needs tls=, an ssl.SSLContext with the cluster's authority and our certificate")
    protocol = ssl.PROTOCOL_TLS_CLIENT if is_server else ssl.PROTOCOL_TLS_SERVER
    if context.protocol == protocol:
        expected = "PROTOCOL_TLS_SERVER" if is_server else "PROTOCOL_TLS_CLIENT"
        raise UsageError(f"{address}: the TLS context is for the other side; expected one of ssl.{expected}")
    if context.minimum_version not in _ONLY_1_3:
        raise UsageError(
            f"{address}: the TLS context allows versions before 1.3; "
            "write context.minimum_version = ssl.TLSVersion.TLSv1_3"
        )
    if context.verify_mode != ssl.CERT_REQUIRED:
        who = "clients" if is_server else "the server"
        raise UsageError(
            f"{address}: the TLS context does not ask {who} for a certificate; "
            "write context.verify_mode = ssl.CERT_REQUIRED and load the authority: context.load_verify_locations(...)"
        )
    return context


def peer_of(certificate: dict[str, Any] | None, address: str) -> Peer:
    """From what `SSLSocket.getpeercert` says."""
    if not certificate:
        return Peer(address)
    alternatives = certificate.get("subjectAltName", ())
    uris = [value for kind, value in alternatives if kind == "URI"]
    hosts = [value for kind, value in alternatives if kind == "DNS"]
    common = [value for parts in certificate.get("subject", ()) for kind, value in parts if kind == "commonName"]
    return Peer(address, identity=next(iter([*uris, *hosts, *common]), ""), names=(*uris, *hosts))
