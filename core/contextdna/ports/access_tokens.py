"""Port: access tokens."""

from datetime import datetime
from typing import Protocol

from contextdna.values.access_token import KeptToken
from contextdna.values.ids import TokenId


class AccessTokenTable(Protocol):
    """The installation's own credentials."""

    async def add(self, kept: KeptToken) -> None:
        """Add a token.

        Raises:
            Conflict: ``already_exists``.
        """
        ...

    async def get(self, token_id: TokenId) -> KeptToken | None:
        """Fetch a token; asked with every request of its bearer."""
        ...

    async def page(self, *, after: TokenId, limit: int) -> list[KeptToken]:
        """List tokens by id, from behind one (or from the start, with an empty id)."""
        ...

    async def revoke(self, token_id: TokenId, *, at: datetime, seal: bytes) -> None:
        """Keep that a token is revoked, under a new seal; one that is revoked already is left as it is."""
        ...

    async def note_use(self, token_id: TokenId, *, at: datetime) -> None:
        """Keep when a token was used, unless a later time is kept."""
        ...
