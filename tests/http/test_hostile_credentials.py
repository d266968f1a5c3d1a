"""Credentials that are none, or not the caller's own: refused with the right status, audited, and never in a log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

import jwt
import pytest

from contextdna import Level, MemoryDraft, Outcome, Risk, Role, Scope, TokenId
from tests.http.attacked import Attacked, message
from tests.http.issuer import jwk, public_pem, rsa_key, segment

pytestmark = pytest.mark.anyio

ROUTES = [("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/sse"), ("POST", "/messages/x")]
PING = message("ping")


async def refused(target: Attacked, token: str, code: str, *, status: int = 401) -> None:
    for method, path in ROUTES:
        body = PING if method == "POST" else None
        answer = await target.send(token, body, method=method, path=path)
        assert (answer.status, answer.code) == (status, code), path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["cache-control"] == "no-store"


# --- tokens that open nothing ---


async def test_without_a_token_nothing_is_served(target: Attacked) -> None:
    await refused(target, "", "credential_missing")


@pytest.mark.parametrize("text", ["x", "cdna_", "cdna_tok_x_y", "a.b.c", "e30.e30.", "=" * 99, "x" * 20_000])
async def test_garbage_opens_nothing(target: Attacked, text: str) -> None:
    await refused(target, target.secret(f"{text}Zq7") if len(text) < 100 else text, "token_invalid")


@pytest.mark.parametrize("kind", ["Basic", "Digest", "Negotiate", "Bearer,Bearer", "\x7fBearer"])
async def test_other_kinds_of_credentials_open_nothing(target: Attacked, kind: str) -> None:
    token = await target.token("ann")
    answer = await target.send("", PING, headers={"authorization": f"{kind} {token}"})
    assert (answer.status, answer.code) == (401, "credential_unsupported")


async def test_an_expired_token_opens_nothing_and_is_audited(target: Attacked) -> None:
    name = target.stranger()
    token = await target.token(name, expires_in_s=0.001)
    await refused(target, token, "token_expired")
    entry = await target.audited(name, "token_expired")
    assert (entry.draft.outcome, entry.draft.risk) == (Outcome.DENIED, Risk.HIGH)


async def test_a_revoked_token_opens_nothing_at_once_and_is_audited(target: Attacked) -> None:
    name = target.stranger()
    token = await target.token(name)
    assert (await target.call(token, "list_projects")).said
    await target.workspace().access_tokens.revoke(TokenId(token.removeprefix("cdna_").rpartition("_")[0]))
    await refused(target, token, "token_revoked")
    assert (await target.audited(name, "token_revoked")).draft.risk is Risk.HIGH


async def test_a_token_with_a_changed_secret_tells_nothing_of_the_true_one(target: Attacked) -> None:
    name = target.stranger()
    token = await target.token(name)
    changed = token[:-1] + ("a" if token[-1] != "a" else "b")
    unknown = token.replace(token.split("_")[2], "0" * 22)
    answers = [await target.send(text, PING) for text in (changed, unknown, "cdna_made_up")]
    assert {(answer.status, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert answers[0].code == "token_invalid"
    assert not [entry for entry in await target.entries(name) if entry.draft.outcome is Outcome.DENIED]


async def test_a_token_for_another_service_opens_nothing_and_is_audited(target: Attacked) -> None:
    name = target.stranger()
    assert (await target.call(target.issued(name), "list_projects")).said
    await refused(target, target.issued(name, aud="https://other.example.org/mcp"), "token_audience")
    assert (await target.audited(name, "token_audience")).draft.risk is Risk.HIGH


async def test_an_issued_token_that_expired_is_audited(target: Attacked) -> None:
    name = target.stranger()
    await refused(target, target.issued(name, exp=int(time.time()) - 100), "token_expired")
    assert (await target.audited(name, "token_expired")).draft.risk is Risk.HIGH


def claims_of(target: Attacked) -> dict[str, Any]:
    return target.issuer.claims(sub="root", iat=int(time.time()), exp=int(time.time()) + 300)


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", ""])
async def test_an_unsigned_token_opens_nothing(target: Attacked, algorithm: str) -> None:
    head = segment({"alg": algorithm, "typ": "at+jwt", "kid": "rsa"})
    for signature in ("", target.issued("root").rpartition(".")[2]):
        await refused(target, f"{head}.{segment(claims_of(target))}.{signature}", "token_invalid")


async def test_the_public_key_is_no_secret_to_sign_with(target: Attacked) -> None:
    said = f"{segment({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'rsa'})}.{segment(claims_of(target))}"
    for secret in (public_pem(rsa_key()), public_pem(rsa_key()).strip(), b""):
        signature = base64.urlsafe_b64encode(hmac.new(secret, said.encode(), hashlib.sha256).digest())
        await refused(target, f"{said}.{signature.rstrip(b'=').decode()}", "token_invalid")


async def test_a_key_that_the_token_brings_is_not_used(target: Attacked) -> None:
    thief = rsa_key(1)
    for header in ({"jwk": jwk(thief, "rsa")}, {"jku": f"{target.issuer.url}/thief"}, {"kid": "../../keys"}):
        head = {"typ": "at+jwt", "kid": "rsa", **header}
        await refused(target, jwt.encode(claims_of(target), thief, algorithm="RS256", headers=head), "token_invalid")
    assert "/thief" not in target.issuer.asked


async def test_an_issued_token_gets_no_higher_role_than_the_operator_allows(target: Attacked) -> None:
    token = target.issued("maria", role="system", roles=["system"], scope="read write admin share decide")
    assert (await target.call(token, "query_audit")).code == "role_required"


async def test_a_token_in_the_query_is_refused_though_it_is_good(target: Attacked) -> None:
    token = await target.token("ann")
    for query in (f"access_token={token}", f"x={token}", "Token=x", "API_KEY=x"):
        for method, path in ROUTES:
            body = PING if method == "POST" else None
            answer = await target.send(token, body, method=method, path=f"{path}?{query}")
            assert (answer.status, answer.code) == (400, "credential_in_query")


async def test_two_tokens_at_once_are_refused(target: Attacked) -> None:
    token = await target.token("ann")
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nAuthorization: Bearer x\r\n\r\n"
    async with target.connected() as client:
        await client.send(head.encode())
        status, _, body = await client.read_answer()
    assert (status, b"credential_ambiguous" in body) == (400, True)


# --- what is another's ---


async def test_a_token_of_another_project_reads_and_changes_nothing_of_it(target: Attacked) -> None:
    name = target.stranger()
    token = await target.token(name, projects=("alpha",))
    draft = MemoryDraft(target.secret("the vault code of beta is 4711"))
    beta = target.workspace("owner", "beta", role=Role.AGENT)
    [stored] = await beta.store_memories([draft])
    record = stored.id
    calls: dict[str, dict[str, Any]] = {
        "retrieve_context": {"query": "vault code"},
        "get_memory": {"ids": [record]},
        "update_memory": {"id": record, "expected_version": 1, "content": "mine"},
        "forget_memory": {"ids": [record], "purge": True},
        "share_memories": {"memory_ids": [record], "target_agent_ids": [name]},
        "link_memories": {"source_id": record, "target_ids": [record]},
        "store_memory": {"content": "planted", "level": "project"},
        "begin_session": {},
        "add_task": {"title": "planted"},
        "list_tasks": {},
        "read_conversation": {"conversation": "ses_" + "0" * 22},
        "send_signal": {"name": "go", "target_agent_ids": ["owner"]},
        "query_audit": {},
    }
    before = await beta.project_overview()
    for tool, arguments in calls.items():
        there = await target.call(token, tool, **arguments, project_id="beta")
        nowhere = await target.call(token, tool, **arguments, project_id="never-was")
        assert there.code == "project_not_found", tool
        assert there.text.replace("beta", "") == nowhere.text.replace("never-was", ""), tool
    assert (await target.audited(name, "project_not_found")).draft.outcome is not Outcome.ALLOWED
    assert await beta.project_overview() == before
    [memory], _ = await beta.get_memories([record])
    assert memory.content == draft.content


async def test_an_id_of_another_project_answers_like_one_that_never_was(target: Attacked) -> None:
    token = await target.token(target.stranger(), projects=("alpha",))
    [stored] = await target.workspace("owner", "beta", role=Role.AGENT).store_memories([MemoryDraft("hidden")])
    [private] = await target.workspace("owner", "alpha", role=Role.AGENT).store_memories(
        [MemoryDraft("private", level=Level.PRIVATE)]
    )
    texts = set()
    for record in (stored.id, private.id, "mem_" + "0" * 22):
        fetched = await target.call(token, "fetch", id=record)
        texts.add((fetched.status, fetched.text.replace(record, "")))
        for project in ("alpha", "beta", "never-was"):
            uri = f"contextdna://projects/{project}/memories/{record}"
            read = await target.ask(token, "resources/read", uri=uri)
            assert read.status == 400
            assert read.code in ("memory_not_found", "project_not_found", "not_found"), read.text
    assert len(texts) == 1


async def test_a_stolen_transport_session_serves_only_whom_it_was_given_to(target: Attacked) -> None:
    name = target.stranger()
    opened = await target.send(
        await target.token("owner"),
        message("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "a", "version": "1"}),
    )
    stolen = {"mcp-session-id": target.secret(opened.headers["mcp-session-id"])}
    thief, made_up = await target.token(name), {"mcp-session-id": "0" * 200}
    for method in ("POST", "GET", "DELETE"):
        body = PING if method == "POST" else None
        theirs = await target.send(thief, body, method=method, headers=stolen)
        assert (theirs.status, theirs.code) == (404, "transport_session_unknown")
        assert theirs.text == (await target.send(thief, body, method=method, headers=made_up)).text
    assert (await target.audited(name, "transport_session_unknown")).draft.risk is Risk.HIGH


async def test_a_stolen_stream_takes_no_messages_of_others(target: Attacked) -> None:
    name, owner = target.stranger(), await target.token("owner")
    thief = await target.token(name)
    async with target.streaming(owner) as (endpoint, told):
        target.secret(endpoint.partition("session_id=")[2])
        theirs = await target.send(thief, message("ping", call_id="thief"), path=endpoint)
        made_up = await target.send(thief, PING, path=endpoint[:-4] + "0000")
        assert (theirs.status, theirs.code, theirs.text) == (404, "transport_session_unknown", made_up.text)
        assert (await target.send(owner, message("ping", call_id="owner"), path=endpoint)).status == 202
        assert (await anext(told))["id"] == "owner"
    assert (await target.audited(name, "transport_session_unknown")).draft.risk is Risk.HIGH


async def test_a_stolen_session_handle_opens_nothing(target: Attacked) -> None:
    name = target.stranger()
    begun = (await target.call(await target.token("owner"), "begin_session", task="secret work")).said
    handle = target.secret(begun["session_id"])
    thief = await target.token(name)
    for tool, arguments in (("log_turn", {"content": "mine"}), ("get_state", {}), ("end_session", {})):
        answer = await target.call(thief, tool, **arguments, session_id=handle)
        assert answer.code == "session_invalid", answer.text
        made_up = await target.call(thief, tool, **arguments, session_id=handle[:-3] + "xyz")
        assert answer.text == made_up.text
    assert (await target.audited(name, "session_invalid")).draft.risk is Risk.HIGH
    prompt = await target.ask(thief, "prompts/get", name="hand_off", arguments={"session_id": handle})
    assert (prompt.status, prompt.code) == (400, "session_handle_in_uri")


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_handle_of_ones_own_gives_no_scope(target: Attacked, scope: Scope) -> None:
    name = target.stranger()
    handle = target.secret(
        (await target.call(await target.token(name), "begin_session", task="work")).said["session_id"]
    )
    lesser = await target.token(name, scopes=set(Scope) - {scope})
    tool = {"read": "get_state", "write": "log_turn", "share": "share_memories", "decide": "record_loop_decision"}
    answer = await target.call(lesser, tool.get(scope.value, "query_audit"), session_id=handle)
    assert (answer.status, answer.code) == (403, "scope_missing")
