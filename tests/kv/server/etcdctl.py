"""The real etcdctl, and a script of its commands that must have the same outcome with us as with etcd itself.

The idea: whoever moves to us from etcd keeps his scripts. So one script runs against both, command by command; what a
cluster may call as it likes (ids, terms, sizes, times) is struck out, and everything else must be equal, errors too.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import Final

KEYS: Final = r"""
put a 1
get a -w fields
get a --print-value-only
put a 2 --prev-kv
get a --rev 2 -w fields
get a --rev 99
get a --rev 1 -w fields
put b 3
put c 4
put d ""
get "" --prefix -w fields
get --from-key b --keys-only
get a d -w fields
get "" --prefix --limit 2 -w fields
get "" --prefix --sort-by MODIFY --order DESCEND -w fields
get "" --prefix --sort-by VERSION --order DESCEND --limit 2 -w fields
get "" --prefix --sort-by VALUE --order ASCEND
get a --consistency s -w fields
put --ignore-value missing
put --ignore-value a
get a -w fields
put --ignore-lease a 7
put --lease=1234 a 1
del c --prev-kv
del c
get c -w fields
del b d -w fields
del --prefix x
del --from-key b --prev-kv
put k1 v1
put k2 v2
compaction 8
get a --rev 3
get a --rev 8 -w fields
compaction 8
compaction 7
compaction 9999
compaction --physical 9
put big/1 x
put big/2 y
get big/ --prefix -w json
get big/ --prefix -w simple --hex
del big/ --prefix -w json
"""
"""Of keys, versions, compaction."""

TXN: Final = [
    ("txn", 'val("k1") = "v1"\n\nput k1 w1\nget k1\n\nget k2\n\n'),
    ("txn", 'val("k1") = "v1"\n\nput k1 w1\n\nget k2\n\n'),
    ("txn -w fields", 'mod("k1") > "0"\nver("k2") = "1"\n\nput k3 "a b"\ndel k2\nget k3\n\nget k1\n\n'),
    ("txn -w fields", 'create("nothing") = "0"\n\nput made 1\n\n\n\n'),
    ("txn", 'create("made") = "0"\n\nput made 1\n\nget made\n\n'),
    ("txn", '\n\nput twice 1\nput twice 2\n\n\n'),
    ("txn -w fields", '\n\n\n\n\n'),
    ("txn", 'val("absent") = ""\n\nget k1\n\nget k3\n\n'),
    ("txn", '\n\ndel k1 k9\nput k5 1\n\n\n'),
]  # fmt: skip
"""Of transactions, with what is typed in."""

LEASES: Final = r"""
lease grant 100
lease list
lease timetolive 1234
lease revoke 1234
lease keep-alive 1234 --once
lease timetolive 1234 --keys
"""

USERS: Final = r"""
user list
role list
auth disable
auth enable
user add root:secret
user add root:secret
user add "":x
role add root
role add root
user grant-role root root
user grant-role nobody root
user grant-role root norole
user add ann:pw
user add bob --no-password
role add reader
role grant-permission reader read foo
role grant-permission reader readwrite data/ --prefix
role grant-permission reader write x zz
role grant-permission norole read foo
role get reader
role get norole
user grant-role ann reader
user get ann
user get ann --detail
user get nobody
user list
role list
put foo before
auth enable
--user root:secret auth enable
put foo 1
get foo
--user ann:wrong get foo
--user nobody:x get foo
--user ann:pw get foo
--user ann:pw put foo 2
--user ann:pw put data/1 2
--user ann:pw get data/ --prefix
--user ann:pw get "" --prefix
--user ann:pw del data/1
--user ann:pw put y 1
--user ann:pw get y
--user ann:pw user list
--user ann:pw user get ann
--user ann:pw user get root
--user ann:pw role get reader
--user ann:pw role get root
--user ann:pw role add more
--user ann:pw compaction 1
--user ann:pw auth disable
--user ann:pw defrag
--user root:secret put foo 9
--user root:secret get foo
--user root:secret user passwd ann --interactive=false
--user root:secret user delete root
--user root:secret user revoke-role root root
--user root:secret role revoke-permission reader foo
--user root:secret role revoke-permission reader foo
--user root:secret role get reader
--user ann:pw get foo
--user root:secret user revoke-role ann reader
--user root:secret user revoke-role ann reader
--user ann:pw get data/1
--user root:secret role delete reader
--user root:secret role delete reader
--user root:secret user delete ann
--user root:secret user delete ann
--user ann:pw get data/1
--user root:secret auth disable
--user root:secret auth disable
get foo
user delete bob
user list
role list
"""
"""Of users and roles; ends with authentication off."""

CLUSTER: Final = r"""
member list
member remove 1234
member promote 1234
member update 1234 --peer-urls=http://127.0.0.1:1
member add x --peer-urls=nonsense
endpoint health
alarm list
alarm disarm
defrag
move-leader 1234
put after everything
get after -w fields
"""

_STRUCK_OUT: Final = [
    (re.compile(r'"?(ClusterID|MemberID|RaftTerm|Term|cluster_id|member_id|raft_term)"? ?: ?\d+'), r"\1"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ENDPOINT"),
    (re.compile(r"took = [\d.]+[nµm]?s"), "took"),
    (re.compile(r"\b[0-9a-f]{12,16}\b"), "ID"),
    (re.compile(r'\{"level.*?"error":'), ""),
    (re.compile(r'"attempt":\d+|endpoint-[0-9a-f-]+|"ts":"[^"]*"|"caller":"[^"]*"'), ""),
    (re.compile(r"remaining\(\d+s\)"), "remaining"),
    (re.compile(r", default, |, n1, "), ", NAME, "),
]


def etcdctl(endpoint: str, line: str, typed: str = "", timeout_s: float = 15.0) -> str:
    """Runs one command: its exit code, and all that it has printed."""
    done = subprocess.run(
        ["etcdctl", "--endpoints", endpoint, *shlex.split(line)],
        input=typed, capture_output=True, text=True, timeout=timeout_s, check=False,
        env={**os.environ, "ETCDCTL_API": "3"},
    )  # fmt: skip
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def struck(printed: str) -> str:
    """Without what every cluster may call as it likes."""
    for pattern, instead in _STRUCK_OUT:
        printed = pattern.sub(instead, printed)
    return printed


def commands() -> list[tuple[str, str]]:
    """The whole script: (command, what is typed in)."""
    found = [(line, "") for line in KEYS.split("\n") if line]
    found += TXN
    for part in (LEASES, USERS, CLUSTER):
        found += [(line, "pw2\n" if "passwd" in line else "") for line in part.split("\n") if line]
    return found
