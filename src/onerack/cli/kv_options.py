"""How the commands of `onerack kv` reach a store, and how they say keys and values.

    async def get(store: KvClient, key: ..., as_json: AsJson = False) -> int | None: ...
    app.command("get", epilog=...)(with_store(get))

The idea: every command that talks to a store has the same options for that; they are added to its own here, so that
none can be missing. Where no endpoint is given, the rack in --dir is meant.

The rule: what is binary is printed escaped, in hex or in base64, never as it is, unless --raw asks for it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

from onerack.errors import ApplicationError, CallError, UsageError

if TYPE_CHECKING:
    from onerack.kv.client import KeyValue, KvClient

DIRECTORY: Final = "onerack-data"

Endpoint = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint", "-e", metavar="ADDR", envvar="ONERACK_ENDPOINTS", show_envvar=False,
        help="A node's rpc address, host:port; may be given several times. Default: $ONERACK_ENDPOINTS, or the nodes "
        "of the rack in --dir.",
    ),
]  # fmt: skip
Directory = Annotated[
    Path,
    typer.Option("--dir", metavar="DIR", help="The rack of `onerack up`. Default: onerack-data.", show_default=False),
]
Timeout = Annotated[float, typer.Option("--timeout", "-t", metavar="S", help="Seconds a call may take. Default: 10.")]
User = Annotated[
    str | None,
    typer.Option(
        "--user", metavar="NAME[:PASSWORD]", envvar="ONERACK_KV_USER", show_envvar=False,
        help="Who asks, if the store wants to know; without a password it is asked for. Default: $ONERACK_KV_USER.",
    ),
]  # fmt: skip
TlsCa = Annotated[
    str | None, typer.Option("--tls-ca", metavar="FILE", help="The authority that signs the nodes' certificates.")
]
TlsCert = Annotated[
    str | None, typer.Option("--tls-cert", metavar="FILE", help="Our own certificate; may hold the key too.")
]
TlsKey = Annotated[
    str | None, typer.Option("--tls-key", metavar="FILE", help="Our key, if the certificate's file does not hold it.")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Allow plain TCP to other machines.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text, also for an error.")]
Encoding = Annotated[
    str, typer.Option("--encoding", metavar="E", help="How keys and values are written: text, hex or base64.")
]
Prefix = Annotated[bool, typer.Option("--prefix", "-p", help="All keys that begin with KEY.")]
RangeEnd = Annotated[
    str, typer.Option("--to", metavar="KEY", help="A range: all keys from KEY on, up to this one, without it.")
]


def group(name: str, words: str) -> typer.Typer:
    """A command that has commands of its own."""
    return typer.Typer(
        name=name,
        help=words,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def reach_options(
    endpoint: Endpoint = None,
    directory: Directory = Path(DIRECTORY),
    user: User = None,
    timeout: Timeout = 10.0,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure: Insecure = False,
) -> None:
    """The options that each command gets; never called."""


_EXPLAINED_S: Final = 1.0
_REACH: Final = tuple(inspect.signature(reach_options).parameters)


def with_store(command: Callable[..., Awaitable[int | None]]) -> Callable[..., int | None]:
    """A command for typer: it connects, runs `command(store, ...)`, and returns the exit code."""

    @functools.wraps(command)
    def run(**given: Any) -> int | None:
        import asyncio

        reach = {name: given.pop(name) for name in _REACH}

        async def procedure() -> int | None:
            async with await connected(**reach) as store:
                try:
                    return await command(store, **given)
                except ApplicationError as error:
                    raise _who_asks(error) if not reach["user"] else error from None
                except CallError as error:
                    raise await _explained(error, store) from None

        return asyncio.run(procedure())

    own, common = inspect.signature(command), inspect.signature(reach_options)
    hints = {**_hints(reach_options), **_hints(command)}
    # `--json` last, as everywhere.
    own_parameters = [each for name, each in own.parameters.items() if name not in ("store", "as_json")]
    last = [own.parameters["as_json"]] if "as_json" in own.parameters else []
    parameters = [*own_parameters, *common.parameters.values(), *last]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    run.__annotations__ = {each.name: hints[each.name] for each in parameters}
    return run


async def _explained(error: CallError, store: KvClient) -> CallError:
    """Nothing came of it in time: the usual reason is that nobody leads, and the node that was asked knows that."""
    import asyncio

    if error.cause not in ("deadline", "timeout", "no_leader", "not_leader"):
        return error
    try:
        async with asyncio.timeout(_EXPLAINED_S):
            status = await store.status()
    except (CallError, TimeoutError):
        return error
    if status.leader:
        return error
    words = f"{error}; {status.name} knows of no leader: is a majority of the nodes there? (`onerack kv status`)"
    return type(error)(words, cause=error.cause)


def _who_asks(error: ApplicationError) -> ApplicationError:
    """The store wants to know, and has not been told: says how."""
    from onerack.kv.client import KvRefused

    if not isinstance(error, KvRefused) or not str(error).endswith("user name is empty"):
        return error
    words = f"{error}: authentication is on; say who asks with --user NAME[:PASSWORD], or set ONERACK_KV_USER"
    return KvRefused(words, cause=error.cause)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    unresolved = {name: hint for name, hint in function.__annotations__.items() if name not in ("store", "return")}
    namespace = {**function.__globals__}
    stand_in = type("_", (), {"__annotations__": unresolved})
    return get_type_hints(stand_in, globalns=namespace, include_extras=True)


async def connected(
    *,
    endpoint: list[str] | None,
    directory: Path,
    user: str | None,
    timeout: float,  # noqa: ASYNC109 - the option's name
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    insecure: bool,
) -> KvClient:
    """Raises: UsageError: no endpoint is known; no password. NotExecuted: nobody answers."""
    from onerack.cli.kv_password import credentials_of
    from onerack.cli.rpc_options import reach
    from onerack.kv.client import connect

    require_timeout(timeout)
    how = reach(tls_ca, tls_cert, tls_key, insecure, None)
    addresses = endpoints_of(endpoint, directory, is_tls=how["tls"] is not None)
    name, password = credentials_of(user)
    return await connect(
        *addresses, tls=how["tls"], insecure=insecure, user=name, password=password, timeout_s=timeout,
        connect_timeout_s=min(timeout, 5.0),
    )  # fmt: skip


def require_timeout(timeout: float) -> None:
    """Raises: UsageError."""
    if not timeout > 0:
        raise UsageError(f"--timeout {timeout:g}: seconds, more than 0")


def endpoints_of(given: list[str] | None, directory: Path, *, is_tls: bool = False) -> list[str]:
    """Raises: UsageError: none is given, and there is no rack."""
    from onerack.cluster.record import read_record

    words = [word.strip() for text in given or () for word in text.replace(" ", ",").split(",")]
    if any(words):
        return [address_of(word, is_tls=is_tls) for word in words if word]
    record = read_record(directory)
    if record is None:
        raise UsageError(
            f"no endpoint: say --endpoint HOST:PORT, set ONERACK_ENDPOINTS, or start a rack (none is in {directory})"
        )
    return record.rpc_endpoints


def address_of(text: str, *, is_tls: bool = False) -> str:
    """`host:port` or an address with its scheme, as an address. Raises: UsageError: it is neither."""
    from onerack.rpc.transports.address import Address

    return str(Address.parse(text if "://" in text else f"{'tls' if is_tls else 'tcp'}://{text}"))


def members_of(text: str, option: str, *, is_tls: bool = False) -> dict[str, str]:
    """`n1=host:port,n2=host:port`. Raises: UsageError: it is not; names the part that is wrong."""
    members: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, address = part.partition("=")
        if not equals or not name or not address:
            raise UsageError(f"{option}: {part!r} is not NAME=HOST:PORT")
        if name in members:
            raise UsageError(f"{option}: {name!r} is there twice")
        members[name] = address_of(address, is_tls=is_tls)
    if not members:
        raise UsageError(f"{option}: names nobody; expected NAME=HOST:PORT,...")
    return members


# ------------------------------------------------------------------------------------------------ keys and values


def to_bytes(text: str, encoding: str, what: str) -> bytes:
    """Raises: UsageError: it is not written so; names what it is."""
    try:
        if encoding == "text":
            return os.fsencode(text)
        if encoding == "hex":
            return bytes.fromhex(text)
        if encoding == "base64":
            return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise UsageError(f"{what}: {text!r} is not {encoding}: {error}") from None
    raise UsageError(f"--encoding {encoding!r}: expected text, hex or base64")


def to_text(content: bytes, encoding: str) -> str:
    """For a terminal: of text, what cannot be printed is escaped."""
    if encoding == "hex":
        return content.hex()
    if encoding == "base64":
        return base64.b64encode(content).decode()
    text = content.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def put_into(described: dict[str, Any], name: str, content: bytes, encoding: str) -> None:
    """`name` as text; what is no text goes under `name_base64`."""
    if encoding != "text":
        described[name] = to_text(content, encoding)
        return
    try:
        described[name] = content.decode()
    except UnicodeDecodeError:
        described[f"{name}_base64"] = base64.b64encode(content).decode()


def described_kv(kv: KeyValue, encoding: str) -> dict[str, Any]:
    """For --json."""
    described: dict[str, Any] = {}
    put_into(described, "key", kv.key, encoding)
    if kv.version:
        put_into(described, "value", kv.value, encoding)
    described.update(
        create_revision=kv.create_revision, mod_revision=kv.mod_revision, version=kv.version, lease=f"{kv.lease:x}"
    )
    return described


def lease_number(text: str) -> int:
    """A lease as it is printed: in hexadecimal. Raises: UsageError."""
    try:
        number = int(text, 16)
    except ValueError:
        raise UsageError(
            f"{text!r} is no lease; leases are hexadecimal numbers, as `lease grant` prints them"
        ) from None
    if not 0 <= number < 1 << 63:
        raise UsageError(f"{text!r} is no lease; it is out of range")
    return number
