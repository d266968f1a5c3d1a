"""Contract of ``AccessTokenTable``."""

from dataclasses import replace

import pytest

from contextdna.errors import Conflict
from contextdna.ports.database import Database
from contextdna.values.access_token import KeptToken
from contextdna.values.ids import ProjectId, TokenId
from contextdna.values.principal import Role, Scope
from tests.builders import BOB, make_token, minutes

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = TokenId("tok_1"), TokenId("tok_2"), TokenId("tok_3")


async def kept(database: Database, token_id: TokenId = FIRST) -> KeptToken:
    found = await database.read(lambda tx: tx.access_tokens.get(token_id))
    assert found is not None
    return found


async def test_a_token_comes_back_as_it_went_in(database: Database) -> None:
    full = make_token(
        FIRST,
        agent_id=BOB,
        project_ids=(ProjectId("apollo"), ProjectId("gemini")),
        team_id="core",
        swarm_id="lift",
        role=Role.COORDINATOR,
        scopes=frozenset(Scope),
        label='a "label" with ünusual signs',
        expires_at=minutes(3),
        revoked_at=minutes(2),
        last_used_at=minutes(1),
    )
    bare = make_token(SECOND, scopes=frozenset({Scope.READ}), expires_at=None)
    await database.write(lambda tx: tx.access_tokens.add(full))
    await database.write(lambda tx: tx.access_tokens.add(bare))
    assert await kept(database) == full
    assert await kept(database, SECOND) == bare
    assert await database.read(lambda tx: tx.access_tokens.get(THIRD)) is None


async def test_a_taken_id_is_refused(database: Database) -> None:
    await database.write(lambda tx: tx.access_tokens.add(make_token(FIRST)))
    with pytest.raises(Conflict) as refused:
        await database.write(lambda tx: tx.access_tokens.add(make_token(FIRST, label="another")))
    assert refused.value.code == "already_exists"
    assert await kept(database) == make_token(FIRST)


async def test_tokens_are_listed_by_id_from_behind_one(database: Database) -> None:
    for token_id in (SECOND, THIRD, FIRST):
        await database.write(lambda tx, token_id=token_id: tx.access_tokens.add(make_token(token_id)))  # type: ignore[misc]
    pages = [
        await database.read(lambda tx, after=after: tx.access_tokens.page(after=TokenId(after), limit=2))  # type: ignore[misc]
        for after in ("", FIRST, THIRD)
    ]
    assert [[row.token.id for row in page] for page in pages] == [[FIRST, SECOND], [SECOND, THIRD], []]


async def test_a_token_is_revoked_once(database: Database) -> None:
    await database.write(lambda tx: tx.access_tokens.add(make_token(FIRST)))
    await database.write(lambda tx: tx.access_tokens.add(make_token(SECOND)))
    for at, seal in ((minutes(1), b"new"), (minutes(2), b"newer")):
        await database.write(lambda tx, at=at, seal=seal: tx.access_tokens.revoke(FIRST, at=at, seal=seal))  # type: ignore[misc]
    before = make_token(FIRST)
    assert await kept(database) == replace(before, token=replace(before.token, revoked_at=minutes(1)), seal=b"new")
    assert await kept(database, SECOND) == make_token(SECOND)
    await database.write(lambda tx: tx.access_tokens.revoke(THIRD, at=minutes(1), seal=b""))


async def test_of_uses_the_latest_is_kept(database: Database) -> None:
    await database.write(lambda tx: tx.access_tokens.add(make_token(FIRST)))
    for at in (minutes(2), minutes(5), minutes(4)):
        await database.write(lambda tx, at=at: tx.access_tokens.note_use(FIRST, at=at))  # type: ignore[misc]
    assert (await kept(database)).token.last_used_at == minutes(5)
    await database.write(lambda tx: tx.access_tokens.note_use(SECOND, at=minutes(1)))
    assert await database.read(lambda tx: tx.access_tokens.get(SECOND)) is None
