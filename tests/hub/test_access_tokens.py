"""Access tokens: who may make which, what they are good for, and that nothing else passes for one."""

import logging
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from contextdna import (
    AccessDenied,
    AccessToken,
    AgentId,
    BeginRequest,
    ContextDnaError,
    CredentialRefused,
    Hub,
    HubSettings,
    IntegrityFault,
    InvalidInput,
    LimitExceeded,
    MemoryDraft,
    NewAccessToken,
    NotFound,
    Outcome,
    Principal,
    ProjectId,
    RegisterRequest,
    Risk,
    Role,
    Scope,
    StorageUnavailable,
    TokenId,
    TokenRequest,
    TokenStatus,
    open_hub,
)
from contextdna.values.audit import AuditDraft
from contextdna.values.ids import new_token_text, token_parts, without_secrets
from tests.hub.rig import (
    ALICE,
    DEFAULT,
    OTHER,
    PROJECTS,
    ROOT,
    START,
    STRANGER,
    Clock,
    audit_of,
    begin,
    last_audit,
    raw_database,
    refused,
    remember,
    settings_in,
    stored,
    unchanged,
)

pytestmark = pytest.mark.anyio

HANK: Final = TokenRequest(AgentId("hank"), (DEFAULT,))
KEEPER: Final = Principal(AgentId("keeper"), (DEFAULT,), role=Role.SYSTEM)
"""Operates one project."""


async def made(hub: Hub, by: Principal = ROOT, **fields: Any) -> NewAccessToken:
    return await hub.bind(by, project_id=DEFAULT).access_tokens.create(replace(HANK, **fields))


async def listed(hub: Hub, by: Principal = ROOT) -> list[AccessToken]:
    return list((await hub.bind(by, project_id=DEFAULT).access_tokens.list()).tokens)


async def revoke(hub: Hub, token: NewAccessToken, by: Principal = ROOT) -> AccessToken:
    return await hub.bind(by, project_id=DEFAULT).access_tokens.revoke(token.token.id)


async def refusals(hub: Hub) -> list[AuditDraft]:
    """Give the refused tokens that the installation's log tells of."""
    return [entry.draft for entry in await audit_of(hub, installation=True, action="token.authenticate")]


def secret_of(token: NewAccessToken) -> str:
    parts = token_parts(token.text)
    assert parts is not None
    return parts[1]


