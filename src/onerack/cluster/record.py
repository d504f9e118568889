"""cluster.json: which nodes of a rack there are on this machine, and where they can be reached.

The idea: a file that people can read and other commands look into; `onerack kv get` finds its endpoints there. Whether
a node lives is not in it: that is asked of the node.

The rule: the file is replaced as a whole, so whoever reads it sees all of one state.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from onerack.errors import InputError, storing

FILE: Final = "cluster.json"


class NodeEndpoints(msgspec.Struct, frozen=True):
    """Where a node can be reached."""

    rpc: str
    """tcp:// or tls://"""
    etcd: str
    """http:// or https://, as etcd's clients write it."""
    http: str


class NodeRecord(msgspec.Struct, frozen=True):
    """One node, as it was started."""

    name: str
    role: str
    """What it is for: `control`."""
    endpoints: NodeEndpoints
    pid: int = 0
    """0: it was stopped."""
    started: str = ""
    """When the process began, as the system counts; with the pid it names the process."""


class ClusterRecord(msgspec.Struct, frozen=True):
    """A rack on this machine."""

    cluster: str
    nodes: tuple[NodeRecord, ...]
    options: tuple[str, ...] = ()
    """With which words of `onerack kv serve` its nodes were started, besides those that say who and where."""

    @property
    def rpc_endpoints(self) -> list[str]:
        return [node.endpoints.rpc for node in self.nodes]


def read_record(directory: str | os.PathLike[str]) -> ClusterRecord | None:
    """None: there is no rack. Raises: InputError: the file is not what it should be."""
    path = Path(directory, FILE)
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClusterRecord)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise InputError(str(directory), "is no directory") from None
    except OSError as error:
        raise InputError(str(path), error.strerror or str(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"does not describe a rack: {error}") from None


def write_record(directory: str | os.PathLike[str], record: ClusterRecord) -> None:
    """Raises: StorageFull."""
    path = Path(directory, FILE)
    unfinished = path.with_suffix(".tmp")
    try:
        with storing(str(path)):
            unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
            unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
