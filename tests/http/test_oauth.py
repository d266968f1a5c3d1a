"""Tokens of an issuer: each one that is not what it must be is refused by its own reason, and tells nothing."""

import base64
import hashlib
import hmac
import logging
import traceback
from typing import Any

import jwt
import pytest

from contextdna import CredentialRefused, Principal, Role, Scope, SettingsInvalid
from contextdna_server.http.identity import Authenticator, Credential
from tests.http.issuer import (
    NOW_S,
    PUBLIC_URL,
    RESOURCE,
    Issuer,
    NoTokens,
    Timer,
    authenticator,
    jwk,
    public_pem,
    rsa_key,
    segment,
)
from tests.hub.rig import START, Clock, refused

pytestmark = pytest.mark.anyio


async def judged(issuer: Issuer, token: str, **oauth: Any) -> Credential:
    return await authenticator(issuer.settings(**oauth)).authenticate(f"Bearer {token}")


async def refusal(issuer: Issuer, token: str, code: str = "token_invalid", **oauth: Any) -> CredentialRefused:
    return await refused(judged(issuer, token, **oauth), CredentialRefused, code)


# --- good tokens ---


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
async def test_a_token_that_a_key_of_the_issuer_signed_is_its_subjects(issuer: Issuer, kid: str) -> None:
    credential = await judged(issuer, issuer.token(kid=kid))
    principal = Principal("maria", ("default",), scopes=frozenset({Scope.READ, Scope.WRITE}))  # type: ignore[arg-type]
    assert (credential.principal, credential.client_id) == (principal, "inspector")
    assert (credential.issuer, credential.subject) == (issuer.url, "maria")
    assert credential.expires_at is not None
    assert credential.expires_at.timestamp() == NOW_S + 300


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_a_key_that_names_no_algorithm_serves_all_of_its_kind(issuer: Issuer, algorithm: str) -> None:
    assert (await judged(issuer, issuer.token(headers={"alg": algorithm}))).subject


@pytest.mark.parametrize("audience", [PUBLIC_URL, f"{PUBLIC_URL}/", f"{PUBLIC_URL}/sse", ["other", RESOURCE]])
async def test_a_token_may_be_for_the_server_or_a_transport_among_others(issuer: Issuer, audience: object) -> None:
    assert (await judged(issuer, issuer.token(aud=audience))).subject


@pytest.mark.parametrize("kind", ["JWT", "jwt", "AT+JWT", "application/at+jwt"])
async def test_types_of_access_tokens_are_taken_in_any_case(issuer: Issuer, kind: str) -> None:
    assert (await judged(issuer, issuer.token(headers={"typ": kind}))).subject


async def test_a_type_may_be_absent(issuer: Issuer) -> None:
    assert (await judged(issuer, issuer.token(without=("typ",)))).subject


@pytest.mark.parametrize(
    "claims", [{"exp": NOW_S - 29}, {"nbf": NOW_S + 30}, {"iat": NOW_S + 29}, {"exp": NOW_S + 0.5}]
)
async def test_clocks_may_be_apart_by_the_leeway(issuer: Issuer, claims: dict[str, Any]) -> None:
    assert (await judged(issuer, issuer.token(**claims))).subject


async def test_without_a_kid_the_one_key_that_fits_serves(issuer: Issuer) -> None:
    assert (await judged(issuer, issuer.token(kid="ec", without=("kid",)))).subject
    issuer.keys["newer"] = rsa_key(1)
    await refusal(issuer, issuer.token(without=("kid",)))


