"""RPC: calls that say what a failure means. Methods declare delivery semantics; outcomes say whether the call ran."""

from onerack.errors import (
    ApplicationError,
    BindingRefused,
    CallError,
    NotExecuted,
    Overloaded,
    ProtocolError,
    Unknown,
    UsageError,
)
from onerack.rpc.attachment import Attachment
from onerack.rpc.builtin import Health, Reflection
from onerack.rpc.client import Client, connect
from onerack.rpc.context import CurrentCall, current, options
from onerack.rpc.durable.host import DurableHost, Machine
from onerack.rpc.durable.log import LocalLog
from onerack.rpc.link import Peer
from onerack.rpc.messages import Mode
from onerack.rpc.modes import at_least_once, at_most_once, exactly_once, readonly, service
from onerack.rpc.resolver import FileResolver, Resolver, StaticResolver
from onerack.rpc.server import Server, serve
from onerack.rpc.stub import OutgoingCall

__all__ = [
    "ApplicationError",
    "Attachment",
    "BindingRefused",
    "CallError",
    "Client",
    "CurrentCall",
    "DurableHost",
    "FileResolver",
    "Health",
    "LocalLog",
    "Machine",
    "Mode",
    "NotExecuted",
    "OutgoingCall",
    "Overloaded",
    "Peer",
    "ProtocolError",
    "Reflection",
    "Resolver",
    "Server",
    "StaticResolver",
    "Unknown",
    "UsageError",
    "at_least_once",
    "at_most_once",
    "connect",
    "current",
    "exactly_once",
    "options",
    "readonly",
    "serve",
    "service",
]
