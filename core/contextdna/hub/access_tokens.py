"""Access tokens as an operator may make, see and revoke them."""

from contextdna.domain import access_tokens
from contextdna.domain.access import Action, Caller
from contextdna.hub.door import Door
from contextdna.values.access_token import AccessToken, NewAccessToken, TokenPage, TokenRequest
from contextdna.values.ids import TokenId


class AccessTokens:
    """The token part of a workspace (role system, scope admin); ``Hub.authenticate`` checks what a bearer shows."""

    def __init__(self, door: Door, caller: Caller) -> None:
        self._door = door
        self._caller = caller

    async def create(self, request: TokenRequest) -> NewAccessToken:
        """Make a token with no more rights than the caller has; only this answer holds its text.

        Raises:
            AccessDenied: ``token_too_wide``.
            NotFound: ``project_not_found``.
        """
        vault, principal = self._door.vault, self._caller.principal
        return await self._door.write(
            self._caller, Action.CREATE_TOKEN, lambda op: access_tokens.create(op, vault, principal, request)
        )

    async def list(self, *, after: TokenId = TokenId(""), limit: int = 100) -> TokenPage:
        """Show the tokens all of whose projects are the caller's, in the order of their making, from behind one.

        Raises:
            LimitExceeded: ``limit_out_of_range``.
        """
        principal = self._caller.principal
        return await self._door.read(
            self._caller, Action.LIST_TOKENS, lambda op: access_tokens.page(op, principal, after=after, limit=limit)
        )

    async def revoke(self, token_id: TokenId) -> AccessToken:
        """End a token: the next request with it is refused, by every process.

        Raises:
            NotFound: ``token_not_found``.
        """
        vault, principal = self._door.vault, self._caller.principal
        return await self._door.write(
            self._caller, Action.REVOKE_TOKEN, lambda op: access_tokens.revoke(op, vault, principal, token_id)
        )