async def test_a_signature_is_verified_once_and_all_else_each_time(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[object] = []
    decode = jwt.decode

    def counting(*arguments: Any, **named: Any) -> Any:
        verified.append(arguments)
        return decode(*arguments, **named)

    monkeypatch.setattr("contextdna_server.http.oauth.jwt.decode", counting)
    clock, timer = Clock(), Timer()
    judge = Authenticator(NoTokens(), issuer.settings(), clock=clock, timer=timer)
    token = f"Bearer {issuer.token()}"
    first = await judge.authenticate(token)
    assert await judge.authenticate(token) == first
    assert len(verified) == 1
    clock.advance(seconds=330)
    await refused(judge.authenticate(token), CredentialRefused, "token_expired")
    assert len(verified) == 1
    timer.now += 600  # the keys are fetched anew
    await refused(judge.authenticate(token), CredentialRefused, "token_expired")
    assert len(verified) == 2


async def test_only_so_many_verified_tokens_are_remembered(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna_server.http.oauth._KNOWN_MAX", 2)
    judge = authenticator(issuer.settings())
    for name in ("a", "b", "c", "a"):
        assert (await judge.authenticate(f"Bearer {issuer.token(sub=name, kid='ed')}")).subject == name
    assert judge._issued is not None
    assert len(judge._issued._known) == 2


# --- tokens that are none ---


GARBAGE = ["x", "a.b.c", "a.b.c.d.e", "é", "ey", "e30.e30.", "....", "null", "=", "a b", "a,b", "\x00", "{}"]


@pytest.mark.parametrize("token", [*GARBAGE, "", " ", "x" * 20_000, f"{segment([])}.{segment({})}.x"])
async def test_garbage_is_refused_and_asks_the_issuer_nothing(issuer: Issuer, token: str) -> None:
    error = await refusal(issuer, token)
    assert error.principal is None
    assert issuer.asked == []


async def test_a_token_of_many_kilobytes_is_not_looked_at(issuer: Issuer) -> None:
    assert (await judged(issuer, issuer.token(filler="x" * 8_000))).subject
    await refusal(issuer, issuer.token(filler="x" * 16_000))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 1, ["RS256"], {"alg": "RS256"}])
async def test_an_unsigned_token_is_refused(issuer: Issuer, algorithm: object) -> None:
    head = segment({"alg": algorithm, "kid": "rsa"})
    for signature in ("", issuer.token().rpartition(".")[2]):
        await refusal(issuer, f"{head}.{segment(issuer.claims())}.{signature}")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_the_public_key_is_no_secret_to_sign_with(issuer: Issuer, algorithm: str) -> None:
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
    said = f"{segment({'alg': algorithm, 'typ': 'JWT', 'kid': 'rsa'})}.{segment(issuer.claims())}"
    for secret in (public_pem(rsa_key()), public_pem(rsa_key()).strip(), jwk(rsa_key(), "rsa")["n"].encode()):
        signature = base64.urlsafe_b64encode(hmac.new(secret, said.encode(), digest).digest()).rstrip(b"=").decode()
        await refusal(issuer, f"{said}.{signature}")


async def test_a_secret_in_the_key_set_verifies_nothing(issuer: Issuer) -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    encoded = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    listed = [{"kty": "oct", "k": encoded, "kid": "shared", "alg": "HS256"}, jwk(rsa_key(), "rsa")]
    issuer.documents["/keys"] = {"keys": listed}
    token = jwt.encode(issuer.claims(), secret, algorithm="HS256", headers={"kid": "shared"})
    await refusal(issuer, token)


async def test_an_algorithm_that_settings_leave_out_is_refused(issuer: Issuer) -> None:
    await refusal(issuer, issuer.token(), algorithms=["ES256"])


async def test_a_changed_token_is_refused(issuer: Issuer) -> None:
    head, _, signature = issuer.token().split(".")
    await refusal(issuer, f"{head}.{segment(issuer.claims(sub='root'))}.{signature}")
    await refusal(issuer, f"{head}.{segment(issuer.claims())}.{signature[:-8]}")


@pytest.mark.parametrize(("signed_with", "kid"), [("rsa", "ec"), ("ec", "rsa"), ("ed", "ec"), ("ec", "ed")])
async def test_a_key_verifies_only_what_its_kind_signs(issuer: Issuer, signed_with: str, kid: str) -> None:
    await refusal(issuer, issuer.token(kid=signed_with, headers={"kid": kid}))


