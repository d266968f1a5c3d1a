"""From the claims of a verified token to a principal, as the settings say; nothing is rewritten to make it fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contextdna import AgentId, CredentialRefused, Principal, ProjectId, Role, Scope
from contextdna.values.ids import is_name
from contextdna_server.settings import OAuthSection

Claims = Mapping[str, Any]

_PROJECTS_MAX: Final = 100


def principal_of(claims: Claims, oauth: OAuthSection) -> Principal:
    """Make the principal that a token's claims describe.

    Raises:
        CredentialRefused: ``token_claims_invalid``: a claim is not what it must be.
    """
    paths = oauth.claims
    return Principal(
        AgentId(_name(oauth.agent_prefix + _text(claims, paths.agent_id, "agent_id"), "agent_id")),
        _projects(claims, oauth),
        _circle(claims, paths.team_id, "team_id"),
        _circle(claims, paths.swarm_id, "swarm_id"),
        _role(claims, oauth),
        scopes=_scopes(claims, oauth.scope_prefix),
    )


def claim(claims: Claims, path: str) -> Any:
    """Give a claim by its name, which may hold dots, or by its path in nested objects; None if it is not there."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _text(claims: Claims, path: str, field: str) -> str:
    value = claim(claims, path)
    if not isinstance(value, str) or not value:
        raise _refused(field, "is not there, or no text")
    return value


def _name(text: str, field: str) -> str:
    if not is_name(text):
        raise _refused(field, "holds no valid name")
    return text


def _circle(claims: Claims, path: str, field: str) -> str:
    if not path or claim(claims, path) in (None, ""):
        return ""
    return _name(_text(claims, path, field), field)


def _projects(claims: Claims, oauth: OAuthSection) -> tuple[ProjectId, ...]:
    path = oauth.claims.projects
    named = claim(claims, path) if path else None
    if named is None:
        return tuple(ProjectId(name) for name in oauth.default_projects)
    names = _listed(named, "projects")
    if len(names) > _PROJECTS_MAX:
        raise _refused("projects", f"holds more than {_PROJECTS_MAX} names")
    return tuple(ProjectId(_name(name, "projects")) for name in dict.fromkeys(names))


def _role(claims: Claims, oauth: OAuthSection) -> Role:
    path = oauth.claims.role
    named = claim(claims, path) if path else None
    held = _listed(named, "role") if named is not None else ()
    known = [role for role in Role if role.value in held]
    highest = known[-1] if known else Role.AGENT
    return min(highest, oauth.role_max, key=lambda role: role.rank)


def _scopes(claims: Claims, prefix: str) -> frozenset[Scope]:
    """Read the scopes; those of other services do not count. Source: RFC 8693, 4.2; some issuers name the claim scp."""
    granted = claims.get("scope", claims.get("scp"))
    texts = _listed(granted, "scopes") if granted is not None else ()
    return frozenset(scope for scope in Scope if f"{prefix}{scope.value}" in texts)


def _listed(value: object, field: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise _refused(field, "is neither a text nor a list of texts")


def _refused(field: str, what: str) -> CredentialRefused:
    return CredentialRefused(
        f"the token's claim for {field} {what}",
        code="token_claims_invalid",
        hint="The operator maps claims with oauth.claims; the issuer decides what they hold.",
    )
