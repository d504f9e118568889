"""Socket files: made for their owner alone, taken over from the dead, removed at the end.

The idea: the file of a server that was killed stays behind, and nobody can connect to it; whoever starts next replaces
it. A file at which somebody answers is somebody's, and is left alone.

The rule: the file is ours only as long as it is the one that we made. When another server has replaced it, nothing of
that server's is removed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from onerack.errors import UsageError


class SocketFile:
    """A listening unix socket and its file."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        self.listening = listening
        self._path = path
        self._made = _identity(path)

    def remove(self) -> None:
        """May be called again."""
        if self._made is not None and _identity(self._path) == self._made:
            os.unlink(self._path)
        self._made = None


def listen(path: str, backlog: int) -> SocketFile:
    """A listening socket whose file has mode 0600 from the moment at which anybody can connect.

    Raises: UsageError: somebody listens there, or there is a file of another kind, or there can be none.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listening.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            listening.bind(path)
        os.chmod(path, 0o600)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise UsageError(f"unix://{path}: no socket can be made there: {error.strerror or error}") from error
    except BaseException:
        listening.close()
        raise
    return SocketFile(listening, path)


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise UsageError(f"unix://{path}: there is a file of another kind; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        # A listener whose queue is full says EAGAIN, and lives.
        knocking.setblocking(False)
        if knocking.connect_ex(path) != errno.ECONNREFUSED:
            raise UsageError(f"unix://{path}: somebody listens there already")
    os.unlink(path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
