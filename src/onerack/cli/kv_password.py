"""Names and passwords on the command line: `NAME:PASSWORD`, or `NAME`, and the password is asked for.

The idea: what is on a command line can be read by every process of the machine, and what is in a script by whoever has
the script. So a password may come from the terminal, where it is not shown, or in the environment. The rule: a command
that cannot ask says so, and does not wait.
"""

from __future__ import annotations

import sys

from onerack.errors import UsageError

VARIABLE = "ONERACK_KV_USER"


def credentials_of(text: str | None) -> tuple[str, str]:
    """For `--user`: both empty when it was not given. Raises: UsageError: no name; no password, and nobody to ask."""
    if not text:
        return "", ""
    name, colon, password = text.partition(":")
    if not name:
        raise UsageError(f"--user: {_shown(text)} has no name; expected NAME or NAME:PASSWORD")
    _require_text("--user", name, password)
    if colon:
        return name, password
    return name, _asked(
        f"Password of {name}: ", f"--user {name}: has no password; say NAME:PASSWORD, or set {VARIABLE}"
    )


def new_credentials_of(text: str, option: str) -> tuple[str, str]:
    """For a new password: asked for twice, or a line of standard input if that is no terminal. Raises: UsageError."""
    name, colon, password = text.partition(":")
    if not name:
        raise UsageError(f"{option}: {_shown(text)} has no name; expected NAME or NAME:PASSWORD")
    if not colon and sys.stdin.isatty():
        missing = f"{option} {name}: has no password, and there is no terminal to ask for it"
        password = _asked(f"New password of {name}: ", missing)
        if _asked("The same again: ", missing) != password:
            raise UsageError("the two passwords differ; nothing was changed")
    elif not colon:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise UsageError(
            f"{option} {name}: an empty password; say NAME:PASSWORD, or give it as a line of standard input"
        )
    _require_text(option, name, password)
    return name, password


def _asked(prompt: str, missing: str) -> str:
    import getpass

    try:
        with open("/dev/tty"):
            pass
        return getpass.getpass(prompt)
    except EOFError:
        raise KeyboardInterrupt from None
    except OSError:
        raise UsageError(missing) from None


def _require_text(option: str, *words: str) -> None:
    try:
        for word in words:
            word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{option}: names and passwords are UTF-8") from None


def _shown(text: str) -> str:
    """Without what may be a password."""
    return repr(text.partition(":")[0] + (":..." if ":" in text else ""))
