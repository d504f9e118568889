"""`onerack up`, `onerack down`, `onerack status`: a rack of nodes on this machine.

The idea: one command and there is a cluster, another one and it is gone, its data kept. The rule: when `up` returns the
cluster can be written to; when `down` returns no process of it is left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onerack.cli.failures import FAILED
from onerack.cli.kv_limits import Limits
from onerack.cli.kv_options import DIRECTORY
from onerack.errors import UsageError

if TYPE_CHECKING:
    from onerack.cluster.rack import NodeState
    from onerack.cluster.record import ClusterRecord

UP_EXAMPLES = """\b
Examples:
  onerack up --control 3
  onerack up --control 3 --dir /tmp/rack --base-port 7000 --json
  export ETCDCTL_ENDPOINTS=$(onerack status --json | jq -r '[.nodes[].endpoints.etcd] | join(",")')
"""
DOWN_EXAMPLES = """\b
Examples:
  onerack down
  onerack down --dir /tmp/rack
"""
STATUS_EXAMPLES = """\b
Examples:
  onerack status
  onerack status --json | jq -r '.nodes[] | select(.state == "leader").name'
"""

Directory = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the rack is. Default: onerack-data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text, also for an error.")]


def up(
    control: Annotated[
        int | None,
        typer.Option(
            "--control",
            metavar="N",
            min=1,
            max=9,
            help="Nodes that keep the state: 1, 3 or 5. Default: as many as there are already, or 3.",
        ),
    ] = None,
    directory: Directory = Path(DIRECTORY),
    base_port: Annotated[
        int | None,
        typer.Option("--base-port", metavar="P", help="Nodes get ports from here on, three each. Default: free ones."),
    ] = None,
    cluster: Annotated[str, typer.Option("--cluster", metavar="ID", help="The name of a new cluster.")] = "",
    as_json: AsJson = False,
    *,
    limits: Limits,
) -> None:
    """Start a cluster on this machine, and return when it serves.

    Its nodes run in the background, until `onerack down`; their logs are in DIR/logs. A cluster that was stopped
    starts again with its data, its ports, and the limits that it had; those that are given now replace all of them.
    Of one that runs, nodes that have died are started again.
    """
    from onerack.cluster import rack
    from onerack.cluster.processes import ended_like_ctrl_c

    last = 65536 - 3 * (control or 3)
    if base_port is not None and not 1 <= base_port <= last:
        raise UsageError(f"--base-port {base_port}: expected a number from 1 to {last}")
    limits.configs()
    with ended_like_ctrl_c():
        record = rack.up(directory, control=control, base_port=base_port, cluster=cluster, options=limits.words)
    _, nodes = rack.status(directory)
    _show(record, nodes, as_json=as_json)


def down(directory: Directory = Path(DIRECTORY), as_json: AsJson = False) -> None:
    """Stop a cluster of this machine; its data stays."""
    from onerack.cluster import rack

    stopped, killed = rack.down(directory)
    if as_json:
        print(json.dumps({"stopped": stopped, "killed": killed}))
    elif not stopped:
        print("nothing was running")
    else:
        words = f"; killed, since they did not end: {', '.join(killed)}" if killed else ""
        print(f"stopped {', '.join(stopped)}{words}")


def status(directory: Directory = Path(DIRECTORY), as_json: AsJson = False) -> int | None:
    """Say how the nodes of a cluster on this machine are; the exit code is 1 unless all serve.

    A node's state is leader, follower, learner or candidate (there is no leader); silent if its process lives and
    does not answer; down if it does not live.
    """
    from onerack.cluster import rack

    record, nodes = rack.status(directory)
    _show(record, nodes, as_json=as_json)
    return None if all(node.state in rack.SERVING for node in nodes) else FAILED


def _show(record: ClusterRecord, nodes: list[NodeState], *, as_json: bool) -> None:
    import msgspec

    if as_json:
        described: dict[str, Any] = {"cluster": record.cluster, "nodes": msgspec.to_builtins(nodes)}
        print(json.dumps(described))
        return
    from onerack.cli.kv_group import print_table

    rows = [
        (
            node.name, node.role, node.state, str(node.pid or ""), node.endpoints.rpc, node.endpoints.etcd,
            node.endpoints.http,
        )
        for node in nodes
    ]  # fmt: skip
    print_table([("node", "role", "state", "pid", "rpc", "etcd", "http"), *rows])
