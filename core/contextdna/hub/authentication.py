"""Who bears a token: looked up in the database at every request, so that a revocation holds everywhere at once.

While the database is away nobody can tell. A token that was good a short while ago is believed then: else no write
could be taken to wait for the database.
"""

import hmac
import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import anyio

from contextdna.backends.guarded_database import AWAY
from contextdna.domain import access_tokens
from contextdna.domain.access import Action, Caller
from contextdna.errors import ContextDnaError, CredentialRefused, StorageUnavailable
from contextdna.hub.door import Door
from contextdna.ports.database import Transaction
from contextdna.values.access_token import AccessToken, TokenStatus
from contextdna.values.ids import TokenId

logger = logging.getLogger(__name__)

_USE_NOTED_AFTER: Final = timedelta(minutes=1)
_LINGER_S: Final = 1.0  # how long a use may wait for company
_REFUSAL_NOTED_AFTER: Final = timedelta(seconds=10)
_REFUSALS_HELD_MAX: Final = 1000
_BELIEVED_FOR: Final = timedelta(minutes=15)
"""How long after the database was asked last. Source: chosen; so late may a revocation reach a server cut off."""
_BELIEVED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Good:
    """A token that was good when the database was asked."""

    token: AccessToken
    digest: bytes
    at: datetime


class Authentication:
    """Checks tokens; ``run`` writes when they were used, until cancelled."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._used: dict[TokenId, datetime] = {}
        self._arrived = anyio.Event()
        self._refused: dict[tuple[str, str], tuple[datetime, int]] = {}
        self._good: OrderedDict[TokenId, _Good] = OrderedDict()

    async def bearer(self, text: str, *, request_id: str, trace_id: str) -> AccessToken:
        """Give the token of a text; the refusal of one that worked once is audited.

        Raises:
            CredentialRefused: ``token_invalid``, ``token_expired`` or ``token_revoked``.
            StorageUnavailable: The database is away, and was not asked about this token lately.
        """
        token_id, digest = access_tokens.read_token(text)  # what has another form costs no look at the database
        now = self._door.clock()

        async def unit(tx: Transaction) -> AccessToken:
            return await access_tokens.bearer(tx, self._door.vault, token_id, digest, now=now)

        try:
            token = await self._door.database.read(unit)
        except StorageUnavailable as error:
            if error.code != AWAY:
                raise
            return self._believed(token_id, digest, now=now, away=error)
        except CredentialRefused as error:
            self._good.pop(token_id, None)
            if error.principal is not None:
                caller = Caller(error.principal, request_id=request_id, trace_id=trace_id)
                await self._note_refusal(caller, error, now=now)
            raise
        if token.last_used_at is None or now - token.last_used_at >= _USE_NOTED_AFTER:
            self._used[token.id] = now
            self._arrived.set()
        self._note_good(_Good(token, digest, now))
        return token

    def _note_good(self, good: _Good) -> None:
        self._good[good.token.id] = good
        self._good.move_to_end(good.token.id)
        if len(self._good) > _BELIEVED_MAX:
            self._good.popitem(last=False)

    def _believed(self, token_id: TokenId, digest: bytes, *, now: datetime, away: StorageUnavailable) -> AccessToken:
        """Give a token that was good lately.

        Raises:
            StorageUnavailable: This process does not know of it, or not lately enough.
        """
        good = self._good.get(token_id)
        if good is None or not hmac.compare_digest(good.digest, digest):
            raise away
        if not good.at <= now <= good.at + _BELIEVED_FOR or good.token.status(now) is not TokenStatus.ACTIVE:
            raise away
        return good.token

    async def _note_refusal(self, caller: Caller, error: CredentialRefused, *, now: datetime) -> None:
        """Audit a refusal, unless one of the same token was lately: its bearer may try again and again."""
        key = (error.record_ids[0], error.code)
        at, left_out = self._refused.pop(key, (None, 0))
        if at is not None and now - at < _REFUSAL_NOTED_AFTER:
            self._refused[key] = (at, left_out + 1)
            return
        self._refused[key] = (now, 0)
        if len(self._refused) > _REFUSALS_HELD_MAX:
            del self._refused[next(iter(self._refused))]
        try:
            await self._door.note_refusal(caller, Action.AUTHENTICATE, error, left_out=left_out)
        except ContextDnaError:
            self._refused.pop(key, None)  # the next one is told of
            raise

    async def run(self) -> None:
        """Write when tokens were used, after a short linger, until cancelled."""
        while True:
            await self._arrived.wait()
            await anyio.sleep(_LINGER_S)
            self._arrived = anyio.Event()
            await self.settle()

    async def settle(self) -> None:
        """Write the uses that wait, as far as that is possible: what cannot be written is told by the next use."""
        used, self._used = self._used, {}
        if not used:
            return

        async def unit(tx: Transaction) -> None:
            for token_id, at in used.items():
                await tx.access_tokens.note_use(token_id, at=at)

        try:
            with anyio.CancelScope(shield=True):
                await self._door.database.write(unit)
        except ContextDnaError as error:
            logger.warning("the use of %d tokens cannot be recorded now: %s", len(used), error.code)
