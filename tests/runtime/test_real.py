"""Real sockets and files, and the simulated ones beside them: both keep the promises of env.py."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from onerack.codec import decode_file, encode_frame
from onerack.errors import Corruption, ProtocolError, StorageFull, UsageError
from onerack.runtime.env import Connection, Disk, Network, StorageDisk
from onerack.runtime.real import EXIT_IO_ERROR, FileJournal, RealClock, RealDisk, RealNetwork, parse_address
from onerack.sim.disk import SimDisk
from onerack.sim.env import SimNetwork
from onerack.sim.loop import simulate

Run = Callable[[Coroutine[Any, Any, None]], None]
Kind = tuple[Network, str, Run]


@pytest.fixture(params=["unix", "tcp", "simulated"])
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """A network, an address to listen at, and a way to run."""
    if request.param == "simulated":
        return SimNetwork(random.Random(1)), "tcp:sim:0", simulate
    if request.param == "tcp":
        return RealNetwork(), "tcp:127.0.0.1:0", asyncio.run
    # The path of a unix socket may have 107 bytes; a relative one is short wherever tests run.
    monkeypatch.chdir(tmp_path)
    return RealNetwork(), "unix:s", asyncio.run


async def echo(connection: Connection) -> None:
    while (payload := await connection.receive()) is not None:
        connection.send(payload)
        await connection.flush()


def test_payloads_come_whole_and_in_order(kind: Kind) -> None:
    network, address, run = kind

    async def story() -> None:
        listener = await network.listen(address, echo)
        connection = await network.connect(listener.address)
        payloads = [b"", b"one", b"two" * 100_000, *(str(number).encode() for number in range(100))]
        for payload in payloads:
            connection.send(payload)
        assert [await connection.receive() for _ in payloads] == payloads
        connection.close()
        await listener.close()

    run(story())


def test_the_end_is_noticed_and_what_was_sent_before_arrives(kind: Kind) -> None:
    network, address, run = kind

    async def say_and_leave(connection: Connection) -> None:
        connection.send(b"last words")
        connection.close()

    async def story() -> None:
        listener = await network.listen(address, say_and_leave)
        connection = await network.connect(listener.address)
        assert await connection.receive() == b"last words"
        assert await connection.receive() is None
        assert await connection.receive() is None
        connection.send(b"nobody hears this")
        connection.close()
        connection.close()
        await listener.close()

    run(story())


def test_closing_the_listener_ends_its_connections(kind: Kind) -> None:
    network, address, run = kind

    async def story() -> None:
        listener = await network.listen(address, echo)
        connection = await network.connect(listener.address)
        connection.send(b"x")
        assert await connection.receive() == b"x"
        await listener.close()
        assert await connection.receive() is None
        connection.close()
        with pytest.raises(ConnectionError, match="nobody listens at"):
            await network.connect(listener.address)

    run(story())


def test_bad_bytes_are_a_protocol_error() -> None:
    caught: list[ProtocolError] = []

    async def serve(connection: Connection) -> None:
        try:
            await connection.receive()
        except ProtocolError as error:
            caught.append(error)

    async def story() -> None:
        listener = await RealNetwork().listen("tcp:127.0.0.1:0", serve)
        port = int(listener.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\xff" * 64)
        assert await reader.read() == b""
        writer.close()
        await listener.close()

    asyncio.run(story())
    assert "at most" in str(caught[0])


def test_a_unix_socket_is_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def story() -> None:
        listener = await RealNetwork().listen("unix:s", echo)
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        await listener.close()
        assert not (tmp_path / "s").exists()

    asyncio.run(story())


@pytest.mark.parametrize("address", ["", "unix:", "tcp:", "tcp:host", "tcp:host:http", "tcp:host:99999", "udp:h:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        parse_address(address)


def test_ipv6_addresses_have_colons() -> None:
    assert parse_address("tcp:::1:80") == ("", "::1", 80)


def test_the_clock_goes_on_and_never_back() -> None:
    clock = RealClock()
    moments = [clock.now() for _ in range(100)]
    assert moments == sorted(moments)
    asyncio.run(clock.sleep(0))


# ------------------------------------------------------------------------------------------------------ files


@pytest.fixture(params=["real", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[StorageDisk, str]:
    """A disk and a directory on it."""
    if request.param == "real":
        return RealDisk(), str(tmp_path)
    return SimDisk(random.Random(1)), "/dir"


def test_what_is_appended_can_be_read(place: tuple[Disk, str]) -> None:
    disk, directory = place
    for content in (b"one", b"two"):
        file = disk.open_append(f"{directory}/log")
        file.append(content)
        file.sync()
        file.close()
        file.close()
    assert disk.read(f"{directory}/log") == b"onetwo"


def test_a_fixed_file_is_written_over_and_keeps_its_size(place: tuple[StorageDisk, str]) -> None:
    disk, directory = place
    path = f"{directory}/segment"
    with pytest.raises(FileNotFoundError):
        disk.open_fixed(path)
    disk.open_append(path).append(bytes(10))
    file = disk.open_fixed(path)
    file.write(3, b"ab", b"", b"cd")
    file.write(8, b"e")
    assert disk.read(path) == b"\0\0\0abcd\0e\0"
    file.sync()
    file.write(4, b"X")
    file.close()
    file.close()
    assert disk.read(path) == b"\0\0\0aXcd\0e\0"


def test_a_file_is_mapped_though_it_is_unlinked(place: tuple[StorageDisk, str]) -> None:
    disk, directory = place
    path = f"{directory}/segment"
    with pytest.raises(FileNotFoundError):
        disk.map(path)
    disk.open_append(path).append(b"")
    assert disk.map(path)[:] == b""
    disk.open_append(path).append(b"0123456789")
    content = disk.map(path)
    disk.unlink(path)
    assert (len(content), content[2:5], content.find(b"7")) == (10, b"234", 7)


def test_a_file_is_read_in_parts_though_it_is_unlinked(place: tuple[StorageDisk, str]) -> None:
    disk, directory = place
    path = f"{directory}/snapshot"
    with pytest.raises(FileNotFoundError):
        disk.open_read(path)
    disk.open_append(path).append(b"0123456789")
    file = disk.open_read(path)
    disk.unlink(path)
    assert file.size == 10
    assert (file.read(2, 3), file.read(8, 100), file.read(20, 1)) == (b"234", b"89", b"")
    file.close()
    file.close()


def test_rename_replaces_and_unlink_removes(place: tuple[Disk, str]) -> None:
    disk, directory = place
    for name in ("a", "b"):
        disk.open_append(f"{directory}/{name}").append(name.encode())
    disk.rename(f"{directory}/a", f"{directory}/b")
    disk.sync_directory(directory)
    assert disk.read(f"{directory}/b") == b"a"
    disk.unlink(f"{directory}/b")
    for name in ("a", "b"):
        with pytest.raises(FileNotFoundError):
            disk.read(f"{directory}/{name}")


def test_names_are_those_of_one_directory_in_order(place: tuple[Disk, str]) -> None:
    disk, directory = place
    disk.make_directory(f"{directory}/sub/deep")
    disk.make_directory(f"{directory}/sub/deep")
    assert disk.names(f"{directory}/sub/deep") == []
    for path in ("b", "a", "sub/x", "sub/deep/y"):
        disk.open_append(f"{directory}/{path}").append(path.encode())
    assert [name for name in disk.names(directory) if name != "sub"] == ["a", "b"]
    assert [name for name in disk.names(f"{directory}/sub") if name != "deep"] == ["x"]
    assert disk.names(f"{directory}/sub/deep") == ["y"]


def test_a_directory_is_private_and_durable_when_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(RealDisk, "sync_directory", lambda self, path: synced.append(path))
    RealDisk().make_directory(f"{tmp_path}/one/two")
    assert synced == [f"{tmp_path}", f"{tmp_path}/one"]
    assert (tmp_path / "one/two").stat().st_mode & 0o777 == 0o700


def test_a_lock_is_held_by_one_until_it_lets_go(place: tuple[Disk, str]) -> None:
    disk, directory = place
    lock = disk.lock(f"{directory}/lock")
    with pytest.raises(UsageError, match="lock is held by another process"):
        disk.lock(f"{directory}/lock")
    disk.lock(f"{directory}/other").close()
    lock.close()
    lock.close()
    disk.lock(f"{directory}/lock").close()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    program = f"from onerack.runtime.real import RealDisk\nlock = RealDisk().lock({path!r})\nprint(flush=True)\ninput()"
    source = str(Path(__file__).parents[2] / "src")
    holder = subprocess.Popen(
        [sys.executable, "-c", program], env={"PYTHONPATH": source}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UsageError, match="must end first"):
            RealDisk().lock(path)
        holder.kill()
    RealDisk().lock(path).close()


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(UsageError, match="a file system with locks"):
        RealDisk().lock(str(tmp_path / "lock"))


def test_a_disk_without_room_for_another_name_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageFull, match="log"):
        RealDisk().open_append(str(tmp_path / "log"))
    with pytest.raises(StorageFull, match="other"):
        RealDisk().rename(str(tmp_path / "log"), str(tmp_path / "other"))


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = RealDisk().open_append(str(tmp_path / "log"))
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFull, match="log"):
        file.append(b"x")
    file.close()


def test_a_full_simulated_disk_keeps_what_fitted() -> None:
    disk = SimDisk(random.Random(1), capacity_bytes=5)
    with pytest.raises(StorageFull, match="/dir/log"):
        disk.open_append("/dir/log").append(b"1234567")
    assert disk.read("/dir/log") == b"12345"


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, bytes(content)[:3]))
    file = RealDisk().open_append(str(tmp_path / "log"))
    file.append(b"0123456789")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"0123456789"


def test_short_writes_over_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "segment"
    path.write_bytes(bytes(12))
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda descriptor, pieces, at: pwrite(descriptor, b"".join(pieces)[:3], at))
    monkeypatch.setattr(os, "pwrite", lambda descriptor, content, at: pwrite(descriptor, bytes(content)[:2], at))
    file = RealDisk().open_fixed(str(path))
    file.write(1, b"01234", b"56789")
    file.close()
    assert path.read_bytes() == b"\x000123456789\x00"


@pytest.mark.parametrize("call", ["file.sync()", "fixed.sync()", "RealDisk().sync_directory('.')"])
def test_a_failed_fsync_ends_the_process(tmp_path: Path, call: str) -> None:
    program = f"""