@pytest.mark.parametrize(
    "fields", [{"alg": "RS512"}, {"use": "enc"}, {"key_ops": ["encrypt"]}, {"d": "AQAB"}, {"kty": "EC"}, {"n": "!"}]
)
async def test_a_key_serves_for_nothing_but_what_it_is_for(issuer: Issuer, fields: dict[str, Any]) -> None:
    issuer.documents["/keys"] = {"keys": [{**jwk(rsa_key(), "rsa"), **fields}, jwk(rsa_key(1), "other"), 7, None]}
    await refusal(issuer, issuer.token())


@pytest.mark.filterwarnings("ignore:The RSA key is 1024")
async def test_a_short_rsa_key_verifies_nothing(issuer: Issuer) -> None:
    issuer.keys["short"] = rsa_key(bits=1024)
    await refusal(issuer, issuer.token(kid="short"))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
async def test_a_key_that_the_token_brings_is_not_looked_at(issuer: Issuer, name: str) -> None:
    thief, url = rsa_key(1), f"{issuer.url}/thief"
    brought = {"jwk": jwk(thief, "rsa"), "jku": url, "x5u": url, "x5c": ["AAAA"]}[name]
    issuer.documents["/thief"] = {"keys": [jwk(thief, "rsa")]}
    token = jwt.encode(issuer.claims(), thief, algorithm="RS256", headers={"kid": "rsa", name: brought})
    await refusal(issuer, token)
    assert "/thief" not in issuer.asked


@pytest.mark.parametrize(
    "headers",
    [
        {"typ": "logout+jwt"},
        {"typ": "oauth-id-jag+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": 5},
        {"crit": ["exp"]},
        {"crit": []},
    ],
)
async def test_other_kinds_of_tokens_are_refused(issuer: Issuer, headers: dict[str, Any]) -> None:
    await refusal(issuer, issuer.token(headers=headers))


# --- claims that are not right ---


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp"])
async def test_a_token_without_a_needed_claim_is_refused(issuer: Issuer, claim: str) -> None:
    await refusal(issuer, issuer.token(without=(claim,)))
    head = segment({"alg": "RS256", "kid": "rsa"})
    said = f"{head}.{segment(issuer.claims(**{claim: None}))}"
    signature = jwt.get_algorithm_by_name("RS256").sign(said.encode(), rsa_key())
    await refusal(issuer, f"{said}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


@pytest.mark.parametrize("issued_by", ["https://other.example.org", "", "{}/", "{}\n"])
async def test_a_token_of_another_issuer_is_refused(issuer: Issuer, issued_by: str) -> None:
    await refusal(issuer, issuer.token(iss=issued_by.format(issuer.url)))


@pytest.mark.parametrize(
    "claims",
    [
        {"nbf": NOW_S + 31},
        {"iat": NOW_S + 31},
        {"nbf": "soon"},
        {"iat": None},
        {"exp": "2050"},
        {"exp": True},
        {"exp": [NOW_S + 9]},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"exp": -1},
        {"sub": 7},
        {"sub": ""},
        {"sub": "a\nb"},
        {"client_id": ["a"]},
        {"client_id": "\ud800"},
        {"jti": 5},
    ],
    ids=str,
)
async def test_a_claim_of_an_odd_form_or_from_the_future_is_refused(issuer: Issuer, claims: dict[str, Any]) -> None:
    assert (await refusal(issuer, issuer.token(**claims))).principal is None


@pytest.mark.parametrize(
    "audience", ["https://other.example.org/mcp", "", [], ["other"], f"{RESOURCE}/more", {}, 5, [5]]
)
async def test_a_token_for_another_service_is_refused_and_says_whose_it_is(issuer: Issuer, audience: object) -> None:
    error = await refusal(issuer, issuer.token(aud=audience, exp=NOW_S - 500), "token_audience")
    assert error.principal is not None
    assert error.principal.agent_id == "maria"


