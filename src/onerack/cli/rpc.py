"""`onerack rpc`: what a server offers, what its methods promise, whether it is well, and calls from a shell.

The idea: the server says itself what can be called (Reflection), so an address is enough. A call from here is a call
like any other: it has a session and a mode, it is tried again as its mode allows, and its end says whether it was
executed. The rule: what a peer said is printed only after what cannot be printed was taken out, or as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from onerack.cli import rpc_options as options
from onerack.errors import ApplicationError, InputError, UsageError

if TYPE_CHECKING:
    from onerack.rpc.builtin import ServiceDescription
    from onerack.rpc.by_name import NamedClient, NamedMethod, NamedResult

T = TypeVar("T")

DESCRIBE_EXAMPLES = """\b
Examples:
  onerack rpc describe tcp://127.0.0.1:7700
  onerack rpc describe tcp://127.0.0.1:7700 Account --json | jq '.services[0].methods.transfer.arguments'
  onerack rpc describe tls://bank:7700 --tls-ca ca.pem --tls-cert me.pem
"""
EXPLAIN_EXAMPLES = """\b
Examples:
  onerack rpc explain tcp://127.0.0.1:7700 Account.transfer
  onerack rpc explain tcp://127.0.0.1:7700 Account.transfer --json
"""
CALL_EXAMPLES = """\b
Examples:
  onerack rpc call tcp://127.0.0.1:7700 Account.balance '{"user": "ann"}'
  onerack rpc call unix:///run/bank.sock Account.transfer '{"source": "ann", "target": "bob", "cents": 5}' --deadline 2
  onerack rpc call tcp://127.0.0.1:7700 Files.put '{"name": "a"}' --attach a.bin
  onerack rpc call tcp://127.0.0.1:7700 Files.get '{"name": "a"}' --out a.bin
  seq 10 | onerack rpc call tcp://127.0.0.1:7700 Sums.total
"""
HEALTH_EXAMPLES = """\b
Examples:
  onerack rpc health tcp://127.0.0.1:7700
  onerack rpc health unix:///run/bank.sock --json
"""

app = typer.Typer(
    name="rpc",
    help="Look at and call the services of an RPC server.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(name="describe", epilog=DESCRIBE_EXAMPLES)
def describe(
    address: options.Server,
    service: options.ServiceName = None,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    connect_timeout: options.ConnectTimeout = None,
    as_json: options.AsJson = False,
) -> None:
    """List the services of a server: methods with their modes, parameters and results, and what the modes promise.

    The builtin services (health, reflection) are shown when they are asked for by name.
    """
    from onerack.rpc.by_name import describe_server

    reach = options.reach(tls_ca, tls_cert, tls_key, insecure, connect_timeout)
    services = _run(lambda: describe_server(address, **reach))
    builtin = [each.name for each in services if each.name.startswith("onerack.")]
    names = [service] if service else [each.name for each in services if each.name not in builtin]
    chosen = [_found(services, name) for name in names]
    if as_json:
        print(json.dumps({"address": address, "services": [json.loads(each.json_schema) for each in chosen]}))
        return
    print("\n\n".join(_description(each) for each in chosen) or f"no services but {' and '.join(builtin)}")


def _description(described: ServiceDescription) -> str:
    from onerack.rpc.by_name import named_service
    from onerack.rpc.promises import PROMISES
    from onerack.rpc.schema import describe as text_of

    schema = named_service([described], described.name).schema
    modes = sorted({method.mode for method in schema.methods})
    return "\n".join([text_of(schema), "", *(f"  {mode.name.lower():<14} {PROMISES[mode]}" for mode in modes)])


@app.command(name="explain", epilog=EXPLAIN_EXAMPLES)
def explain(
    address: options.Server,
    method: options.MethodName,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    connect_timeout: options.ConnectTimeout = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what a method promises: what happens to a call of it, and what its caller hears, when something breaks."""
    from onerack.rpc.by_name import describe_server, named_service
    from onerack.rpc.promises import PROMISES, survival_of

    service, name = _divided(method)
    reach = options.reach(tls_ca, tls_cert, tls_key, insecure, connect_timeout)
    found = named_service(_run(lambda: describe_server(address, **reach)), service).method(name)
    mode, survival = found.mode, survival_of(found.mode)
    if as_json:
        print(json.dumps({"method": found.full_name, "mode": mode.name.lower(), "what_happens": survival}))
        return
    lines = [f"{event}:\n    {words}".replace("`", "") for event, words in survival.items()]
    print("\n".join([f"{found.full_name} is {mode.name.lower()}: {PROMISES[mode]}", "", *lines]))