import errno, os
from onerack.runtime.real import RealDisk
def fail(descriptor): raise OSError(errno.EIO, "Input/output error")
os.fdatasync = os.fsync = fail
file = RealDisk().open_append("log")
file.append(b"x")
fixed = RealDisk().open_fixed("log")
try:
    {call}
finally:
    print("went on")
"""
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": source}, capture_output=True, text=True
    )
    assert done.returncode == EXIT_IO_ERROR
    assert done.stdout == ""
    assert "this process ends" in done.stderr


@pytest.mark.parametrize("sync", [False, True])
def test_a_journal_is_frames(tmp_path: Path, sync: bool) -> None:
    path = str(tmp_path / "journal.log")
    for records in ([b"a", b"b"], [b"c"]):
        journal = FileJournal(RealDisk(), path, sync=sync)
        journal.append(records)
        journal.close()
    content = RealDisk().read(path)
    assert list(decode_file(content, path)) == [b"a", b"b", b"c"]
    assert list(decode_file(content + encode_frame(b"torn")[:-1], path)) == [b"a", b"b", b"c"]
    with pytest.raises(Corruption, match=r"journal.log is damaged at byte 0"):
        list(decode_file(b"\x01\x00\x00\x00????x" + content, path))


def test_a_connection_survives_a_reset() -> None:
    """The peer vanishes with bytes unread, so the kernel sends a reset instead of an end."""

    async def story() -> None:
        received: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        async def serve(connection: Connection) -> None:
            connection.send(b"unread")
            await connection.flush()
            received.set_result(await connection.receive())
            connection.send(b"nobody")
            await connection.flush()

        listener = await RealNetwork().listen("tcp:127.0.0.1:0", serve)
        with socket.create_connection(("127.0.0.1", int(listener.address.rpartition(":")[2]))) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        assert await received is None
        await listener.close()

    asyncio.run(story())
