"""A story told by the library etcd3, in an environment of its own: `python story_etcd3.py HOST:PORT`.

It prints what happens, one line for each thing; with us and with etcd it must be the same.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

etcd3: Any = importlib.import_module("etcd3")
"""It is in this environment, and not in that of the type checker."""


def tell(*words: object) -> None:
    print(*words, flush=True)


def keys(client: Any) -> None:
    tell("put", client.put("k/1", "one").header.revision)
    tell("get", client.get("k/1")[0], client.get("missing"))
    tell("put again", client.put("k/1", "two", prev_kv=True).prev_kv.value)
    tell("replace", client.replace("k/1", "two", "three"), client.replace("k/1", "two", "four"))
    tell("new", client.put_if_not_exists("k/2", "x"), client.put_if_not_exists("k/2", "y"))
    tell("prefix", [(value, meta.key, meta.version) for value, meta in client.get_prefix("k/")])
    tell("sorted", [value for value, _ in client.get_prefix("k/", sort_order="descend", sort_target="key")])
    tell("all", len(list(client.get_all())))
    tell("delete", client.delete("k/2"), client.delete("k/2"), client.delete_prefix("nothing").deleted)
    tell("range", [value for value, _ in client.get_range("k/", "k0")])


def transactions(client: Any) -> None:
    made = client.transaction(
        compare=[client.transactions.value("k/1") == "three", client.transactions.version("k/1") > 1],
        success=[client.transactions.put("k/1", "four"), client.transactions.get("k/1")],
        failure=[client.transactions.delete("k/1")],
    )
    tell("txn", made[0], made[1][1][0][0])
    made = client.transaction(
        compare=[client.transactions.create("k/1") == 0], success=[], failure=[client.transactions.get("k/1")]
    )
    tell("txn", made[0], made[1][0][0][0])


def watches(client: Any) -> None:
    events, cancel = client.watch_prefix("w/")
    for n in range(3):
        client.put(f"w/{n}", f"{n}")
    client.delete("w/1")
    for _ in range(4):
        event = next(events)
        tell("watch", type(event).__name__, event.key, event.value, event.version)
    cancel()
    heard = threading.Event()
    number = client.add_watch_callback("cb", lambda response: heard.set())
    client.put("cb", "1")
    tell("callback", heard.wait(10))
    client.cancel_watch(number)
    client.compact(client.put("w/last", "x").header.revision)
    try:
        next(client.watch("w/0", start_revision=2)[0])
    except etcd3.exceptions.RevisionCompactedError as error:
        tell("compacted", error.compacted_revision > 2)


def leases(client: Any) -> None:
    lease = client.lease(20, lease_id=77)
    client.put("leased", "x", lease=lease)
    tell("lease", lease.id, lease.granted_ttl, lease.remaining_ttl > 15, lease.keys)
    tell("refresh", [(answer.ID, answer.TTL) for answer in lease.refresh()])
    lease.revoke()
    tell("revoked", client.get("leased"))
    with client.lock("lock", ttl=20) as lock:
        tell("locked", lock.is_acquired())
    tell("unlocked", lock.is_acquired(), client.lock("lock", ttl=20).acquire(timeout=5))


def cluster(client: Any) -> None:
    status = client.status()
    tell("status", status.version.startswith("3.4"), status.leader.name, status.raft_term > 0, status.db_size > 0)
    tell("members", [member.name for member in client.members], list(client.list_alarms()))
    tell("alarm", [alarm.alarm_type for alarm in client.create_alarm()], len(list(client.disarm_alarm())))
    client.defragment()
    tell("hash", client.hash() != 0)


def main(endpoint: str) -> None:
    host, port = endpoint.split(":")
    client = etcd3.client(host=host, port=int(port), timeout=10)
    for part in (keys, transactions, watches, leases, cluster):
        part(client)
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])
