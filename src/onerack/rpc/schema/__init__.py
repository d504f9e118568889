"""The schema of an interface: what it looks like on the wire, in a form that can be sent, compared and printed.

    shapes           the shape of a type: plain nested structs
    hints            from type hints to shapes; what cannot travel is refused
    schema           a whole interface, its canonical bytes and their hash
    compatibility    whether a client's schema and a server's fit, and the first thing that does not
    description      a schema as readable signatures

The idea: the Python class with its hints is the one source; everything here is read off it or sent by a peer.
"""

from onerack.rpc.schema.compatibility import first_incompatibility
from onerack.rpc.schema.description import describe
from onerack.rpc.schema.schema import Schema, canonical_bytes, decode_schema, encode_schema, schema_hash

__all__ = [
    "Schema",
    "canonical_bytes",
    "decode_schema",
    "describe",
    "encode_schema",
    "first_incompatibility",
    "schema_hash",
]
