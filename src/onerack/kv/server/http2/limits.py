"""Limits of an HTTP/2 connection: what one client may ask of the server, and how long it may take.

The idea: whatever a peer can make us keep or do without paying for it has a number here. The windows that we grant are
generous, because what they let in is bounded by the caps on unfinished messages.

The rule: every limit is checked before memory is taken. Source: RFC 9113, section 10.5 (denial of service).
"""

from __future__ import annotations

import msgspec

from onerack.config import KIB, MIB


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults are for servers; tests make them small."""

    preface_timeout_s: float = 10.0
    """Until a stranger has sent the preface and its SETTINGS."""
    keepalive_s: float = 30.0
    """A peer that was silent for so long is asked by PING whether it is there."""
    keepalive_timeout_s: float = 20.0
    """... and when it has then said nothing for so long, it is not."""
    stall_timeout_s: float = 60.0
    """An answer of which the peer takes nothing, or a request that does not go on, for so long is given up."""
    linger_s: float = 1.0
    """What a peer is granted to take our last words, or to answer the last question."""
    tick_s: float = 0.25
    """How often the clock is looked at: timeouts are late by up to this."""

    stream_window_bytes: int = 4 * MIB
    connection_window_bytes: int = 16 * MIB
    header_list_bytes_max: int = 16 * KIB
    """Decoded, as HPACK counts."""
    header_block_bytes_max: int = 32 * KIB
    """As it comes, over all CONTINUATION frames."""
    continuations_max: int = 32
    """Frames of one header block."""

    unfinished_bytes_max: int = 64 * MIB
    """Of messages that have not come whole, on one connection; and of long header lists of open requests."""
    unfinished_server_bytes_max: int = 256 * MIB
    """... and on all connections."""
    waiting_bytes_max: int = 256 * MIB
    """Of answers that one connection has not taken; then it is closed."""
    deaf_bytes: int = MIB
    """When the socket is full and more than this waits, no more requests are read."""
    noise_max: int = 2_000
    """Frames that move nothing (PING, SETTINGS, WINDOW_UPDATE, empty DATA ...), less four for each that does."""
    noise_forgiven_per_s: int = 100
    resets_max: int = 20_000
    """Requests that the peer began and gave up, in a burst."""
    resets_forgiven_per_s: int = 1_000
