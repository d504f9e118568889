"""JSON Schema of an interface: what a script must send, and what it gets, for each method.

The rule: each schema stands alone (its definitions are within it), so that any validator takes it as it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from onerack.rpc.interface.interface import Interface
from onerack.rpc.interface.method import Method


def json_schema(interface: Interface) -> dict[str, Any]:
    """The JSON Schema of each method's arguments, an object by name, and of its result or of the result's items."""
    docs = {method.name: method.doc for method in interface.schema.methods}
    return {
        "service": interface.name,
        "schema": interface.schema_hash,
        "doc": interface.schema.doc,
        "methods": {name: {"doc": docs[name], **_of_method(method)} for name, method in interface.methods.items()},
    }


def _of_method(method: Method) -> dict[str, Any]:
    return {
        "mode": method.mode.name.lower(),
        "arguments": msgspec.json.schema(method.ArgumentsByName),
        "result": msgspec.json.schema(method.signature.result),
        "result_is_stream": method.result_is_stream,
        "attachment": method.attachment_parameter,
        "result_attachment": method.result_attachment,
        "stream": method.stream_parameter,
    }
