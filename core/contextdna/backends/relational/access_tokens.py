"""Access tokens."""

from datetime import datetime
from typing import Final

from contextdna.backends.relational.columns import (
    json_list,
    micros,
    micros_or_none,
    moment,
    moment_or_none,
    texts_of,
)
from contextdna.backends.relational.statements import Executor, Row
from contextdna.values.access_token import AccessToken, KeptToken
from contextdna.values.ids import ProjectId, TokenId
from contextdna.values.principal import Role, Scope

_ROLES: Final = {role.value: role for role in Role}
_SCOPES: Final = {scope.value: scope for scope in Scope}


class AccessTokens:
    """Fulfils ``ports.access_tokens.AccessTokenTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run

    async def add(self, kept: KeptToken) -> None:
        """Add a token.

        Raises:
            Conflict: ``already_exists``.
        """
        token = kept.token
        circles = (token.team_id, token.swarm_id, token.role.value, json_list(sorted(token.scopes)))
        times = (micros_or_none(token.expires_at), micros_or_none(token.revoked_at), micros_or_none(token.last_used_at))
        made = (token.label, micros(token.created_at), token.created_by)
        of = (token.id, token.agent_id, json_list(token.project_ids))
        await self._run("access_token_add", (*of, *circles, *made, *times, kept.secret_digest, kept.seal))

    async def get(self, token_id: TokenId) -> KeptToken | None:
        """Fetch a token."""
        rows = await self._rows("access_token_get", (token_id,))
        return _kept_of(rows[0]) if rows else None

    async def page(self, *, after: TokenId, limit: int) -> list[KeptToken]:
        """List tokens by id, from behind one."""
        return [_kept_of(row) for row in await self._rows("access_tokens_page", (after, limit))]

    async def revoke(self, token_id: TokenId, *, at: datetime, seal: bytes) -> None:
        """Keep that a token is revoked, under a new seal."""
        await self._run("access_token_revoke", (token_id, micros(at), seal))

    async def note_use(self, token_id: TokenId, *, at: datetime) -> None:
        """Keep when a token was used, unless a later time is kept."""
        await self._run("access_token_note_use", (token_id, micros(at)))


def _kept_of(row: Row) -> KeptToken:
    token = AccessToken(
        row[0],
        row[1],
        tuple(map(ProjectId, texts_of(row[2]))),
        row[3],
        row[4],
        _ROLES.get(row[5], Role.AGENT),  # of an edited row: its seal does not fit any more
        frozenset(_SCOPES[scope] for scope in texts_of(row[6]) if scope in _SCOPES),
        row[7],
        moment(row[8]),
        row[9],
        moment_or_none(row[10]),
        moment_or_none(row[11]),
        moment_or_none(row[12]),
    )
    return KeptToken(token, row[13], row[14])
