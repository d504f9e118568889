"""`onerack kv serve`, as it is; but it ends when its standard input does, so that no test leaves one behind.

SIGUSR1 has it write into its log where its threads are, for whoever wonders why it does not answer.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading

from onerack.cli.main import execute


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.exit(execute(["kv", "serve", *sys.argv[1:]]))