async def test_an_audience_that_settings_name_is_the_only_one(issuer: Issuer) -> None:
    assert (await judged(issuer, issuer.token(aud="api://lift"), audience="api://lift, api://memory")).subject
    await refusal(issuer, issuer.token(), "token_audience", audience=["api://lift"])


@pytest.mark.parametrize("over_s", [30, 31, 100_000])
async def test_an_expired_token_is_refused_and_says_whose_it_is(issuer: Issuer, over_s: int) -> None:
    error = await refusal(issuer, issuer.token(exp=NOW_S - over_s), "token_expired")
    assert error.principal is not None
    assert error.principal.agent_id == "maria"


async def test_an_expired_token_of_no_agent_says_no_one(issuer: Issuer) -> None:
    assert (await refusal(issuer, issuer.token(exp=1, sub="a b"), "token_expired")).principal is None


# --- from claims to a principal ---


PROJECTS: dict[str, Any] = {"https://lift.example.org/projects": ["a", "b", "a"]}
MAPPED = {
    "claims": {
        "agent_id": "who.name",
        "projects": "https://lift.example.org/projects",
        "team_id": "team",
        "swarm_id": "who.swarm",
        "role": "realm_access.roles",
    }
}


async def test_claims_make_the_principal_that_settings_say(issuer: Issuer) -> None:
    token = issuer.token(
        sub="auth0|5f7c",
        who={"name": "maria", "swarm": "lift"},
        team="core",
        realm_access={"roles": ["viewer", "coordinator", "agent"]},
        scope=["read", "admin", "openid"],
        **PROJECTS,
    )
    credential = await judged(issuer, token, **MAPPED)
    projects, scopes = ("a", "b"), frozenset({Scope.READ, Scope.ADMIN})
    assert credential.principal == Principal("maria", projects, "core", "lift", Role.COORDINATOR, scopes)  # type: ignore[arg-type]
    assert credential.subject == "auth0|5f7c"


async def test_claims_that_settings_do_not_name_give_nothing(issuer: Issuer) -> None:
    token = issuer.token(projects=["secret"], role="system", team_id="core", swarm_id="lift", agent_id="root")
    principal = (await judged(issuer, token)).principal
    assert principal == Principal("maria", ("default",), scopes=frozenset({Scope.READ, Scope.WRITE}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("named", "most", "role"),
    [
        ("system", "coordinator", Role.COORDINATOR),
        ("system", "agent", Role.AGENT),
        ("system", "system", Role.SYSTEM),
        ("viewer", "coordinator", Role.AGENT),
        ("agent coordinator", "coordinator", Role.COORDINATOR),
        ([], "system", Role.AGENT),
    ],
)
async def test_a_role_goes_up_to_the_highest_that_settings_allow(
    issuer: Issuer, named: object, most: str, role: Role
) -> None:
    credential = await judged(issuer, issuer.token(role=named), claims={"role": "role"}, role_max=most)
    assert credential.principal.role is role


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "auth0|5f7c"},
        {"sub": "queen/drone"},
        {"sub": "(upkeep)"},
        {"sub": "m" * 129},
        {"projects": "a/b"},
        {"projects": 5},
        {"projects": ["a", 5]},
        {"projects": [f"p{number}" for number in range(101)]},
        {"team": ["core"]},
        {"team": "a b"},
        {"role": {"name": "system"}},
        {"scope": 5},
    ],
    ids=lambda claims: str(claims)[:40],
)
async def test_claims_that_are_no_names_are_refused_not_rewritten(issuer: Issuer, claims: dict[str, Any]) -> None:
    mapping = {"projects": "projects", "team_id": "team", "role": "role"}
    error = await refusal(issuer, issuer.token(**claims), "token_claims_invalid", claims=mapping)
    assert not any(str(value) in error.message + error.hint for value in claims.values() if len(str(value)) > 3)


async def test_a_prefix_keeps_the_issuers_agents_apart(issuer: Issuer) -> None:
    assert (await judged(issuer, issuer.token(), agent_prefix="staff:")).principal.agent_id == "staff:maria"


