"""Who comes without a good credential gets no further, and is told what to come back with."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from mcp.client.auth.utils import (
    build_protected_resource_metadata_discovery_urls,
    extract_resource_metadata_from_www_auth,
    extract_scope_from_www_auth,
    handle_protected_resource_response,
)
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context
from starlette.types import Receive, Scope, Send

from contextdna import (
    AgentId,
    ContextDnaError,
    Hub,
    NewAccessToken,
    Principal,
    Role,
    StorageUnavailable,
    TokenRequest,
    open_hub,
)
from contextdna import Scope as CredentialScope
from contextdna_server.http.authentication import AuthenticationLayer
from contextdna_server.http.challenges import Challenges
from contextdna_server.http.identity import OWN_ISSUER, Authenticator, Credential, current_credential
from contextdna_server.http.metadata import MetadataLayer
from contextdna_server.http.scope_checks import ScopeLayer
from contextdna_server.settings import Settings, load_settings
from contextdna_tools import FULL_TOOLS
from tests.http.asking import Answer, Inner, ask
from tests.http.issuer import NOW_S, PUBLIC_URL, Issuer, NoTokens, authenticator
from tests.hub.rig import DEFAULT, ROOT, Clock, refused, settings_in

pytestmark = pytest.mark.anyio

METADATA = f"{PUBLIC_URL}/.well-known/oauth-protected-resource"
ISSUED = f'resource_metadata="{METADATA}/mcp", scope="read write"'
SENT = "Send the header Authorization: Bearer TOKEN."


class Notes:
    """Keeps what would be audited."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []

    async def __call__(self, principal: Principal, error: ContextDnaError) -> None:
        self.kept.append((principal.agent_id, error.code))


class Layered:
    """The layer alone, in front of an application that notes what reaches it."""

    def __init__(self, settings: Settings, judge: Authenticator | None = None) -> None:
        self.inner, self.notes = Inner(), Notes()
        self.layer = AuthenticationLayer(self.inner, judge or authenticator(settings), self.notes, Challenges(settings))

    async def ask(self, *authorization: str, path: str = "/mcp", query: str = "") -> Answer:
        headers = tuple(("Authorization", value) for value in authorization)
        return await ask(self.layer, path, headers=headers, query=query)


@pytest.fixture
def layered(issuer: Issuer) -> Layered:
    return Layered(issuer.settings())


@pytest.fixture
async def hub(anyio_backend: str) -> AsyncIterator[Hub]:
    async with open_hub(settings_in(None), clock=Clock()) as opened:
        yield opened


def plain(**http: Any) -> Settings:
    """Give settings without an issuer."""
    return load_settings({"data": "unused", "http": http})


async def new_token(hub: Hub, **fields: Any) -> NewAccessToken:
    return await hub.bind(ROOT).access_tokens.create(TokenRequest(AgentId("maria"), (DEFAULT,), **fields))


# --- challenges ---


async def test_without_a_credential_the_challenge_names_the_metadata_and_no_error(layered: Layered) -> None:
    answer = await layered.ask()
    assert (answer.status, answer.challenge) == (401, f"Bearer {ISSUED}")
    assert json.loads(answer.body)["error"]["data"] == {
        "code": "credential_missing",
        "message": "the request has no credential",
        "hint": SENT,
        "retryable": False,
    }
    assert answer.headers["cache-control"] == "no-store"
    assert layered.inner.scopes == []


@pytest.mark.parametrize(("path", "end"), [("/sse", "/sse"), ("/messages/x", "/sse"), ("/mcp", "/mcp"), ("/", "/mcp")])
async def test_the_challenge_names_the_metadata_of_the_transport(layered: Layered, path: str, end: str) -> None:
    assert f'resource_metadata="{METADATA}{end}"' in (await layered.ask(path=path)).challenge


@pytest.mark.parametrize(
    ("code", "description", "claims"),
    [
        ("token_expired", "the token has expired", {"exp": NOW_S - 31}),
        ("token_audience", "the token is for another service", {"aud": "https://other.example.org"}),
        ("token_claims_invalid", "the token's claim for agent_id holds no valid name", {"sub": "a/b"}),
        ("token_invalid", "the token is not valid", {"iss": "https://other.example.org"}),
        ("token_invalid", "the token is not valid yet", {"nbf": NOW_S + 31}),
    ],
)
async def test_a_token_that_is_refused_is_told_why(
    layered: Layered, issuer: Issuer, code: str, description: str, claims: dict[str, Any]
) -> None:
    answer = await layered.ask(f"Bearer {issuer.token(**claims)}")
    fault = f'error="invalid_token", error_description="{description}"'
    assert (answer.status, answer.code, answer.challenge) == (401, code, f"Bearer {fault}, {ISSUED}")
    assert layered.inner.scopes == []


