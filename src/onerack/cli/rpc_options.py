"""The options of `onerack rpc`, one name for each, and what those of the connection mean."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onerack.errors import InputError, UsageError

Server = Annotated[
    str,
    typer.Argument(metavar="ADDR", help="Where the server is: tcp://host:port, tls://host:port or unix:///path."),
]
ServiceName = Annotated[
    str | None,
    typer.Argument(metavar="SERVICE", help="Only this service. Default: all but the builtin ones."),
]
MethodName = Annotated[str, typer.Argument(metavar="METHOD", help="Service.method, for instance Account.balance.")]
Arguments = Annotated[
    str,
    typer.Argument(
        metavar="JSON",
        help="The arguments as a JSON object by name. Bytes are base64, times ISO 8601. Default: {}.",
        show_default=False,
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option("--deadline", "-d", metavar="S", help="Seconds after which the call ends. Default: none."),
]
ModeName = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="readonly, at_least_once, at_most_once or exactly_once. Default: as the method declares.",
    ),
]
Unsafe = Annotated[bool, typer.Option("--unsafe", help="Allow a --mode that is weaker than the method's own.")]
Attach = Annotated[
    str | None,
    typer.Option("--attach", metavar="FILE", help="The file whose bytes are the attachment; - is standard input."),
]
OutFile = Annotated[
    str | None,
    typer.Option("--out", "-o", metavar="FILE", help="Where the result's attachment goes; - is standard output."),
]
TlsCa = Annotated[
    str | None,
    typer.Option(
        "--tls-ca", metavar="FILE", help="For tls://: the authority that has signed the server's certificate."
    ),
]
TlsCert = Annotated[
    str | None,
    typer.Option("--tls-cert", metavar="FILE", help="For tls://: our own certificate; may hold the key too."),
]
TlsKey = Annotated[
    str | None,
    typer.Option("--tls-key", metavar="FILE", help="For tls://: our key, if the certificate's file does not hold it."),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Allow plain tcp:// to another machine.")]
ConnectTimeout = Annotated[
    float | None,
    typer.Option("--connect-timeout", metavar="S", help="Seconds that connecting may take. Default: 5."),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object instead of text, also for an error (of a stream: after its items)."
    ),
]


def reach(
    tls_ca: str | None, tls_cert: str | None, tls_key: str | None, insecure: bool, connect_timeout: float | None
) -> dict[str, Any]:
    """What `connect` wants to be told. Raises: UsageError, InputError: files that cannot serve."""
    return {
        "tls": _context(tls_ca, tls_cert, tls_key) if tls_ca or tls_cert or tls_key else None,
        "insecure": insecure,
        "connect_timeout": connect_timeout,
    }


def _context(ca: str | None, certificate: str | None, key: str | None) -> Any:
    import ssl

    if ca is None or certificate is None:
        raise UsageError("TLS needs both --tls-ca (who signs servers) and --tls-cert (who we are)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(ca)
    except OSError as error:  # An SSLError is one too.
        raise InputError(ca, f"no certificate of an authority: {error.strerror or error}") from None
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:
        raise InputError(certificate, f"no certificate with its key: {error.strerror or error}") from None
    return context


def _no_password() -> str:
    """OpenSSL would ask on the terminal."""
    return ""
