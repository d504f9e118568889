"""A rack on this machine: its nodes are started, looked at and stopped together.

    DIR/cluster.json     who belongs to it, and where
    DIR/n1, DIR/n2 ...   the data of each node
    DIR/logs/n1.log      what it has said
    DIR/run/n1.pid       its process: the pid, and when it began

The idea: a node is the same process that `onerack kv serve` runs; here they only get their arguments. A rack that was
stopped is started again with the same ports and the same data.

The rules: one rack in a directory, and one command at a time that changes it; nothing is reported as ready before it
can be written to; what cannot be started leaves no process behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from onerack.cluster.processes import Process, is_alive, start_detached, stop, uninterrupted
from onerack.cluster.record import FILE, ClusterRecord, NodeEndpoints, NodeRecord, read_record, write_record
from onerack.errors import NotExecuted, OnerackError, StorageFull, UsageError, storing
from onerack.kv import client as kv

CONTROL: Final = "control"
SERVING: Final = ("leader", "follower", "learner", "witness")
GRACE_S: Final = 10.0
_READY_S: Final = 30.0
_FAILED_GRACE_S: Final = 1.0
_CONTROL: Final = 3
_PAUSE_S: Final = 0.05
_TRIES: Final = 5
"""With other ports, if somebody was faster to take those that were free."""
_PORTS_PER_NODE: Final = 3
_LOG_LINES: Final = 5


class NodeState(msgspec.Struct, frozen=True):
    """What `status` says of a node."""

    name: str
    role: str
    pid: int
    state: str
    """One of SERVING; candidate: it knows of no leader; silent: its process lives; down: it does not."""
    endpoints: NodeEndpoints
    term: int = 0
    revision: int = 0


class NotStarted(NotExecuted):
    """A node has ended instead of starting. `taken`: because a port was taken."""

    def __init__(self, message: str, *, taken: bool) -> None:
        super().__init__(message, cause="not_started")
        self.taken = taken


# ------------------------------------------------------------------------------------------------ up


def up(
    directory: Path,
    *,
    control: int | None = None,
    base_port: int | None = None,
    cluster: str = "",
    options: Sequence[str] = (),
) -> ClusterRecord:
    """Starts a rack, and returns when it can be written to. Known nodes start again as they were, if they are down.

    `control`: how many nodes; without it as many as there are, or three. `options`: more words for `onerack kv serve`;
    without any, those of the last time.

    Raises: UsageError: all of it runs already, or it has another size; the directory cannot be used. NotExecuted: it
    did not start, with the reason. StorageFull.
    """
    with _usable(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        known = read_record(directory)
        if known is not None:
            _check_startable(directory, known, control, base_port, cluster)
            _check_down(directory, known, options)
            return _start(directory, msgspec.structs.replace(known, options=tuple(options) or known.options), known)
        for tries in range(_TRIES):
            fresh = _new_record(control or _CONTROL, base_port, cluster or "onerack", tuple(options))
            try:
                return _start(directory, fresh, None)
            except NotStarted as error:
                if not error.taken or base_port is not None or tries == _TRIES - 1:
                    raise
        raise AssertionError("the last try returns, or raises")


@contextlib.contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """Raises: UsageError: what is made there cannot be made, but for a disk that is full (StorageFull)."""
    try:
        with storing(str(directory)):
            yield
    except OSError as error:
        where = error.filename or str(directory)
        reason = "is no directory" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise UsageError(f"--dir {directory}: {where} {reason or error}") from None


def _check_startable(
    directory: Path, known: ClusterRecord, control: int | None, base_port: int | None, cluster: str
) -> None:
    if control is not None and control != len(known.nodes):
        raise UsageError(
            f"--control {control}: the rack in {directory} has {len(known.nodes)} of them; to change that, use "
            "`onerack kv member add` and `remove`, or choose another --dir"
        )
    if base_port is not None and known.nodes != _with_ports(known.nodes, base_port):
        raise UsageError(f"--base-port {base_port}: the rack in {directory} keeps its ports; choose another --dir")
    if cluster and cluster != known.cluster:
        raise UsageError(f"--cluster {cluster}: the rack in {directory} is called {known.cluster}, and keeps its name")


def _check_down(directory: Path, known: ClusterRecord, options: Sequence[str]) -> None:
    """Nodes that have died may be started beside those that live, with the limits that these have."""
    running = [node.name for node in known.nodes if is_alive(_process(node))]
    if len(running) == len(known.nodes):
        raise UsageError(f"{directory}: a rack runs there already ({', '.join(running)}); stop it with `onerack down`")
    if running and options and tuple(options) != known.options:
        names = ", ".join(running)
        raise UsageError(f"{directory}: {names} run with other limits; stop them with `onerack down` to change these")


def _new_record(control: int, base_port: int | None, cluster: str, options: tuple[str, ...] = ()) -> ClusterRecord:
    ports = _free_ports(control * _PORTS_PER_NODE) if base_port is None else []
    nodes = [
        NodeRecord(f"n{number + 1}", CONTROL, _endpoints(ports[number * _PORTS_PER_NODE :]) if ports else _NOWHERE)
        for number in range(control)
    ]
    return ClusterRecord(cluster, tuple(nodes) if base_port is None else _with_ports(nodes, base_port), options)


_NOWHERE: Final = NodeEndpoints("", "", "")


def _with_ports(nodes: Sequence[NodeRecord], base_port: int) -> tuple[NodeRecord, ...]:
    return tuple(
        msgspec.structs.replace(node, endpoints=_endpoints(range(at, at + _PORTS_PER_NODE)))
        for at, node in zip(range(base_port, 1 << 20, _PORTS_PER_NODE), nodes, strict=False)
    )


def _endpoints(ports: Sequence[int]) -> NodeEndpoints:
    rpc, etcd, http = ports[:_PORTS_PER_NODE]
    return NodeEndpoints(f"tcp://127.0.0.1:{rpc}", f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{http}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _start(directory: Path, record: ClusterRecord, known: ClusterRecord | None) -> ClusterRecord:
    """`known`: what was there before; nothing: what has been made is taken away again when it does not start."""
    with _usable(directory):
        for each in ("logs", "run"):
            (directory / each).mkdir(exist_ok=True)
    made = [node.name for node in record.nodes if not (directory / node.name).exists()]
    started: dict[str, NodeRecord] = {}
    try:
        for node in record.nodes:
            if is_alive(_process(node)):
                continue
            with uninterrupted():  # Who was started is known, whenever this command is told to end.
                started[node.name] = _start_node(directory, record, node)
        running = msgspec.structs.replace(record, nodes=tuple(started.get(node.name, node) for node in record.nodes))
        write_record(directory, running)
        _until_ready(directory, running)
    except BaseException:
        with uninterrupted():
            stop(map(_process, started.values()), grace_s=_FAILED_GRACE_S)
            _take_back(directory, started, known, made)
        raise
    return running


def _take_back(directory: Path, started: Iterable[str], known: ClusterRecord | None, made: Sequence[str]) -> None:
    """The logs stay: they say why."""
    for name in started:
        (directory / "run" / f"{name}.pid").unlink(missing_ok=True)
    if known is not None:
        with contextlib.suppress(OnerackError):
            write_record(directory, known)
        return
    (directory / FILE).unlink(missing_ok=True)
    for name in made:
        shutil.rmtree(directory / name, ignore_errors=True)


def _start_node(directory: Path, record: ClusterRecord, node: NodeRecord) -> NodeRecord:
    peers = ",".join(f"{each.name}={_host_port(each.endpoints.rpc)}" for each in record.nodes)
    command = [
        sys.executable, "-m", "onerack.cli", "kv", "serve", "--name", node.name, "--data", str(directory / node.name),
        "--peers", peers, "--cluster", record.cluster, "--listen-etcd", _host_port(node.endpoints.etcd),
        "--listen-http", _host_port(node.endpoints.http), "--json", *record.options,
    ]  # fmt: skip
    log = directory / "logs" / f"{node.name}.log"
    with _usable(directory):
        process = start_detached(command, log, dict(os.environ))
    with contextlib.suppress(OSError):  # For people; commands read the record.
        (directory / "run" / f"{node.name}.pid").write_text(f"{process.pid} {process.started}\n")
    return msgspec.structs.replace(node, pid=process.pid, started=process.started)


def _host_port(endpoint: str) -> str:
    return endpoint.partition("://")[2]


def _process(node: NodeRecord) -> Process:
    return Process(node.pid, node.started)


def _until_ready(directory: Path, record: ClusterRecord) -> None:
    """Until a leader serves, and every node has opened its doors."""
    give_up_at = time.monotonic() + _READY_S
    waiting = {node.name: node for node in record.nodes}
    while waiting:
        for name, node in list(waiting.items()):
            if not is_alive(_process(node)):
                raise _not_started(directory, name)
            if _look_at(node).state in SERVING:
                del waiting[name]
        if time.monotonic() > give_up_at:
            raise NotExecuted(
                f"{', '.join(waiting)}: not ready within {_READY_S:g} s; see {directory / 'logs'}", cause="not_started"
            )
        if waiting:
            time.sleep(_PAUSE_S)


def _not_started(directory: Path, name: str) -> NotStarted:
    log = directory / "logs" / f"{name}.log"
    with contextlib.suppress(OSError):
        last = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        words = "\n".join(map(_said, last))
        return NotStarted(f"{name} did not start; the end of {log}:\n{words}", taken="in use" in words)
    return NotStarted(f"{name} did not start, and has said nothing", taken=False)


def _said(line: str) -> str:
    """A node says as an object why it ends."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeEncodeError):
        return msgspec.json.decode(line, type=_Ended).error
    return line