@app.command(name="call", epilog=CALL_EXAMPLES)
def call(
    address: options.Server,
    method: options.MethodName,
    arguments: options.Arguments = "{}",
    deadline: options.Deadline = None,
    mode: options.ModeName = None,
    unsafe: options.Unsafe = False,
    attach: options.Attach = None,
    out: options.OutFile = None,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    connect_timeout: options.ConnectTimeout = None,
    as_json: options.AsJson = False,
) -> None:
    """Call a method and print its result as JSON.

    A result that is a stream is printed as it comes, a line of JSON for each item; a parameter that is a stream is
    read from standard input, a line of JSON for each item. A call that fails says whether it was executed: yes, no, or
    unknown. Exit codes: 0 done, 1 the call failed, 2 usage (nothing was called), 130 Ctrl-C.
    """
    from onerack.rpc.by_name import connect_by_name
    from onerack.rpc.context import mode_of

    service, name = _divided(method)
    body = _arguments(arguments)
    attachment = None if attach is None else _content(attach)
    if mode is not None:
        mode_of(mode)
    reach = options.reach(tls_ca, tls_cert, tls_key, insecure, connect_timeout)

    async def called() -> NamedResult | None:
        from onerack.rpc.context import options as call_options

        async with await connect_by_name(service, address, **reach) as client:
            found = client.service.method(name)
            _check_out(found, out)
            with call_options(deadline=deadline, mode=mode, unsafe=unsafe):
                if found.result_is_stream:
                    await _print_stream(client, found, body, has_attachment=attachment is not None)
                    return None
                items = _standard_input() if found.stream_parameter else None
                return await client.call(name, body, attachment=attachment, items=items)

    result = _run(called)
    if result is not None:
        _give(result, method, out, as_json=as_json)


@app.command(name="health", epilog=HEALTH_EXAMPLES)
def health(
    address: options.Server,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    connect_timeout: options.ConnectTimeout = None,
    as_json: options.AsJson = False,
) -> int:
    """Ask a server whether it takes calls. Exit codes: 0 it does, 1 it stops or does not answer, 2 usage."""
    from onerack.rpc.builtin import Health
    from onerack.rpc.client import connect
    from onerack.rpc.schema.shapes import printable

    reach = options.reach(tls_ca, tls_cert, tls_key, insecure, connect_timeout)

    async def asked() -> str:
        async with await connect(Health, address, **reach) as stub:
            return await stub.check()

    status = _run(asked)
    print(json.dumps({"address": address, "status": status}) if as_json else printable(status))
    return 0 if status == "serving" else 1


# ------------------------------------------------------------------------------------------------ what is asked


def _divided(method: str) -> tuple[str, str]:
    service, dot, name = method.rpartition(".")
    if not dot or not service or not name:
        raise UsageError(f"{method!r} names no method; expected Service.method, for instance Account.balance")
    return service, name


def _arguments(text: str) -> bytes:
    try:
        given = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise UsageError(f"the arguments are not JSON: {error.msg} at {where}: {_near(text, error.pos)}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the arguments are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise UsageError('the arguments are a JSON object by name, such as \'{"user": "ann"}\'')
    return text.encode("utf-8", "surrogateescape")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _near(text: str, position: int) -> str:
    return repr(text[max(0, position - 10) : position + 10])


def _content(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InputError(path, error.strerror or str(error)) from None


def _check_out(method: NamedMethod, out: str | None) -> None:
    if method.result_attachment is None and out is not None:
        raise UsageError(f"--out: the result of {method.full_name} has no attachment; it is printed")
    if method.result_attachment is not None and out is None:
        raise UsageError(f"the result of {method.full_name} has an attachment; say --out FILE, or --out - to print it")


async def _standard_input() -> AsyncIterator[bytes]:
    """A line of JSON for each item. Lines are read in a thread, which blocks for as long as nobody writes."""
    import asyncio
    import threading

    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(64)

    def hand_over(line: bytes) -> None:
        room.acquire()
        loop.call_soon_threadsafe(lines.put_nowait, line)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody wants them any more.
            for line in sys.stdin.buffer:
                hand_over(line)
            hand_over(b"")

    # A daemon: a call that ends early must not wait for a terminal on which nobody types.
    threading.Thread(target=read, daemon=True).start()
    number = 0
    while line := await lines.get():
        room.release()
        number += 1
        if text := line.strip():
            _check_item(text, number)
            yield text


def _check_item(text: bytes, number: int) -> None:
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"line {number} of standard input is not JSON: {error}") from None


# ------------------------------------------------------------------------------------------------ what is given


async def _print_stream(client: NamedClient, method: NamedMethod, body: bytes, *, has_attachment: bool) -> None:
    if has_attachment:
        raise UsageError(f"{method.full_name} takes no attachment")
    items = _standard_input() if method.stream_parameter else None
    async for item in client.stream(method.schema.name, body, items=items):
        print(_json(item), flush=True)


def _give(result: NamedResult, method: str, out: str | None, *, as_json: bool) -> None:
    attachment = b"" if result.attachment is None else result.attachment
    if out == "-":
        sys.stdout.buffer.write(attachment)
        return
    described: dict[str, Any] = {"method": method, "executed": "yes", "result": json.loads(_json(result.body))}
    if out is not None:
        try:
            Path(out).write_bytes(attachment)
        except OSError as error:
            text = f"{method} was executed, and its attachment cannot be written: {out}: {error.strerror}"
            raise ApplicationError(text, cause="storage") from None
        described["attachment"] = {"path": out, "bytes": len(attachment)}
    if as_json:
        print(json.dumps(described))
    elif result.body != b"null" or out is None:
        print(_json(result.body))


def _json(body: bytes) -> str:
    """One line, with everything escaped that a terminal could take for a command."""
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise ApplicationError(f"it was executed, and its result is no JSON: {error}", cause="bad_result") from None
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _found(services: list[ServiceDescription], name: str) -> ServiceDescription:
    for each in services:
        if each.name == name:
            return each
    raise UsageError(f"the server has no service {name!r}; it has {', '.join(each.name for each in services)}")


def _run(procedure: Callable[[], Coroutine[Any, Any, T]]) -> T:
    import asyncio

    return asyncio.run(procedure())