class TestBearing:
    async def test_its_bearer_calls_as_what_it_was_made_for(self, hub: Hub) -> None:
        scopes = frozenset({Scope.READ, Scope.WRITE})
        token = await made(
            hub, project_ids=(OTHER, DEFAULT, OTHER), team_id="core", swarm_id="lift", scopes=scopes, label="Hank's"
        )
        found = await hub.authenticate(token.text)
        assert found == token.token
        assert found.principal == Principal(
            AgentId("hank"), (DEFAULT, OTHER), team_id="core", swarm_id="lift", role=Role.AGENT, scopes=scopes
        )
        assert (found.created_by, found.created_at, found.label) == ("root", START, "Hank's")
        assert found.expires_at == START + timedelta(days=90)
        memory = await remember(hub.bind(found.principal, project_id=OTHER), "stored by a bearer")
        assert (await hub.bind(found.principal, project_id=OTHER).get_memories([memory]))[0]

    async def test_without_a_scope_named_it_is_for_all_but_operating(self, hub: Hub) -> None:
        assert (await made(hub)).token.scopes == frozenset(Scope) - {Scope.ADMIN}

    async def test_whatever_is_not_a_token_is_refused_alike_and_leaves_no_trace(self, hub: Hub) -> None:
        token, other = await made(hub), await made(hub)
        unknown, _ = new_token_text(TokenId("tok_" + "0" * 22))
        texts = [
            "",
            "garbage",
            unknown,
            token.text[:-1],
            token.text + "0",
            token.text.upper(),
            f" {token.text}",
            f"{token.text}\n",
            token.text.replace(secret_of(token), secret_of(other)),
            token.text.removeprefix("cdna_"),
            token.token.id,
            "cdna_" + "é" * 60,
            "cdna_tok_\x00' OR 1=1 --",
            "cdna_" * 200_000,
            await begin(hub, ROOT),
        ]

        async def call() -> set[tuple[str, str, str, Principal | None]]:
            told = set()
            for text in texts:
                error = await refused(hub.authenticate(text), CredentialRefused, "token_invalid")
                told.add((error.code, error.message, error.hint, error.principal))
            return told

        assert len(await unchanged(hub, call, audited=0)) == 1

    async def test_a_token_works_until_its_end_and_not_at_it(self, hub: Hub, clock: Clock) -> None:
        token = await made(hub, expires_in_s=60.0)
        clock.advance(seconds=59)
        assert (await hub.authenticate(token.text)).status(clock()) is TokenStatus.ACTIVE
        clock.advance(seconds=1)
        error = await refused(hub.authenticate(token.text, request_id="req_1"), CredentialRefused, "token_expired")
        assert error.principal == token.token.principal
        [entry] = await refusals(hub)
        assert (entry.outcome, entry.risk, entry.details) == (Outcome.DENIED, Risk.HIGH, '{"code":"token_expired"}')
        assert (entry.principal_id, entry.record_ids, entry.request_id) == ("hank", (token.token.id,), "req_1")
        assert [found.status(clock()) for found in await listed(hub)] == [TokenStatus.EXPIRED]

    async def test_a_token_without_an_end_works_on(self, hub: Hub, clock: Clock) -> None:
        token = await made(hub, expires_in_s=None)
        clock.advance(days=36_500)
        assert (await hub.authenticate(token.text)).expires_at is None

    async def test_a_revoked_token_is_over_at_once_and_for_good(self, hub: Hub, clock: Clock) -> None:
        token, other = await made(hub), await made(hub)
        ended = await revoke(hub, token)
        clock.advance(days=100)  # it would have expired since
        assert (await revoke(hub, token)).revoked_at == ended.revoked_at == START
        error = await refused(hub.authenticate(token.text), CredentialRefused, "token_revoked")
        assert error.principal == token.token.principal
        assert [entry.record_ids for entry in await refusals(hub)] == [(token.token.id,)]
        await refused(hub.authenticate(other.text), CredentialRefused, "token_expired")

    async def test_who_tries_again_and_again_does_not_fill_the_log(self, hub: Hub, clock: Clock) -> None:
        token = await made(hub)
        await revoke(hub, token)
        for seconds in (0, 3, 6, 3):
            clock.advance(seconds=seconds)
            await refused(hub.authenticate(token.text), CredentialRefused, "token_revoked")
        told = ['{"code":"token_revoked"}', '{"code":"token_revoked","left_out":2}']
        assert [entry.details for entry in await refusals(hub)] == told

    async def test_a_refusal_that_could_not_be_told_of_is_told_of_next_time(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = await made(hub)
        await revoke(hub, token)

        async def away(_: object) -> None:
            raise StorageUnavailable("the disk is full", hint="Make room.")

        with monkeypatch.context() as patch:
            patch.setattr(hub._door.database, "write", away)
            await refused(hub.authenticate(token.text), StorageUnavailable, "storage_unavailable")
        await refused(hub.authenticate(token.text), CredentialRefused, "token_revoked")
        assert len(await refusals(hub)) == 1

    async def test_while_the_database_is_away_what_was_good_lately_is_believed(
        self, hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token, unseen, revoked, brief = [await made(hub, expires_in_s=wanted) for wanted in (None, None, None, 600)]
        for seen in (token, revoked, brief):
            await hub.authenticate(seen.text)
        await revoke(hub, revoked)
        await refused(hub.authenticate(revoked.text), CredentialRefused, "token_revoked")

        async def away(_: object) -> None:
            raise StorageUnavailable("PostgreSQL is away", code="storage_unreachable", hint="Wait.", retryable=True)

        with monkeypatch.context() as patch:
            patch.setattr(hub._door.database, "read", away)
            assert await hub.authenticate(token.text) == token.token
            forged = token.text.replace(secret_of(token), secret_of(unseen))
            for text in (unseen.text, revoked.text, forged):
                await refused(hub.authenticate(text), StorageUnavailable, "storage_unreachable")
            clock.advance(seconds=600)
            assert await hub.authenticate(token.text) == token.token
            await refused(hub.authenticate(brief.text), StorageUnavailable, "storage_unreachable")
            clock.advance(seconds=600)
            await refused(hub.authenticate(token.text), StorageUnavailable, "storage_unreachable")
        assert await hub.authenticate(token.text) == replace(token.token, last_used_at=None)

    async def test_what_another_process_makes_and_revokes_holds_at_once(self, folder: Path) -> None:
        settings = settings_in(folder)
        async with open_hub(settings) as first, open_hub(settings) as second:
            token = await made(first)
            assert (await second.authenticate(token.text)).agent_id == "hank"
            await revoke(first, token)
            await refused(second.authenticate(token.text), CredentialRefused, "token_revoked")
        async with open_hub(settings) as third:
            await refused(third.authenticate(token.text), CredentialRefused, "token_revoked")

    async def test_when_it_was_used_is_kept_about_once_a_minute(self, hub: Hub, clock: Clock) -> None:
        token = await made(hub)

        async def used_after(seconds: float) -> object:
            clock.advance(seconds=seconds)
            await hub.authenticate(token.text)
            await hub._authentication.settle()
            return (await listed(hub))[0].last_used_at

        assert [await used_after(seconds) for seconds in (5, 59, 1)] == [
            START + timedelta(seconds=5),
            START + timedelta(seconds=5),
            START + timedelta(seconds=65),
        ]

    async def test_a_use_that_waits_is_written_at_the_end(self, folder: Path) -> None:
        async with open_hub(settings_in(folder), clock=Clock()) as hub:
            await hub.authenticate((await made(hub)).text)
        async with open_hub(settings_in(folder)) as hub:
            assert (await listed(hub))[0].last_used_at == START

    async def test_the_token_of_a_retired_agent_is_for_nothing(self, hub: Hub) -> None:
        root = hub.bind(ROOT, project_id=DEFAULT)
        await root.agents.register(RegisterRequest(AgentId("hank")))
        token = await made(hub)
        await root.agents.retire(AgentId("hank"))
        bearer = hub.bind((await hub.authenticate(token.text)).principal)
        await refused(bearer.list_conversations(), AccessDenied, "agent_retired")
        await refused(bearer.begin_session(BeginRequest(AgentId("hank"))), AccessDenied, "agent_retired")


class TestMaking:
    async def test_nobody_gives_scopes_that_its_own_credential_lacks(self, hub: Hub) -> None:
        lesser = replace(ROOT, scopes=frozenset({Scope.ADMIN, Scope.READ}))
        await refused(made(hub, lesser), AccessDenied, "token_too_wide")
        entry = await last_audit(hub)
        assert (entry.draft.action, entry.draft.outcome, entry.draft.risk) == (
            "token.create",
            Outcome.DENIED,
            Risk.HIGH,
        )
        token = await made(hub, lesser, scopes=frozenset({Scope.READ}), role=Role.SYSTEM)
        assert (await hub.authenticate(token.text)).scopes == {Scope.READ}

    @pytest.mark.parametrize("role", [Role.AGENT, Role.COORDINATOR])
    async def test_only_operators_make_tokens(self, hub: Hub, role: Role) -> None:
        await refused(made(hub, replace(ALICE, role=role)), AccessDenied, "role_required")
        bearer = (await hub.authenticate((await made(hub, role=role, scopes=frozenset(Scope))).text)).principal
        await refused(made(hub, bearer), AccessDenied, "role_required")

    async def test_who_operates_through_a_token_needs_its_scope(self, hub: Hub) -> None:
        token = await made(hub, role=Role.SYSTEM)
        await refused(made(hub, token.token.principal), AccessDenied, "scope_missing")
        token = await made(hub, role=Role.SYSTEM, scopes=frozenset({Scope.ADMIN}))
        await refused(made(hub, token.token.principal), AccessDenied, "token_too_wide")

    async def test_nobody_gives_projects_that_are_not_its_own(self, hub: Hub) -> None:
        for projects in ((OTHER,), (DEFAULT, OTHER), (ProjectId("nowhere"),)):
            error = await refused(made(hub, KEEPER, project_ids=projects), NotFound, "project_not_found")
            assert OTHER not in error.message + error.hint

    async def test_a_project_that_is_not_there_is_nobodys(self, hub: Hub) -> None:
        dreamer = replace(ROOT, project_ids=(*PROJECTS, ProjectId("nowhere")))
        await refused(made(hub, dreamer, project_ids=(ProjectId("nowhere"),)), NotFound, "project_not_found")

    async def test_in_a_session_only_its_project_is_given(self, hub: Hub) -> None:
        handle = await begin(hub, KEEPER, role=Role.SYSTEM)
        workspace = hub.bind(replace(KEEPER, project_ids=PROJECTS), session_id=handle)
        await refused(
            workspace.access_tokens.create(replace(HANK, project_ids=(OTHER,))), NotFound, "project_not_found"
        )
        assert (await workspace.access_tokens.create(HANK)).token.created_by == "keeper"

    @pytest.mark.parametrize(
        ("fields", "kind", "code"),
        [
            ({"agent_id": ""}, InvalidInput, "agent_id_invalid"),
            ({"agent_id": "queen/drone"}, InvalidInput, "agent_id_invalid"),
            ({"agent_id": "(upkeep)"}, InvalidInput, "agent_id_invalid"),
            ({"team_id": "a b"}, InvalidInput, "team_id_invalid"),
            ({"swarm_id": "ü"}, InvalidInput, "swarm_id_invalid"),
            ({"project_ids": ("",)}, InvalidInput, "project_id_invalid"),
            ({"project_ids": ()}, InvalidInput, "token_for_nothing"),
            ({"scopes": frozenset()}, InvalidInput, "token_for_nothing"),
            ({"label": "x" * 129}, LimitExceeded, "label_too_large"),
            ({"label": "\x00"}, InvalidInput, "text_unstorable"),
            ({"expires_in_s": 0.0}, InvalidInput, "expires_in_s_out_of_range"),
            ({"expires_in_s": -1.0}, InvalidInput, "expires_in_s_out_of_range"),
            ({"expires_in_s": math.nan}, InvalidInput, "expires_in_s_out_of_range"),
            ({"expires_in_s": math.inf}, InvalidInput, "expires_in_s_out_of_range"),
        ],
    )
    async def test_what_cannot_be_meant_is_refused(
        self, hub: Hub, fields: dict[str, Any], kind: type[ContextDnaError], code: str
    ) -> None:
        await refused(made(hub, **fields), kind, code)
        assert await listed(hub) == []


class TestSeeing:
    async def test_operators_see_and_revoke_what_is_wholly_of_their_projects(self, hub: Hub) -> None:
        own = await made(hub)
        shared, foreign = await made(hub, project_ids=PROJECTS), await made(hub, project_ids=(OTHER,))
        assert [found.id for found in await listed(hub, KEEPER)] == [own.token.id]
        assert len(await listed(hub)) == 3
        for token in (shared, foreign):
            await refused(revoke(hub, token, KEEPER), NotFound, "token_not_found")
            entry = (await last_audit(hub)).draft
            assert (entry.outcome, entry.record_ids) == (Outcome.DENIED, (token.token.id,))
            await hub.authenticate(token.text)
        await revoke(hub, own, KEEPER)
        unknown = TokenId("tok_" + "0" * 22)
        await refused(hub.bind(KEEPER).access_tokens.revoke(unknown), NotFound, "token_not_found")
        assert (await last_audit(hub)).draft.outcome is Outcome.ABSENT

    async def test_a_list_goes_on_where_it_ended(self, hub: Hub) -> None:
        tokens = [await made(hub, project_ids=(project,)) for project in (DEFAULT, OTHER, DEFAULT, DEFAULT)]
        part = hub.bind(KEEPER).access_tokens
        first = await part.list(limit=2)
        second = await part.list(after=first.cursor, limit=2)
        ids = sorted(token.token.id for token in tokens if token.token.project_ids == (DEFAULT,))
        assert [found.id for page in (first, second) for found in page.tokens] == ids
        assert (len(first.tokens), first.cursor, second.cursor) == (2, ids[1], "")
        await refused(part.list(limit=0), LimitExceeded, "limit_out_of_range")

    async def test_a_token_whose_project_is_gone_opens_nothing_and_can_be_revoked(
        self, folder: Path, clock: Clock
    ) -> None:
        async with open_hub(settings_in(folder), clock=clock) as hub:
            token = await made(hub, project_ids=(OTHER,), role=Role.SYSTEM)
        with raw_database(folder) as run:
            run("DELETE FROM keys WHERE project_id = 'other'")
            run("DELETE FROM projects WHERE id = 'other'")
        async with open_hub(settings_in(folder, projects=(DEFAULT,)), clock=clock) as hub:
            bearer = hub.bind((await hub.authenticate(token.text)).principal)
            await refused(bearer.store_memories([MemoryDraft("x")]), IntegrityFault, "keys_missing")
            assert [found.id for found in await listed(hub, KEEPER)] == [token.token.id]
            await revoke(hub, token, KEEPER)
            await refused(hub.authenticate(token.text), CredentialRefused, "token_revoked")


class TestKeeping:
    async def test_the_secret_is_stored_audited_logged_and_shown_nowhere(
        self, hub: Hub, settings: HubSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        token = await made(hub, label="Hank's laptop")
        secret = secret_of(token)
        await hub.authenticate(token.text, request_id=f"req-{token.text}")
        await revoke(hub, token)
        with pytest.raises(CredentialRefused) as caught:
            await hub.authenticate(token.text, request_id=token.text)
        await refused(hub.bind(ROOT, project_id=token.text).list_conversations(), NotFound, "project_not_found")
        entries = [*await audit_of(hub), *await audit_of(hub, installation=True)]
        kept = await hub._door.database.read(lambda tx: tx.access_tokens.get(token.token.id))
        told = [token, token.token, kept, caught.value, caught.value.__dict__, await listed(hub), entries]
        told += [await stored(hub), caplog.text]
        assert all(secret not in repr(one) for one in told)
        assert secret not in str(caught.value)
        assert kept is not None
        assert repr(kept.secret_digest) not in repr(kept)
        folder = settings.data_dir
        files = [path for path in folder.rglob("*") if path.is_file()] if folder else []
        assert all(secret.encode() not in path.read_bytes() for path in files)

    async def test_the_making_is_audited_by_id_with_all_it_is_good_for(self, hub: Hub) -> None:
        token = await made(hub, label="Hank's laptop", scopes=frozenset({Scope.READ}), expires_in_s=60)
        draft = (await last_audit(hub)).draft
        assert (draft.action, draft.record_ids) == ("token.create", (token.token.id,))
        assert draft.details == (
            '{"agent":"hank","projects":["default"],"role":"agent","scopes":["read"],'
            '"expires_at":"2026-03-01T12:01:00+00:00"}'
        )
        await revoke(hub, token)
        draft = (await last_audit(hub)).draft
        assert (draft.action, draft.record_ids) == ("token.revoke", (token.token.id,))

    @pytest.mark.parametrize(
        "edit",
        [
            "role = 'system'",
            "role = 'nonsense'",
            "agent_id = 'root'",
            """project_ids = '["default","other"]'""",
            """scopes = '["admin","read"]'""",
            "team_id = 'core'",
            "swarm_id = 'lift'",
            "expires_at = NULL",
            "revoked_at = 1",
            "id = 'tok_' || substr('0000000000000000000000', 1, 22)",
            "secret_digest = x'00'",
            "seal = x''",
        ],
    )
    async def test_a_row_that_was_edited_is_no_credential(self, folder: Path, edit: str) -> None:
        async with open_hub(settings_in(folder)) as hub:
            token = await made(hub, role=Role.COORDINATOR)
            with raw_database(folder) as run:
                run(f"UPDATE access_tokens SET {edit}")  # noqa: S608 - the cases above
            text = token.text.replace(token.token.id, (await listed(hub))[0].id)
            await refused(hub.authenticate(text), CredentialRefused, "token_invalid")

    async def test_a_revocation_cannot_be_taken_back_by_hand(self, folder: Path) -> None:
        async with open_hub(settings_in(folder)) as hub:
            token = await made(hub)
            await revoke(hub, token)
            with raw_database(folder) as run:
                run("UPDATE access_tokens SET revoked_at = NULL")
            await refused(hub.authenticate(token.text), CredentialRefused, "token_invalid")

    async def test_a_token_is_no_name_and_no_error_repeats_it(self, hub: Hub) -> None:
        token = await made(hub)
        code = "access_token_in_argument"
        for fields in (
            {"agent_id": token.text},
            {"label": f"Hank's: {token.text}"},
            {"team_id": token.text},
            {"project_ids": (token.text,)},
        ):
            error = await refused(made(hub, **fields), InvalidInput, code)
            assert secret_of(token) not in error.message + error.hint
        await refused(hub.bind(ROOT).agents.register(RegisterRequest(AgentId(token.text))), InvalidInput, code)
        absent = await refused(hub.bind(ROOT).access_tokens.revoke(TokenId(token.text)), NotFound, "token_not_found")
        assert secret_of(token)[:4] not in repr(absent.__dict__)
        for text in (token.text, token.text[:-20], f"x{token.text}y"):
            assert secret_of(token)[:4] not in without_secrets(text)


class TestNotingRefusals:
    @pytest.mark.parametrize(
        ("principal", "project_id", "chain"),
        [
            (replace(ALICE, scopes=frozenset[Scope]()), "", ""),
            (ROOT, "", ""),
            (STRANGER, "", ""),
            (STRANGER, "nowhere", ""),
            (ALICE, DEFAULT, DEFAULT),
        ],
    )
    async def test_whoever_was_refused_is_told_of(
        self, hub: Hub, principal: Principal, project_id: str, chain: str
    ) -> None:
        error = LimitExceeded("the body is too large", code="message_too_large")
        workspace = hub.bind(principal, project_id=project_id, request_id="req_1", trace_id="trace_1")
        await unchanged(hub, lambda: workspace.note_refusal(error, left_out=7), audited=1)
        entries = await audit_of(hub, ProjectId(chain or DEFAULT), installation=not chain, action="request.refuse")
        [draft] = [entry.draft for entry in entries]
        assert (draft.outcome, draft.risk, draft.record_ids) == (Outcome.DENIED, Risk.HIGH, ())
        assert (draft.principal_id, draft.agent_id) == (principal.agent_id, principal.agent_id)
        assert draft.details == '{"code":"message_too_large","left_out":7}'
        assert (draft.request_id, draft.trace_id) == ("req_1", "trace_1")

    async def test_every_refusal_counts_as_one(self, hub: Hub) -> None:
        await hub.bind(ALICE).note_refusal(NotFound("no such thing", record_ids=("mem_x",)))
        [entry] = await audit_of(hub, installation=True, action="request.refuse")
        assert (entry.draft.outcome, entry.draft.risk) == (Outcome.DENIED, Risk.HIGH)
        assert entry.draft.record_ids == ("(no id)",)