async def test_scopes_in_challenges_are_named_as_the_issuer_does(issuer: Issuer) -> None:
    answer = await Layered(issuer.settings(scope_prefix="memory:")).ask()
    assert 'scope="memory:read memory:write"' in answer.challenge


async def test_without_an_issuer_the_challenge_names_no_metadata() -> None:
    layered = Layered(plain())
    assert (await layered.ask()).challenge == 'Bearer scope="read write"'
    answer = await layered.ask("Bearer a.b.c")
    fault = 'error="invalid_token", error_description="the token is not valid"'
    assert (answer.status, answer.challenge) == (401, f'Bearer {fault}, scope="read write"')


@pytest.mark.parametrize("value", ["Basic bWFyaWE6eA==", "bearer", "Token x", "", " ", "Bearer\tx", "é x"])
async def test_another_kind_of_credential_is_refused(layered: Layered, value: str) -> None:
    answer = await layered.ask(value)
    assert answer.status == 401
    assert answer.code in ("credential_unsupported", "token_invalid")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "])
async def test_the_scheme_may_be_in_any_case(layered: Layered, issuer: Issuer, scheme: str) -> None:
    assert (await layered.ask(f"{scheme} {issuer.token()}")).status == 200


@pytest.mark.parametrize("query", ["access_token=x", "ACCESS_TOKEN=x", "a=b&token=x", "api%5Fkey=", "x=cdna_tok_0"])
async def test_a_credential_in_the_query_string_is_refused_even_beside_a_good_one(
    layered: Layered, issuer: Issuer, query: str
) -> None:
    answer = await layered.ask(f"Bearer {issuer.token()}", query=query)
    assert (answer.status, answer.code) == (400, "credential_in_query")
    assert answer.challenge.startswith('Bearer error="invalid_request", error_description="')
    assert layered.inner.scopes == []


async def test_other_queries_pass(layered: Layered, issuer: Issuer) -> None:
    assert (await layered.ask(f"Bearer {issuer.token()}", query="session_id=0a&x=%ff;;")).status == 200


async def test_several_authorization_headers_are_refused(layered: Layered, issuer: Issuer) -> None:
    good = f"Bearer {issuer.token()}"
    for pair in ((good, good), (good, "Bearer x"), ("Basic x", good)):
        answer = await layered.ask(*pair)
        assert (answer.status, answer.code) == (400, "credential_ambiguous")
    assert (await layered.ask(f"{good}, {good}")).status == 401


async def test_while_the_issuer_is_away_callers_are_asked_to_try_again(layered: Layered, issuer: Issuer) -> None:
    issuer.is_down = True
    answer = await layered.ask(f"Bearer {issuer.token()}")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "issuer_unavailable", "5")
    assert answer.challenge == ""


