"""What tests may rely on, however they were started.

The rule: under `nohup`, or in the background of a script, some signals are ignored, and would be in all processes that
tests start. Tests of what these signals do begin from the ordinary state.
"""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    for number, ordinary in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, ordinary)
