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
SignalId = NewType("SignalId", str)
AgentEntryId = NewType("AgentEntryId", str)
TokenId = NewType("TokenId", str)

# The installation's own audit chain and keys live under the empty project id.
INSTALLATION: Final = ProjectId("")

UPKEEP_AGENT: Final = AgentId("(upkeep)")
"""Whom the installation itself acts as; no agent can bear this name."""

NAME_PATTERN: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$")

_PATH_CHARS_MAX: Final = 2048
_NAMED_CHARS_MAX: Final = 128
_ID_PATTERN: Final = re.compile(r"[a-z]{2,8}_[0-9a-hjkmnp-tv-z]{22}")
_HANDLE_PATTERN: Final = re.compile(r"(ses_[0-9a-z]{22})\.[0-9a-z]{20,}")  # one that lost its end too
_TOKEN_PATTERN: Final = re.compile(r"cdna_(tok_[0-9a-hjkmnp-tv-z]{22})_([0-9a-hjkmnp-tv-z]{32})")
_TOKEN_LIKE_PATTERN: Final = re.compile(r"(cdna_tok_[0-9a-z]{22})_[0-9a-z]{4,}")

# Crockford's base 32: digits first, so that text order is time order.
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)  # 10 bits at a time
_TIME_PAIRS: Final = 5  # 50 bits of milliseconds: until the year 37648
_RANDOM_PAIRS: Final = 6  # 60 bits
_DERIVED_BYTES: Final = 13
_DERIVED_SPARE_BITS: Final = 4  # 100 bits are left: as a time they would be before 2004
_SECRET_PAIRS: Final = 13  # 130 bits
_TOKEN_SECRET_PAIRS: Final = 16  # 160 bits: a token lives longer than a session


class IdPrefix(StrEnum):
    """What an id names; every id says its kind."""

    MEMORY = "mem"
    TURN = "turn"
    ARTIFACT = "art"
    LOOP = "loop"
    TASK = "task"
    SESSION = "ses"
    DELEGATION = "del"
    GRANT = "grt"
    EVENT = "evt"
    SIGNAL = "sig"
    AGENT_ENTRY = "aen"
    CONFLICT = "cfl"
    KEY = "key"
    WRITE = "wrt"
    TOKEN = "tok"  # noqa: S105 - opens nothing


def _base32(number: int, pairs: int) -> str:
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(10 * (pairs - 1), -1, -10)])


def new_id(prefix: IdPrefix, now: datetime) -> str:
    """Make a time-ordered id such as ``mem_01k3…`` (prefix, 50 bits of time in ms, 60 random bits)."""
    number = (int(now.timestamp() * 1000) << 60) | secrets.randbits(60)
    return f"{prefix}_{_base32(number, _TIME_PAIRS + _RANDOM_PAIRS)}"


def derived_id(prefix: IdPrefix, digest: bytes) -> str:
    """Make the id that follows from a digest of 13 bytes or more; it tells no time, and sorts before all that do."""
    number = int.from_bytes(digest[:_DERIVED_BYTES], "big") >> _DERIVED_SPARE_BITS
    return f"{prefix}_{_base32(number, _TIME_PAIRS + _RANDOM_PAIRS)}"


def is_id(text: str) -> bool:
    """Tell whether a text has the form of an id of ours; a session handle has not."""
    return _ID_PATTERN.fullmatch(text) is not None


def holds_handle(text: str) -> bool:
    """Tell whether a session handle, a secret, stands in a text."""
    return _HANDLE_PATTERN.search(text) is not None


def holds_token(text: str) -> bool:
    """Tell whether an access token, a secret, stands in a text."""
    return _TOKEN_LIKE_PATTERN.search(text) is not None


def without_secrets(text: str) -> str:
    """Write a text without the unguessable part of any session handle or access token in it."""
    return _TOKEN_LIKE_PATTERN.sub(r"\1_…", _HANDLE_PATTERN.sub(r"\1.…", text))


def as_named(text: str) -> str:
    """Write what a caller named as an answer may repeat it: no more than a name is long, without secrets."""
    return without_secrets(text)[:_NAMED_CHARS_MAX]


def new_secret() -> str:
    """Make the unguessable half of a session handle (26 characters, 130 random bits)."""
    return _base32(secrets.randbits(130), _SECRET_PAIRS)


def new_token_text(token_id: TokenId) -> tuple[str, str]:
    """Make an access token of an id; gives (the whole text, its unguessable part of 32 characters, 160 random bits)."""
    secret = _base32(secrets.randbits(160), _TOKEN_SECRET_PAIRS)
    return f"cdna_{token_id}_{secret}", secret


def token_parts(text: str) -> tuple[TokenId, str] | None:
    """Give the id and the unguessable part of a text that has the form of an access token, else None."""
    match = _TOKEN_PATTERN.fullmatch(text)
    return (TokenId(match[1]), match[2]) if match else None


def delegated_id(parent: AgentId, child: AgentId) -> AgentId:
    """Give the id of an agent that another agent brought in: ``queen/drone`` is not ``drone``.

    Whoever delegates holds the child's handle. Under the child's bare name it could read what another agent of that
    name owns; the path keeps the two apart. Names hold no slash, so no one can take another's path.
    """
    return AgentId(f"{parent}/{child}")


def name_of(agent_id: AgentId) -> str:
    """Give an agent's bare name: the last part of its path."""
    return agent_id.rpartition("/")[2]


def is_below(agent_id: str, above: str) -> bool:
    """Tell whether an agent was brought in by another one, directly or not: its path begins with the other's."""
    return agent_id.startswith(f"{above}/")


def ancestors_of(agent_id: AgentId) -> tuple[AgentId, ...]:
    """Give the agents above one in its path, the root first."""
    parts = agent_id.split("/")
    return tuple(AgentId("/".join(parts[:count])) for count in range(1, len(parts)))


def is_agent_path(text: str) -> bool:
    """Tell whether text is a valid agent id, bare or a path of names."""
    return len(text) <= _PATH_CHARS_MAX and all(map(is_name, text.split("/")))


def is_name(text: str) -> bool:
    """Tell whether text is a valid project, agent, team or swarm id (1..128 of ``A-Za-z0-9._:@-``)."""
    return NAME_PATTERN.fullmatch(text) is not None
