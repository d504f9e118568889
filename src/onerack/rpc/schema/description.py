"""Description: a schema as signatures that people read, as `onerack rpc describe` prints them.

    service Account  schema 3f2a9c0d11e7b840
      readonly       balance(user: str) -> int                                     # What the user has, in cents.
      exactly_once   transfer(src: str, dst: str, cents: int = 0) -> Receipt
      Receipt(number: int, at: datetime)

The rule: a schema comes from a peer and is printed on a terminal, so nothing that is not printable passes.
"""

from __future__ import annotations

from collections.abc import Iterator

from onerack.rpc.schema.schema import Schema, schema_hash
from onerack.rpc.schema.shapes import printable


def describe(schema: Schema) -> str:
    """The service, its methods with their modes, and the classes that occur in them; a line each."""
    return "\n".join(map(printable, _lines(schema)))


def _lines(schema: Schema) -> Iterator[str]:
    yield f"service {schema.service}  schema {schema_hash(schema)}{_comment(schema.doc)}"
    for method in schema.methods:
        yield f"  {method.mode.name.lower():<14} {method}{_comment(method.doc)}"
    for record in schema.records:
        yield f"  {record}"


def _comment(doc: str) -> str:
    return f"  # {doc}" if doc else ""
