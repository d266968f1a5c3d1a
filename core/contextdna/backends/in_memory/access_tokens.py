"""Access tokens in plain dicts."""

from dataclasses import replace
from datetime import datetime

from contextdna.backends.in_memory.sheets import Sheets
from contextdna.values.access_token import KeptToken
from contextdna.values.ids import TokenId


class InMemoryAccessTokens:
    """``AccessTokenTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def add(self, kept: KeptToken) -> None:
        """Add a token.

        Raises:
            Conflict: ``already_exists``.
        """
        self._sheets.access_tokens.add(kept.token.id, kept)

    async def get(self, token_id: TokenId) -> KeptToken | None:
        """Fetch a token."""
        return self._sheets.access_tokens.rows.get(token_id)

    async def page(self, *, after: TokenId, limit: int) -> list[KeptToken]:
        """List tokens by id, from behind one."""
        rows = self._sheets.access_tokens.rows
        return [rows[token_id] for token_id in sorted(rows) if token_id > after][:limit]

    async def revoke(self, token_id: TokenId, *, at: datetime, seal: bytes) -> None:
        """Keep that a token is revoked, under a new seal."""
        rows = self._sheets.access_tokens.change()
        kept = rows.get(token_id)
        if kept is not None and kept.token.revoked_at is None:
            rows[token_id] = replace(kept, token=replace(kept.token, revoked_at=at), seal=seal)

    async def note_use(self, token_id: TokenId, *, at: datetime) -> None:
        """Keep when a token was used, unless a later time is kept."""
        rows = self._sheets.access_tokens.change()
        kept = rows.get(token_id)
        if kept is not None and (kept.token.last_used_at is None or kept.token.last_used_at < at):
            rows[token_id] = replace(kept, token=replace(kept.token, last_used_at=at))
