"""``contextdna token``: what it makes opens the installation's doors, what it shows does not."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from click.testing import CliRunner, Result

from contextdna import AccessToken, CredentialRefused, Hub, HubSettings, ProjectId, Role, Scope, open_hub
from contextdna_server.cli import main
from tests.hub.rig import refused

PROJECTS = (ProjectId("default"), ProjectId("other"))
R = TypeVar("R")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    async def nothing(_: Hub) -> None:
        return

    with_hub(tmp_path / "data", nothing)
    return tmp_path / "data"


def with_hub(folder: Path, use: Callable[[Hub], Awaitable[R]]) -> R:
    """Use an installation as a server on the same folder does."""

    async def run() -> R:
        async with open_hub(HubSettings(data_dir=folder, projects=PROJECTS)) as hub:
            return await use(hub)

    return anyio.run(run)


def call(data: Path, *args: str) -> Result:
    return CliRunner().invoke(main, ["token", *args, "--data", str(data)])


def answer(data: Path, *args: str) -> Any:
    result = call(data, *args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def bearer(data: Path, text: str) -> AccessToken:
    return with_hub(data, lambda hub: hub.authenticate(text))


def test_a_token_is_shown_once_and_alone_on_standard_output(data: Path) -> None:
    result = call(data, "create", "--agent", "hank")
    assert result.exit_code == 0, result.output
    [text] = result.stdout.splitlines()
    token = bearer(data, text)
    assert (token.agent_id, token.project_ids, token.role, token.label) == ("hank", ("default",), Role.AGENT, "")
    assert token.scopes == frozenset(Scope) - {Scope.ADMIN}
    assert token.expires_at is not None
    assert timedelta(days=89) < token.expires_at - datetime.now(UTC) <= timedelta(days=90)
    assert "Keep the token secret. It is not shown again." in result.stderr
    assert token.id in result.stderr
    secret = text.rpartition("_")[2]
    assert secret not in result.stderr + call(data, "list").output + call(data, "list", "--json").output


def test_a_token_is_made_for_what_is_said(data: Path) -> None:
    options = "--agent hank --project other --project default --team core --swarm lift --role coordinator --scope read"
    made = answer(
        data, "create", *options.split(), "--scope", "admin", "--expires-in", "never", "--label", "Hank's laptop"
    )
    assert made.items() >= {"status": "active", "expires_at": None, "label": "Hank's laptop"}.items()
    assert made["scopes"] == ["admin", "read"]
    principal = bearer(data, made["token"]).principal
    assert (principal.project_ids, principal.team_id, principal.swarm_id) == (PROJECTS, "core", "lift")
    assert (principal.role, principal.scopes) == (Role.COORDINATOR, frozenset({Scope.READ, Scope.ADMIN}))


@pytest.mark.parametrize(
    ("span", "seconds"), [("45s", 45), ("30m", 1800), ("12h", 43_200), ("90d", 7_776_000), ("2w", 1_209_600)]
)
def test_a_token_lasts_as_long_as_is_said(data: Path, span: str, seconds: int) -> None:
    made = answer(data, "create", "--agent", "hank", "--expires-in", span)
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lasts == timedelta(seconds=seconds)


def test_tokens_are_listed_with_all_but_the_secret_and_end_when_revoked(data: Path) -> None:
    first, second = (answer(data, "create", "--agent", agent)["token"] for agent in ("hank", "ida"))
    bearer(data, second)
    tokens = answer(data, "list")["tokens"]
    assert [(token["agent"], token["status"], token["created_by"]) for token in tokens] == [
        ("hank", "active", "operator"),
        ("ida", "active", "operator"),
    ]
    assert [token["last_used_at"] is None for token in tokens] == [True, False]
    revoked = call(data, "revoke", tokens[0]["id"])
    assert revoked.stdout == f"token {tokens[0]['id']} of agent hank is revoked\n"
    assert answer(data, "revoke", second)["status"] == "revoked"  # who has only the token may name it by itself
    for text in (first, second):
        with_hub(data, lambda hub, text=text: refused(hub.authenticate(text), CredentialRefused, "token_revoked"))  # type: ignore[misc]
    assert [token["agent"] for token in answer(data, "list", "--status", "revoked", "--agent", "ida")["tokens"]] == [
        "ida"
    ]
    assert answer(data, "list", "--status", "active") == {"tokens": []}
    assert len(call(data, "list").stdout.splitlines()) == 3


def test_a_server_at_work_takes_and_refuses_a_token_at_once(data: Path) -> None:
    async def beside(hub: Hub) -> None:
        made = await anyio.to_thread.run_sync(lambda: answer(data, "create", "--agent", "hank"))
        assert (await hub.authenticate(made["token"])).agent_id == "hank"
        await anyio.to_thread.run_sync(lambda: answer(data, "revoke", made["id"]))
        await refused(hub.authenticate(made["token"]), CredentialRefused, "token_revoked")

    with_hub(data, beside)


@pytest.mark.parametrize(
    ("args", "exit_code", "code"),
    [
        ("create --agent hank --expires-in 0d", 2, "expires_in_invalid"),
        ("create --agent hank --expires-in -1d", 2, "expires_in_invalid"),
        ("create --agent hank --expires-in soon", 2, "expires_in_invalid"),
        ("create --agent hank --expires-in 999999w", 2, "expires_in_s_out_of_range"),
        ("create --agent queen/drone", 2, "agent_id_invalid"),
        ("create --agent hank --project nowhere", 1, "project_not_found"),
        ("revoke tok_0000000000000000000000", 1, "token_not_found"),
        ("revoke garbage", 1, "token_not_found"),
    ],
)
def test_what_cannot_be_done_is_said(data: Path, args: str, exit_code: int, code: str) -> None:
    result = call(data, *args.split(), "--json")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert json.loads(result.stderr)["error"]["code"] == code
    assert answer(data, "list") == {"tokens": []}


def test_tokens_need_an_installation(tmp_path: Path) -> None:
    for args in (["create", "--agent", "hank"], ["list"], ["revoke", "tok_0000000000000000000000"]):
        result = call(tmp_path / "mistyped", *args, "--json")
        assert json.loads(result.stderr)["error"]["code"] == "no_installation"
    assert not (tmp_path / "mistyped").exists()
