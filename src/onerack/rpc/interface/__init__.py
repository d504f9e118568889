"""Interfaces from type hints: a Protocol class becomes everything that callers and servers need.

    signature         what one method says of itself, checked
    arguments         what a caller gives, as one generated Struct
    codec             values of one type to bytes and back
    method            one method with everything made ready that a call needs
    interface         the whole class, and its schema
    handlers          the methods of an implementation, checked against the interface
    reflection        the interface for scripts: JSON Schema

The rule: imports go down this list backwards; nothing here knows of connections, sessions or clocks.
"""

from onerack.rpc.interface.handlers import Handler, bind
from onerack.rpc.interface.interface import Interface, interface_of
from onerack.rpc.interface.method import Method
from onerack.rpc.interface.reflection import json_schema

__all__ = ["Handler", "Interface", "Method", "bind", "interface_of", "json_schema"]