@pytest.mark.parametrize(
    ("claims", "without", "prefix", "scopes"),
    [
        ({}, ("scope",), "", set()),
        ({"scp": "read decide"}, ("scope",), "", {"read", "decide"}),
        ({"scp": ["share"]}, ("scope",), "", {"share"}),
        ({"scope": "read", "scp": "admin"}, (), "", {"read"}),
        ({"scope": "READ writes x:read"}, (), "", set()),
        ({"scope": "read memory:write openid"}, (), "memory:", {"write"}),
    ],
)
async def test_scopes_are_those_of_this_server(
    issuer: Issuer, claims: dict[str, Any], without: tuple[str, ...], prefix: str, scopes: set[str]
) -> None:
    credential = await judged(issuer, issuer.token(without=without, **claims), scope_prefix=prefix)
    assert credential.principal.scopes == scopes


# --- secrecy, settings ---


async def test_a_token_is_in_no_log_and_no_error(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    judge = authenticator(issuer.settings())
    tokens = [
        issuer.token(),
        issuer.token(exp=1),
        issuer.token(aud="other"),
        issuer.token(sub="a b"),
        issuer.token(headers={"kid": "unknown"}),
        issuer.token(kid="ec", headers={"kid": "rsa"}),
        "x.y.z",
    ]
    said = ""
    for token in tokens:
        try:
            said += repr(await judge.authenticate(f"Bearer {token}"))
        except CredentialRefused as error:
            said += "".join(traceback.format_exception(error)) + error.hint
    said += caplog.text
    assert not [part for token in tokens for part in token.split(".") if len(part) > 3 and part in said]


async def test_with_no_issuer_a_jwt_is_refused(issuer: Issuer) -> None:
    settings = issuer.settings(issuer="")
    error = await refused(
        authenticator(settings).authenticate(f"Bearer {issuer.token()}"), CredentialRefused, "token_invalid"
    )
    assert error.principal is None
    assert issuer.asked == []


@pytest.mark.parametrize(
    "public_url", ["", "memory.example.org", "http://memory.example.org", "https://a.example/?b=c"]
)
async def test_an_issuer_needs_a_public_address(issuer: Issuer, public_url: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        authenticator(issuer.settings(http={"public_url": public_url}))
    assert caught.value.code == "oauth_incomplete"


async def admitted(judge: Authenticator, token: str) -> dict[str, Any]:
    """Give the scope of a request that was let in with a token."""
    authorization = f"Bearer {token}"
    credential = await judge.authenticate(authorization)
    return {"state": {"credential": credential}, "headers": [(b"authorization", authorization.encode())]}


async def test_an_open_request_is_over_when_the_key_of_its_token_was_withdrawn(issuer: Issuer) -> None:
    timer = Timer()
    judge = authenticator(issuer.settings(), timer)
    scope = await admitted(judge, issuer.token())
    await judge.recheck(scope)
    del issuer.keys["rsa"]
    timer.now += 600
    await refused(judge.recheck(scope), CredentialRefused, "token_invalid")


async def test_an_open_request_lasts_while_the_issuer_is_away_but_no_longer_than_its_token(issuer: Issuer) -> None:
    clock, timer = Clock(), Timer()
    judge = Authenticator(NoTokens(), issuer.settings(), clock=clock, timer=timer)
    scope = await admitted(judge, issuer.token())
    issuer.is_down = True
    timer.now += 100_000
    await judge.recheck(scope)
    clock.advance(seconds=330)
    await refused(judge.recheck(scope), CredentialRefused, "token_expired")


async def test_an_issued_credential_is_over_when_its_token_is(issuer: Issuer) -> None:
    clock = Clock()
    judge = Authenticator(NoTokens(), issuer.settings(), clock=clock)
    scope = await admitted(judge, issuer.token())
    clock.advance(seconds=329)
    await judge.recheck(scope)
    clock.advance(seconds=1)
    await refused(judge.recheck(scope), CredentialRefused, "token_expired")
    assert clock.now > START