class _Ended(msgspec.Struct):
    error: str


# ------------------------------------------------------------------------------------------------ status


def status(directory: Path) -> tuple[ClusterRecord, list[NodeState]]:
    """Raises: UsageError: there is no rack."""
    record = _existing(directory)
    return record, [_look_at(node) for node in record.nodes]


def _existing(directory: Path) -> ClusterRecord:
    record = read_record(directory)
    if record is None:
        raise UsageError(f"{directory}: there is no rack; start one with `onerack up --dir {directory}`")
    return record


def _look_at(node: NodeRecord) -> NodeState:
    if not is_alive(_process(node)):
        return NodeState(node.name, node.role, 0, "down", node.endpoints)
    try:
        found = asyncio.run(_asked(node.endpoints.rpc))
    except (OnerackError, OSError):
        return NodeState(node.name, node.role, node.pid, "silent", node.endpoints)
    state = found.role if found.leader else "candidate"
    return NodeState(node.name, node.role, node.pid, state, node.endpoints, found.term, found.revision)


async def _asked(endpoint: str) -> kv.NodeStatus:
    """Of this very node, whoever leads."""
    from onerack import rpc

    client = await rpc.connect(kv.Kv, endpoint, connect_timeout=1.0, deadline=1.0)
    try:
        return await client.stub.status()
    finally:
        await client.close()


# ------------------------------------------------------------------------------------------------ down


def down(directory: Path, *, grace_s: float = GRACE_S) -> tuple[list[str], list[str]]:
    """Stops a rack; its data stays. Returns the nodes that were stopped, and those of them that had to be killed.

    Raises: UsageError: there is no rack.
    """
    record = _existing(directory)
    with _alone(directory):
        running = {_process(node): node.name for node in record.nodes if is_alive(_process(node))}
        killed = stop(running, grace_s=grace_s)
        for node in record.nodes:
            (directory / "run" / f"{node.name}.pid").unlink(missing_ok=True)
        stopped = [msgspec.structs.replace(node, pid=0, started="") for node in record.nodes]
        with contextlib.suppress(StorageFull):  # The old one does as well: it names processes that are no more.
            write_record(directory, msgspec.structs.replace(record, nodes=tuple(stopped)))
    return list(running.values()), [running[process] for process in killed]


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Raises: UsageError: another command is at work there."""
    with _usable(directory):
        opened = (directory / "lock").open("w")
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{directory}: another `onerack up` or `down` is at work there") from None
        yield