async def test_a_websocket_is_closed(layered: Layered) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await layered.layer({"type": "websocket", "path": "/mcp"}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert layered.inner.scopes == []


async def test_the_sdks_client_reads_what_the_challenge_says(layered: Layered, issuer: Issuer) -> None:
    lacking, _ = await sent(call("share_memories"), "read", settings=issuer.settings())
    for answer, scopes in ((await layered.ask(), "read write"), (lacking, "read share")):
        response = httpx2.Response(answer.status, headers=dict(answer.headers))
        assert extract_resource_metadata_from_www_auth(response) == f"{METADATA}/mcp"
        assert extract_scope_from_www_auth(response) == scopes
    assert f"{METADATA}/mcp" in build_protected_resource_metadata_discovery_urls(None, f"{PUBLIC_URL}/mcp")
    document = await told(issuer.settings(), "/.well-known/oauth-protected-resource/mcp")
    read = await handle_protected_resource_response(httpx2.Response(200, content=document.body))
    assert read is not None
    assert str(read.resource) == f"{PUBLIC_URL}/mcp"


# --- what is audited, what is said ---


async def test_refusals_are_audited_where_the_issuer_says_who_called(layered: Layered, issuer: Issuer) -> None:
    for claims in ({"exp": 1}, {"aud": "other"}, {"exp": 1, "sub": "a b"}, {"sub": "a b"}, {"iss": "x"}):
        await layered.ask(f"Bearer {issuer.token(**claims)}")
    await layered.ask()
    await layered.ask("Bearer cdna_x")
    assert layered.notes.kept == [("maria", "token_expired"), ("maria", "token_audience")]


async def test_a_token_is_in_no_log_and_no_answer(
    layered: Layered, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = [issuer.token(), issuer.token(exp=1), issuer.token(aud="other"), "abc.def.ghi", "cdna_secret"]
    said = ""
    for token in tokens:
        for answer in (await layered.ask(f"Bearer {token}"), await layered.ask(query=f"access_token={token}")):
            said += f"{answer}"
    said += caplog.text
    assert not [part for token in tokens for part in token.split(".") if len(part) > 2 and part in said]


# --- what goes on ---


async def test_a_request_goes_on_with_its_credential(issuer: Issuer) -> None:
    seen: list[Any] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        token = get_access_token()
        assert token is not None
        seen.extend([scope["state"], scope["user"], current_credential.get(), token])
        await Inner()(scope, receive, send)

    settings = issuer.settings()
    layer = AuthenticationLayer(inner, authenticator(settings), Notes(), Challenges(settings))
    state = {"kept": 1}
    await ask(layer, headers=(("Authorization", f"Bearer {issuer.token()}"),), state=state)
    scope_state, user, credential, token = seen
    assert scope_state == {"kept": 1, "credential": credential}
    assert state == {"kept": 1}
    assert isinstance(user, AuthenticatedUser)
    owner = {"client_id": "inspector", "issuer": issuer.url, "subject": credential.owner}
    assert authorization_context(user) == owner
    assert (token.token, token.scopes, token.expires_at) == ("", ["read", "write"], NOW_S + 300)
    assert current_credential.get(None) is None
    assert get_access_token() is None


async def test_anonymous_callers_are_the_local_user_where_settings_say_so() -> None:
    layered = Layered(plain(anonymous=True))
    assert (await layered.ask()).status == 200
    credential = layered.inner.scopes[0]["state"]["credential"]
    assert (credential.principal.agent_id, credential.principal.role) == ("local", Role.SYSTEM)
    assert (await layered.ask("Bearer x")).status == 401
    assert (await layered.ask("Basic x")).status == 401


# --- own tokens ---


async def test_an_own_token_is_its_agents_until_it_is_revoked(hub: Hub) -> None:
    layered = Layered(plain(), Authenticator(hub, plain(), clock=Clock()))
    made = await new_token(hub, team_id="core", scopes=frozenset({CredentialScope.READ}))
    assert (await layered.ask(f"Bearer {made.text}")).status == 200
    credential: Credential = layered.inner.scopes[0]["state"]["credential"]
    assert credential.principal == made.token.principal
    assert (credential.client_id, credential.issuer, credential.subject) == (made.token.id, OWN_ISSUER, "maria")
    await hub.bind(ROOT).access_tokens.revoke(made.token.id)
    answer = await layered.ask(f"Bearer {made.text}")
    assert (answer.status, answer.code) == (401, "token_revoked")
    assert layered.notes.kept == []  # the hub has audited it


async def test_an_open_request_of_a_revoked_token_is_judged_again(hub: Hub) -> None:
    judge = Authenticator(hub, plain(), clock=Clock())
    layered = Layered(plain(), judge)
    made = await new_token(hub)
    await layered.ask(f"Bearer {made.text}")
    scope = layered.inner.scopes[0]
    await judge.recheck(scope)
    await hub.bind(ROOT).access_tokens.revoke(made.token.id)
    await refused(judge.recheck(scope), ContextDnaError, "token_revoked")


async def test_an_unknown_own_token_is_refused_as_garbage_is(hub: Hub) -> None:
    layered = Layered(plain(), Authenticator(hub, plain(), clock=Clock()))
    made = await new_token(hub)
    answers = [await layered.ask(f"Bearer {text}") for text in (made.text[:-1] + "!", made.text[:-2], "cdna_", "x.y.z")]
    assert {(answer.status, answer.code) for answer in answers} == {(401, "token_invalid")}


async def test_while_the_database_is_away_nobody_is_let_in() -> None:
    class Away(NoTokens):
        async def authenticate(self, token_text: str) -> Any:
            raise StorageUnavailable("it is busy", code="storage_busy", hint=f"{len(token_text)}", retryable=True)

    answer = await Layered(plain(), Authenticator(Away(), plain())).ask("Bearer cdna_x")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "storage_busy", "5")


# --- scopes ---


def credential(*scopes: str) -> Credential:
    held = frozenset(CredentialScope(scope) for scope in scopes)
    return Credential(Principal(AgentId("maria"), (DEFAULT,), scopes=held), "c", "i", "s")


async def sent(message: Any, *scopes: str, settings: Settings | None = None) -> tuple[Answer, Notes]:
    notes = Notes()
    layer = ScopeLayer(Inner(), notes, Challenges(settings or plain()))
    return await ask(layer, state={"credential": credential(*scopes), "message": message}), notes


def call(tool: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool}}


