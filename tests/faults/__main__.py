"""Break a store of real processes for a while, and judge what its clients saw.

    python -m tests.faults --nodes 5 --seed 7 --minutes 10
    python -m tests.faults --links relay --no-disks          # needs no rights

Where the machine allows it (root), the run has network namespaces and small disks of its own, which go with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.links import Links, RelayLinks
from tests.faults.namespaces import NamespaceLinks
from tests.faults.run import run_for

_INSIDE = "ONERACK_FAULTS_INSIDE"
"""Set in the process that has namespaces of its own."""


def why_not() -> str:
    """Why there can be no namespaces and disks; empty: there can be."""
    if os.geteuid() != 0:
        return "only root may"
    for program in ("unshare", "nsenter", "ip", "mkfs.ext4", "mount", "fsfreeze"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    return tried.stderr.decode(errors="replace").strip() if tried.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--links", choices=("namespaces", "relay"), default="namespaces")
    parser.add_argument("--no-disks", action="store_true", help="the nodes' data is in an ordinary directory")
    parser.add_argument("--only", action="append", metavar="TROUBLE", help="such as killed; several times for several")
    parser.add_argument("--dir", type=Path, help="kept after a failure; default: one that is made for it")
    asked = parser.parse_args()
    needs_root = asked.links == "namespaces" or not asked.no_disks
    if needs_root and _INSIDE not in os.environ:
        reason = why_not()
        if reason:
            print(f"no namespaces and disks here ({reason}); --links relay --no-disks needs neither", file=sys.stderr)
            return 2
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, "-m", "tests.faults", *sys.argv[1:]])
    return broken(asked)


def broken(asked: argparse.Namespace) -> int:
    directory = asked.dir or Path(tempfile.mkdtemp(prefix="onerack-faults"))
    directory.mkdir(exist_ok=True)
    if asked.links == "relay" and _INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    links: Links = NamespaceLinks() if asked.links == "namespaces" else RelayLinks()
    print(f"seed {asked.seed}: {asked.nodes} nodes, {links.kind}; logs are in {directory}", flush=True)
    begun = time.monotonic()
    procedure = run_for(
        directory,
        links,
        count=asked.nodes,
        seed=asked.seed,
        minutes=asked.minutes,
        has_disks=not asked.no_disks,
        say=lambda text: print(text, flush=True),
        only=asked.only or (),
    )
    run = asyncio.run(procedure)
    counts = ", ".join(f"{what} {count}" for what, count in sorted(run.counts.items()))
    print(f"good: {run.rounds} rounds in {time.monotonic() - begun:.0f} s; longest gap {run.gap_s_max:.1f} s; {counts}")
    if asked.dir is None:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
