"""Requests drawn at random find nothing; ``tests.http.fuzz`` says what is meant, and goes on for longer."""

from pathlib import Path
from typing import Any

import pytest

from tests.http.fuzz import Found, Fuzzed, attack, fuzzed

EXAMPLES = 10


def test_drawn_requests_find_nothing(tmp_path: Path) -> None:
    with fuzzed(tmp_path) as (server, portal):
        attack(server, portal, examples=EXAMPLES, at=1)
        assert sum(server.statuses.values()) > EXAMPLES * 5
        assert {200, 202, 400, 404} <= server.statuses.keys(), "they come as far as tools, and are refused"
        assert portal.call(server.target.workspace().verify_audit).intact


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 \r\n\r\n",
        b"HTTP/1.1 504 Gateway Timeout\r\n\r\n",
        b'HTTP/1.1 200 OK\r\n\r\n{"error":{"code":"internal_error"}}',
        b"HTTP/1.1 400 \r\n\r\nTraceback (most recent call last):",
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n\r\n",
    ],
)
def test_what_is_to_be_found_is_found(answer: bytes) -> None:
    nothing: Any = None
    with pytest.raises(Found):
        Fuzzed(nothing).judge(b"GET / HTTP/1.1", answer)
