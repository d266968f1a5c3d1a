"""Lines of the input as the SDK's parser takes them; what must not reach a tool as it stands becomes a line it refuses.

The parser keeps the line that it refused in its error, and ``refused.answers_to`` reads there what to answer.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Final

HEAD_BYTES: Final = 1024 * 1024
"""What is kept of the beginning of a line over the limit: clients in Python name the request there."""

TAIL_BYTES: Final = 4096
"""What is kept of its end: clients in TypeScript put the id last."""

_ODD_ID: Final = re.compile(rb'"id"\s*:\s*(?:[tfn{\[]|-?\d+[.eE])')

logger = logging.getLogger(__name__)


class RefusedLine(str):
    """A line that no parser takes, for its first character: what was kept of one that must not be served.

    Attributes:
        size_bytes: How long a line over the limit was; 0 for a line refused for another reason.
        tail: The end of a line over the limit.
    """

    size_bytes = 0
    tail = ""

    @classmethod
    def of(cls, kept: str, *, size_bytes: int = 0, tail: str = "") -> RefusedLine:
        """Mark a line, or the head of one, as refused."""
        line = cls("\x00" + kept)
        line.size_bytes, line.tail = size_bytes, tail
        return line

    @property
    def kept(self) -> str:
        """The line, or its head, as it came."""
        return self[1:]


class LineBuffer:
    """Collects one line; beyond its limit only the head, the tail and the length are kept."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept = bytearray()
        self._tail = b""
        self.size_bytes = 0

    def add(self, part: bytes) -> None:
        """Append a part of the line."""
        was_over = self.size_bytes > self._bytes_max
        self.size_bytes += len(part)
        if not was_over:
            self._kept += part
            if self.size_bytes <= self._bytes_max:
                return
            part = bytes(self._kept[-TAIL_BYTES:])
            del self._kept[HEAD_BYTES:]
        self._tail = (self._tail + part)[-TAIL_BYTES:]

    def take(self) -> str:
        """Give the line and begin the next one."""
        kept, tail, size_bytes = self._kept, self._tail, self.size_bytes
        self._kept, self._tail, self.size_bytes = bytearray(), b"", 0
        if size_bytes > self._bytes_max:
            logger.warning("refused a message of %d bytes, over the limit of %d", size_bytes, self._bytes_max)
            head = kept.decode("utf-8", "replace")
            return RefusedLine.of(head, size_bytes=size_bytes, tail=tail.decode("utf-8", "replace"))
        # What is not UTF-8 becomes lone surrogates, which the parser refuses, rather than other text.
        line = kept.decode("utf-8", "surrogateescape")
        return RefusedLine.of(line) if _ODD_ID.search(kept) and _asks_oddly(line) else line


def _asks_oddly(line: str) -> bool:
    """Tell whether a line is a request whose id is neither a whole number nor a text.

    The parser takes it for a notification, and nobody would answer. Source: JSON-RPC 2.0, and MCP, which forbids null.
    """
    try:
        return asks_under_an_odd_id(json.loads(line))
    except (ValueError, RecursionError):
        return False  # the parser says why


def asks_under_an_odd_id(message: object) -> bool:
    """Tell whether a message is a request whose id is neither a whole number nor a text."""
    if not isinstance(message, dict) or not {"id", "method"} <= message.keys():
        return False
    call_id = message["id"]
    return isinstance(call_id, bool) or not isinstance(call_id, int | str)