async def test_a_call_beyond_the_credential_is_challenged_with_all_scopes_to_come_back_with(issuer: Issuer) -> None:
    answer, notes = await sent(call("share_memories"), "read", "write", settings=issuer.settings())
    description = 'error="insufficient_scope", error_description="the credential lacks the scope share"'
    metadata = f'resource_metadata="{METADATA}/mcp"'
    assert (answer.status, answer.code) == (403, "scope_missing")
    assert answer.challenge == f'Bearer {description}, {metadata}, scope="read write share"'
    assert json.loads(answer.body)["id"] == 7
    assert notes.kept == [("maria", "scope_missing")]


@pytest.mark.parametrize("tool", FULL_TOOLS, ids=lambda tool: tool.name)
async def test_a_tool_is_called_with_its_scopes_and_with_none_fewer(tool: Any) -> None:
    needed = {scope.value for scope in tool.scopes}
    assert (await sent(call(tool.name), *needed))[0].status == 200
    for missing in needed:
        answer, _ = await sent(call(tool.name), *(needed - {missing}))
        assert (answer.status, answer.code) == (403, "scope_missing")


READING = ["resources/read", "resources/list", "resources/templates/list", "resources/subscribe", "prompts/get"]


@pytest.mark.parametrize("method", [*READING, "prompts/list", "completion/complete", "subscriptions/listen"])
async def test_what_gives_stored_text_needs_the_scope_read(method: str) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": method}
    assert (await sent(message, "write"))[0].code == "scope_missing"
    assert (await sent(message, "read"))[0].status == 200


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        7,
        {},
        {"method": 5},
        {"method": "initialize"},
        {"method": "tools/list"},
        {"method": "ping"},
        {"method": "tools/call"},
        {"method": "tools/call", "params": []},
        {"method": "tools/call", "params": {"name": ["store_memory"]}},
        {"method": "tools/call", "params": {"name": "nothing"}},
        {"id": 1, "result": {}},
    ],
    ids=str,
)
async def test_what_needs_no_scope_passes_and_is_judged_behind(message: Any) -> None:
    assert (await sent(message))[0].status == 200


# --- metadata ---


async def told(settings: Settings, path: str, method: str = "GET") -> Answer:
    return await ask(MetadataLayer(Inner(), settings), path, method=method)


@pytest.mark.parametrize("end", ["", "/mcp", "/sse"])
async def test_the_metadata_of_a_resource_names_the_issuer_and_the_scopes(issuer: Issuer, end: str) -> None:
    settings = issuer.settings(documentation_url="https://docs.example.org/memory", scope_prefix="m:")
    answer = await told(settings, f"/.well-known/oauth-protected-resource{end}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == {
        "resource": f"{PUBLIC_URL}{end}",
        "authorization_servers": [issuer.url],
        "scopes_supported": ["m:read", "m:write", "m:share", "m:decide", "m:admin"],
        "bearer_methods_supported": ["header"],
        "resource_name": "contextdna",
        "resource_documentation": "https://docs.example.org/memory",
    }


async def test_a_public_address_with_a_path_has_its_metadata_with_and_without_it(issuer: Issuer) -> None:
    settings = issuer.settings(http={"public_url": "https://example.org/memory/"})
    bodies = [
        (await told(settings, f"/.well-known/oauth-protected-resource{path}")).body for path in ("/memory/mcp", "/mcp")
    ]
    assert bodies[0] == bodies[1]
    assert json.loads(bodies[0])["resource"] == "https://example.org/memory/mcp"


async def test_metadata_is_read_only(issuer: Issuer) -> None:
    path = "/.well-known/oauth-protected-resource"
    assert (await told(issuer.settings(), path, "POST")).headers["allow"] == "GET, HEAD"
    head = await told(issuer.settings(), path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 100


@pytest.mark.parametrize("path", ["oauth-protected-resource", "oauth-protected-resource/mcp", "openid-configuration"])
async def test_without_an_issuer_there_is_no_metadata(path: str) -> None:
    answer = await told(plain(), f"/.well-known/{path}")
    assert (answer.status, answer.code) == (404, "metadata_unknown")


async def test_what_is_not_well_known_goes_on(issuer: Issuer) -> None:
    assert (await told(issuer.settings(), "/mcp")).body == b""
    unknown = await told(issuer.settings(), "/.well-known/oauth-protected-resource/other")
    assert (unknown.status, unknown.code) == (404, "metadata_unknown")
