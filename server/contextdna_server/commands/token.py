"""``contextdna token``: access tokens for those who call over HTTP. A token is shown once, as it is made."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import click

from contextdna import (
    AccessToken,
    AgentId,
    InvalidInput,
    NewAccessToken,
    ProjectId,
    Role,
    Scope,
    TokenId,
    TokenRequest,
    TokenStatus,
)
from contextdna.values.access_token import TOKEN_SCOPES
from contextdna_server.commands.invocation import Invocation, run_async, table, with_shared_options
from contextdna_server.commands.operator import Operator, open_as_operator

_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})([smhdw])")
_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_STATUSES: Final = tuple(status.value for status in TokenStatus)


@click.group()
def token() -> None:
    """Make, list and revoke access tokens."""


@token.command()
@click.option("--agent", required=True, metavar="ID", help="The agent that its bearer calls as.")
@click.option("--project", "projects", multiple=True, metavar="NAME", help="May be repeated; without it the default.")
@click.option("--team", default="", metavar="ID", help="The team of the agent.")
@click.option("--swarm", default="", metavar="ID", help="The swarm of the agent.")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), default=Role.AGENT.value, help="What the agent may do."
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the token is for; may be repeated. Without it all but admin.",
)
@click.option("--expires-in", default="90d", metavar="SPAN", help="Such as 12h, 90d or 52w; or never.")
@click.option("--label", default="", metavar="TEXT", help="Whose it is, for the list; not a secret.")
@with_shared_options
def create(
    invocation: Invocation,
    *,
    agent: str,
    projects: tuple[str, ...],
    team: str,
    swarm: str,
    role: str,
    scopes: tuple[str, ...],
    expires_in: str,
    label: str,
) -> None:
    """Make a token and show it, once.

    Only the token goes to standard output. Servers on the same folder take it at once.
    """
    request = TokenRequest(
        agent_id=AgentId(agent),
        project_ids=tuple(map(ProjectId, projects or ("default",))),
        team_id=team,
        swarm_id=swarm,
        role=Role(role),
        scopes=frozenset(map(Scope, scopes)) or TOKEN_SCOPES,
        label=label,
        expires_in_s=_seconds(expires_in),
    )

    async def run() -> NewAccessToken:
        async with open_as_operator(invocation.settings(), projects or ("default",)) as operator:
            return await operator.workspace(operator.chosen[0]).access_tokens.create(request)

    made = run_async(run)
    until = _shown(made.token.expires_at) or "it is revoked"
    click.echo(f"{made.token.id} for agent {made.token.agent_id}, good until {until}", err=True)
    click.echo("Keep the token secret. It is not shown again.", err=True)
    invocation.answer({"token": made.text, **_document(made.token)}, [made.text])


@token.command("list")
@click.option("--agent", default="", metavar="ID", help="Only those of this agent.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only active, expired or revoked ones.")
@with_shared_options
def show(invocation: Invocation, agent: str, status: str | None) -> None:
    """List the tokens, the oldest first; none is shown.

    Each with its id, agent, projects, role, scopes and times.
    """

    async def run() -> list[AccessToken]:
        async with open_as_operator(invocation.settings()) as operator:
            return await _all(operator)

    documents = [_document(found) for found in run_async(run) if agent in ("", found.agent_id)]
    documents = [document for document in documents if status in (None, document["status"])]
    heading = ("id", "status", "agent", "role", "projects", "scopes", "expires", "last used", "label")
    invocation.answer({"tokens": documents}, table([heading, *map(_row, documents)], indent=""))


@token.command()
@click.argument("token_id")
@with_shared_options
def revoke(invocation: Invocation, token_id: str) -> None:
    """End a token: the next request with it is refused.

    By its id, or by the token itself.
    """
    from contextdna.values.ids import token_parts

    parts = token_parts(token_id)
    named = parts[0] if parts else TokenId(token_id)

    async def run() -> AccessToken:
        async with open_as_operator(invocation.settings()) as operator:
            return await operator.workspace().access_tokens.revoke(named)

    ended = run_async(run)
    invocation.answer(_document(ended), [f"token {ended.id} of agent {ended.agent_id} is revoked"])


async def _all(operator: Operator) -> list[AccessToken]:
    found: list[AccessToken] = []
    cursor = TokenId("")
    while True:
        page = await operator.workspace().access_tokens.list(after=cursor, limit=1000)
        found += page.tokens
        cursor = page.cursor
        if not cursor:
            return found


def _seconds(span: str) -> float | None:
    """Read a span of time.

    Raises:
        InvalidInput: ``expires_in_invalid``.
    """
    if span == "never":
        return None
    match = _SPAN.fullmatch(span)
    if match is None:
        raise InvalidInput(
            "--expires-in is not a span of time",
            code="expires_in_invalid",
            hint="Give a number with s, m, h, d or w, such as 90d; or never.",
        )
    return int(match[1]) * _UNITS_S[match[2]]


def _document(found: AccessToken) -> dict[str, Any]:
    return {
        "id": found.id,
        "status": found.status(datetime.now(UTC)).value,
        "agent": found.agent_id,
        "role": found.role.value,
        "projects": list(found.project_ids),
        "team": found.team_id,
        "swarm": found.swarm_id,
        "scopes": sorted(scope.value for scope in found.scopes),
        "label": found.label,
        "created_at": _shown(found.created_at),
        "created_by": found.created_by,
        "expires_at": _shown(found.expires_at),
        "revoked_at": _shown(found.revoked_at),
        "last_used_at": _shown(found.last_used_at),
    }


def _shown(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def _row(document: dict[str, Any]) -> tuple[str, ...]:
    projects, scopes = ",".join(document["projects"]), ",".join(document["scopes"])
    times = (document["expires_at"] or "never", document["last_used_at"] or "never")
    return (
        document["id"],
        document["status"],
        document["agent"],
        document["role"],
        projects,
        scopes,
        *times,
        document["label"],
    )
