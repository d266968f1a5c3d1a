"""Which hosts and pages are let through, and what browsers are told."""

import pytest

from contextdna import SettingsInvalid
from contextdna_server.http.hosts import HostLayer, check_hosts
from contextdna_server.settings import HttpSection
from tests.http.asgi import Answer, call, say_ok

pytestmark = pytest.mark.anyio

_LOCAL = HttpSection()
_REMOTE = HttpSection(
    public_url="https://memory.example.org/base",
    allowed_hosts=("10.0.0.5:8000",),
    allowed_origins=("https://app.example.org", "http://localhost:*"),
)


async def asked(settings: HttpSection, bound: str, *headers: tuple[str, str], method: str = "POST") -> Answer:
    return await call(HostLayer(say_ok, check_hosts(settings, bound)), method, headers=list(headers))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("LocalHost.:1", 200),
        ("127.0.0.1:9", 200),
        ("[::1]:9", 200),
        ("evil.example.org", 421),
        ("localhost.evil.example.org", 421),
        ("127.0.0.1.nip.io", 421),
        ("localhost:80:80", 421),
        ("localhost@evil.example.org", 421),
        ("localhost/evil", 421),
        ("", 421),
        ("localhost,evil.example.org", 421),
        ("localhost\u00df", 421),
    ],
)
async def test_on_loopback_only_the_names_of_this_machine_are_answered(host: str, status: int) -> None:
    answer = await asked(_LOCAL, "127.0.0.1", ("host", host))
    assert answer.status == status
    assert status == 200 or answer.code == "host_not_allowed"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("memory.example.org", 200),
        ("memory.example.org:443", 200),
        ("10.0.0.5:8000", 200),
        ("10.0.0.5:8001", 421),
        ("10.0.0.5", 421),
        ("localhost", 421),
        ("0.0.0.0", 421),  # noqa: S104
    ],
)
async def test_elsewhere_only_what_was_named_is_answered(host: str, status: int) -> None:
    assert (await asked(_REMOTE, "0.0.0.0", ("host", host))).status == status  # noqa: S104


async def test_the_bound_address_is_answered() -> None:
    assert (await asked(_LOCAL, "192.0.2.7", ("host", "192.0.2.7:8000"))).status == 200
    assert (await asked(_LOCAL, "2001:db8::7", ("host", "[2001:db8::7]:8000"))).status == 200
    assert (await asked(_LOCAL, "192.0.2.7", ("host", "localhost:8000"))).status == 421


async def test_a_request_for_no_host_or_two_is_refused() -> None:
    assert (await asked(_LOCAL, "localhost")).status == 421
    assert (await asked(_LOCAL, "localhost", ("host", "localhost"), ("host", "localhost"))).status == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://memory.example.org", 200),
        ("https://memory.example.org:443", 200),
        ("https://app.example.org", 200),
        ("HTTPS://APP.example.org", 200),
        ("http://localhost:6274", 200),
        ("https://localhost:6274", 403),
        ("http://app.example.org", 403),
        ("https://app.example.org:8443", 403),
        ("https://app.example.org.evil.org", 403),
        ("https://evil.org", 403),
        ("null", 403),
        ("", 403),
        ("https://app.example.org/path", 403),
    ],
)
async def test_only_allowed_pages_may_call(origin: str, status: int) -> None:
    answer = await asked(_REMOTE, "localhost.example", ("host", "memory.example.org"), ("origin", origin))
    assert answer.status == status
    assert status == 200 or answer.code == "origin_not_allowed"
    assert answer.headers.get("access-control-allow-origin") == (origin if status == 200 else None)


async def test_pages_of_this_machine_may_call_a_server_on_loopback_and_others_may_not() -> None:
    assert (await asked(_LOCAL, "::1", ("host", "[::1]"), ("origin", "http://localhost:6274"))).status == 200
    assert (await asked(_LOCAL, "::1", ("host", "[::1]"), ("origin", "http://evil.org"))).status == 403


async def test_an_allowed_page_reads_the_session_and_the_challenge_of_an_answer() -> None:
    answer = await asked(_LOCAL, "localhost", ("host", "localhost"), ("origin", "http://localhost:1"))
    assert answer.headers["access-control-expose-headers"] == "Mcp-Session-Id, WWW-Authenticate, Retry-After"
    assert answer.headers["vary"] == "Origin"


async def test_browsers_are_told_beforehand_what_an_allowed_page_may_send() -> None:
    head = (("host", "localhost"), ("access-control-request-method", "POST"))
    names = ("access-control-request-headers", "authorization, Mcp-Session-Id, mcp-param-a, x-evil, cookie")
    answer = await asked(_LOCAL, "localhost", *head, names, ("origin", "http://localhost:1"), method="OPTIONS")
    assert answer.status == 204
    assert answer.headers["access-control-allow-headers"] == "authorization, mcp-session-id, mcp-param-a"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    refused = await asked(_LOCAL, "localhost", *head, names, ("origin", "http://evil.org"), method="OPTIONS")
    assert refused.status == 403
    assert "access-control-allow-headers" not in refused.headers


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "[::]", ""])  # noqa: S104
def test_a_server_on_all_addresses_must_be_told_its_name(bound: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        check_hosts(HttpSection(), bound)
    assert refused.value.code == "hosts_missing"
    assert "http.public_url" in refused.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        HttpSection(allowed_hosts=("https://a.org",)),
        HttpSection(allowed_hosts=("*",)),
        HttpSection(allowed_origins=("a.org",)),
        HttpSection(allowed_origins=("*",)),
        HttpSection(allowed_origins=("null",)),
        HttpSection(public_url="https://user@a.org"),
    ],
)
def test_what_is_no_host_or_origin_is_refused_at_the_start(settings: HttpSection) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        check_hosts(settings, "localhost")
    assert refused.value.code == "setting_invalid"
