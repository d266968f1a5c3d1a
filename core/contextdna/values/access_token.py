"""Access tokens: what the server's own credentials say of their bearer. The secret is in none of these values."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from contextdna.values.ids import AgentId, ProjectId, TokenId
from contextdna.values.principal import Principal, Role, Scope

TOKEN_SCOPES: Final = frozenset({Scope.READ, Scope.WRITE, Scope.SHARE, Scope.DECIDE})
"""What a token is for where its maker does not say."""

TOKEN_TTL_S: Final = 90 * 86_400.0
TOKEN_TTL_MAX_S: Final = 3650 * 86_400.0


class TokenStatus(StrEnum):
    """Whether a token still works."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as it may be shown."""

    id: TokenId
    agent_id: AgentId
    project_ids: tuple[ProjectId, ...]
    team_id: str
    swarm_id: str
    role: Role
    scopes: frozenset[Scope]
    label: str
    created_at: datetime
    created_by: AgentId
    expires_at: datetime | None
    """None: it does not expire."""
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To about a minute."""

    @property
    def principal(self) -> Principal:
        """Whom its bearer calls as."""
        circle = (self.team_id, self.swarm_id)
        return Principal(self.agent_id, self.project_ids, *circle, self.role, self.scopes, credential_id=self.id)

    def status(self, now: datetime) -> TokenStatus:
        """Tell whether it works at a time."""
        if self.revoked_at is not None:
            return TokenStatus.REVOKED
        expired = self.expires_at is not None and self.expires_at <= now
        return TokenStatus.EXPIRED if expired else TokenStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A token as the database keeps it."""

    token: AccessToken
    secret_digest: bytes = field(repr=False)
    """SHA-256 of the secret."""
    seal: bytes = field(repr=False)
    """HMAC-SHA256 over all but when it was used last: an edited row is no credential."""


@dataclass(frozen=True, slots=True)
class NewAccessToken:
    """A token as its maker gets it: the only time that its text is there."""

    token: AccessToken
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a token is to be for."""

    agent_id: AgentId
    project_ids: tuple[ProjectId, ...]
    team_id: str = ""
    swarm_id: str = ""
    role: Role = Role.AGENT
    scopes: frozenset[Scope] = TOKEN_SCOPES
    label: str = ""
    expires_in_s: float | None = TOKEN_TTL_S
    """Seconds; None: never."""


@dataclass(frozen=True, slots=True)
class TokenPage:
    """Some tokens, in the order of their making."""

    tokens: tuple[AccessToken, ...]
    cursor: TokenId = TokenId("")
    """Where the next ones are; empty at the end."""
