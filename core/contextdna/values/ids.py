"""Identifiers: short, typed, time-ordered."""

import re
import secrets
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType

ProjectId = NewType("ProjectId", str)
AgentId = NewType("AgentId", str)
RecordId = NewType("RecordId", str)
SessionId = NewType("SessionId", str)
DelegationId = NewType("DelegationId", str)
GrantId = NewType("GrantId", str)
EventId = NewType("EventId", str)

# The installation's own audit chain and keys live under the empty project id.
INSTALLATION: Final = ProjectId("")

NAME_PATTERN: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$")

# Crockford's base 32: digits first, so that text order is time order.
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARS: Final = 10  # 50 bits of milliseconds: until the year 37648
_RANDOM_CHARS: Final = 12  # 60 bits


class IdPrefix(StrEnum):
    """What an id names; every id says its kind."""

    MEMORY = "mem"
    TURN = "turn"
    ARTIFACT = "art"
    LOOP = "loop"
    SESSION = "ses"
    DELEGATION = "del"
    GRANT = "grt"
    EVENT = "evt"
    CONFLICT = "cfl"
    KEY = "key"
    REQUEST = "req"


def _base32(number: int, chars: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (chars - 1), -1, -5))


def new_id(prefix: IdPrefix, now: datetime) -> str:
    """Make a time-ordered id such as ``mem_01k3…`` (prefix, 50 bits of time in ms, 60 random bits)."""
    return f"{prefix}_{_base32(int(now.timestamp() * 1000), _TIME_CHARS)}{_base32(secrets.randbits(60), _RANDOM_CHARS)}"


def new_secret() -> str:
    """Make the unguessable half of a session handle (26 characters, 130 random bits)."""
    return _base32(secrets.randbits(130), 26)


def is_name(text: str) -> bool:
    """Tell whether text is a valid project, agent, team or swarm id (1..128 of ``A-Za-z0-9._:@-``)."""
    return NAME_PATTERN.match(text) is not None
