"""How far the other side of a TCP connection has come with what it was sent, where the system tells.

What a server is left with shrinks in steps of as much as the system takes over at once, which may be megabytes: by that
alone, a client that reads slowly looks like one that does not read.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

if sys.platform == "linux":
    import fcntl
    import termios

_ACKED: Final = struct.Struct("=Q")
_ACKED_AT: Final = 120
_QUEUED: Final = struct.Struct("i")


def sent_off(sock: socket.socket | None) -> tuple[int, int] | None:
    """Give how many bytes the system still holds for the other side, and how many that has acknowledged in all.

    Source: tcp(7), SIOCOUTQ; linux/tcp.h, struct tcp_info: tcpi_bytes_acked, since Linux 4.1.
    """
    if sys.platform != "linux" or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_AT + _ACKED.size)
    if len(told) < _ACKED_AT + _ACKED.size:
        return None
    [acked] = _ACKED.unpack_from(told, _ACKED_AT)
    [queued] = _QUEUED.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_QUEUED.size)))
    return queued, acked
