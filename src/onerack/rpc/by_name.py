"""Calls by name: a service called without its interface's class, by what the server itself says of it.

    client = await connect_by_name("Account", "tcp://127.0.0.1:7700")
    async with client:
        result = await client.call("balance", b'{"user": "ann"}')       # result.body is JSON

The idea: Reflection gives the server's schema, and a schema is all that a caller needs who sends arguments as JSON by
name: the same channel, sessions, modes and retries as for everybody else. The rule: what the schema can tell is
checked before anything is sent (names of methods and parameters, streams, attachments); types the server checks. What
a schema does not tell is how many attempts an at-least-once method allows: the caller's configuration says.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from onerack.config import RpcConfig
from onerack.errors import UsageError
from onerack.rpc.attachment import view_of
from onerack.rpc.builtin import Reflection, ServiceDescription
from onerack.rpc.channel import Channel
from onerack.rpc.client import connect
from onerack.rpc.context import chosen, inherited
from onerack.rpc.interface.codec import Codec
from onerack.rpc.messages import Buffer, Mode
from onerack.rpc.outcomes import error_of
from onerack.rpc.resolver import Resolver
from onerack.rpc.schema import Schema, canonical_bytes, decode_schema, schema_hash
from onerack.rpc.schema.schema import MethodSchema
from onerack.rpc.schema.shapes import Field, Row, Scalar, Stream
from onerack.rpc.stub import pump, settings_of

AS_IT_IS = Codec(encode=bytes, decode=bytes, encode_json=bytes, decode_json=bytes)
"""Items of streams are JSON here, and stay so."""


class NamedResult(msgspec.Struct, frozen=True):
    body: bytes
    """JSON."""
    attachment: Buffer | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NamedMethod:
    """A method as its server describes it."""

    full_name: str
    schema: MethodSchema
    attempts: int | None = None

    @property
    def mode(self) -> Mode:
        return self.schema.mode

    @property
    def result_is_stream(self) -> bool:
        return isinstance(self.schema.result, Stream)

    @property
    def result_attachment(self) -> str | None:
        result = self.schema.result
        if isinstance(result, Row) and len(result.items) == 2 and _is_attachment(result.items[1]):
            return "last"
        return "only" if _is_attachment(result) else None

    @property
    def attachment(self) -> Field | None:
        return next((field for field in self.schema.parameters if _is_attachment(field.shape)), None)

    @property
    def attachment_parameter(self) -> str | None:
        return None if self.attachment is None else self.attachment.name

    @property
    def stream_parameter(self) -> str | None:
        return next((field.name for field in self.schema.parameters if isinstance(field.shape, Stream)), None)

    @property
    def item(self) -> Codec | None:
        return AS_IT_IS if self.stream_parameter else None

    @property
    def result_item(self) -> Codec | None:
        return AS_IT_IS if self.result_is_stream else None

    @property
    def by_name(self) -> list[Field]:
        """The parameters that JSON holds: neither attachment nor stream."""
        beside = (self.attachment_parameter, self.stream_parameter)
        return [field for field in self.schema.parameters if field.name not in beside]


class NamedService:
    """A service as its server describes it."""

    def __init__(self, schema: Schema) -> None:
        self.name = schema.service
        self.schema = schema
        self.schema_hash = schema_hash(schema)
        self.schema_bytes = canonical_bytes(schema)
        self.methods = {each.name: NamedMethod(f"{schema.service}.{each.name}", each) for each in schema.methods}

    def method(self, name: str) -> NamedMethod:
        """Raises: UsageError: there is none; names those that there are."""
        if name not in self.methods:
            raise UsageError(f"{self.name} has no method {name!r}; it has {', '.join(self.methods)}")
        return self.methods[name]


async def describe_server(*addresses: str, **options: Any) -> list[ServiceDescription]:
    """The services of a server. `options`: as for `connect`. Raises: as `connect`, and as any call."""
    async with await connect(Reflection, *addresses, **options) as reflection:
        return await reflection.describe()


def named_service(described: Iterable[ServiceDescription], name: str) -> NamedService:
    """Raises: UsageError: there is no such service; names those that there are. ProtocolError: no schema."""
    by_name = {service.name: service for service in described}
    if name not in by_name:
        raise UsageError(f"the server has no service {name!r}; it has {', '.join(by_name)}")
    schema = decode_schema(by_name[name].schema)
    if schema.service != name:
        raise UsageError(f"the server describes {name!r} with the schema of {schema.service!r}")
    return NamedService(schema)


class NamedClient:
    """A connection to a service; `async with` closes it."""

    def __init__(self, service: NamedService, channel: Channel) -> None:
        self.service = service
        self._channel = channel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def call(
        self,
        name: str,
        arguments: bytes = b"{}",
        *,
        attachment: Buffer | None = None,
        items: AsyncIterator[bytes] | None = None,
    ) -> NamedResult:
        """Calls a method whose result is no stream. `arguments`: a JSON object; `items`: JSON, for a stream.

        Deadline, mode and metadata are those of `options(...)`. Raises: UsageError: it cannot be called so; CallError.
        """
        method = self.service.method(name)
        if method.result_is_stream:
            raise UsageError(f"the result of {method.full_name} is a stream: use stream()")
        check_call(method, arguments, attachment is not None, items is not None)
        mode, deadline_at, metadata = settings_of(method, inherited(chosen.get()))
        channel = self._channel
        stream = None
        if items is None:
            view = None if attachment is None else view_of(attachment, f"{method.full_name}: the attachment")
            number, future = channel.invoke(method, arguments, mode, view, deadline_at, metadata, json=True)
        else:
            number, future, stream = channel.open_stream(method, arguments, mode, deadline_at, metadata, json=True)
            pump(channel, number, stream, items)
        try:
            outcome = await future
        except asyncio.CancelledError:
            channel.abandon(number)
            raise
        if stream is not None and stream.failure is not None:
            raise stream.failure
        if outcome.status != 0:
            raise error_of(outcome, method.full_name)
        return NamedResult(outcome.body, outcome.attachment)

    async def stream(
        self, name: str, arguments: bytes = b"{}", *, items: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[bytes]:
        """Calls a method whose result is a stream; gives each item as JSON. Raises: as `call`."""
        method = self.service.method(name)
        if not method.result_is_stream:
            raise UsageError(f"the result of {method.full_name} is no stream: use call()")
        check_call(method, arguments, False, items is not None)
        mode, deadline_at, metadata = settings_of(method, inherited(chosen.get()))
        channel = self._channel
        number, _, stream = channel.open_stream(method, arguments, mode, deadline_at, metadata, json=True)
        pump(channel, number, stream, items)
        try:
            assert stream.reader is not None
            async for item in stream.reader:
                yield item
        finally:
            channel.abandon(number)


async def connect_by_name(
    service: str,
    *addresses: str,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    cluster: str = "",
    connect_timeout: float | None = None,
    resolver: Resolver | None = None,
    config: RpcConfig | None = None,
) -> NamedClient:
    """Asks the server what the service is like, and connects. Raises: as `connect`; UsageError: no such service."""
    settings = config or RpcConfig()
    described = await describe_server(
        *addresses,
        tls=tls,
        insecure=insecure,
        cluster=cluster,
        connect_timeout=connect_timeout,
        resolver=resolver,
        config=settings,
    )
    named = named_service(described, service)
    channel = Channel(named, addresses, config=settings, cluster=cluster, tls=tls, insecure=insecure, resolver=resolver)
    await channel.start(settings.connect_timeout_s if connect_timeout is None else connect_timeout)
    return NamedClient(named, channel)


def check_call(method: NamedMethod, arguments: bytes, has_attachment: bool, has_items: bool) -> None:
    """Raises: UsageError: the method cannot be called with these."""
    try:
        given = msgspec.json.decode(arguments)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{method.full_name}: the arguments are not JSON: {error}") from None
    signature = f"{method.full_name}({', '.join(map(str, method.schema.parameters))})"
    if not isinstance(given, dict):
        raise UsageError(f"{signature} takes a JSON object by name, and not {type(given).__name__}")
    names = [field.name for field in method.by_name]
    if unknown := [name for name in given if name not in names]:
        raise UsageError(
            f"{signature} has no parameter {unknown[0]!r} in its JSON; it has {', '.join(names) or 'none'}"
        )
    if missing := [field.name for field in method.by_name if field.default is None and field.name not in given]:
        raise UsageError(f"{signature} needs {missing[0]!r}")
    attachment = method.attachment
    if has_attachment and attachment is None:
        raise UsageError(f"{signature} takes no attachment")
    if attachment is not None and attachment.default is None and not has_attachment:
        raise UsageError(f"{signature} needs an attachment, {attachment.name!r}")
    if has_items != (method.stream_parameter is not None):
        raise UsageError(f"{signature} takes {'no' if has_items else 'a'} stream of arguments")


def _is_attachment(shape: object) -> bool:
    return isinstance(shape, Scalar) and shape.kind == "Attachment"
