"""Access tokens: who may make which, and whom a token's bearer calls as.

A token is ``cdna_<id>_<secret>``. The id may be known; of the secret (160 random bits) only the SHA-256 is stored. A
seal under a key of the installation binds the row: who edits the database file makes no credential and widens none.
"""

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from contextdna.domain.access import digest_secret
from contextdna.domain.encryption import ProjectKeys, Vault
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count, check_name, check_no_handle, check_seconds, check_text
from contextdna.errors import AccessDenied, CredentialRefused, InvalidInput, NotFound
from contextdna.ports.database import Transaction
from contextdna.values.access_token import (
    TOKEN_TTL_MAX_S,
    AccessToken,
    KeptToken,
    NewAccessToken,
    TokenPage,
    TokenRequest,
    TokenStatus,
)
from contextdna.values.ids import INSTALLATION, IdPrefix, TokenId, as_named, new_id, new_token_text, token_parts
from contextdna.values.principal import Principal

_LABEL_BYTES_MAX: Final = 128
_LISTED_MAX: Final = 1000
_NO_DIGEST: Final = b"\x00" * 32
_ANOTHER: Final = "Ask the operator for another one: `contextdna token create`."


async def create(op: Operation, vault: Vault, principal: Principal, request: TokenRequest) -> NewAccessToken:
    """Make a token with no more rights than its maker has; only this answer holds its text.

    Raises:
        InvalidInput: With the code of the first thing wrong.
        NotFound: ``project_not_found``.
        AccessDenied: ``token_too_wide``.
    """
    _check(request)
    await _require_own_projects(op, principal, request)
    if request.role.rank > op.actor.reader.role.rank or not request.scopes <= principal.scopes:
        raise AccessDenied(
            "the token would have more rights than you have",
            code="token_too_wide",
            hint="Give it at most your own role and scopes.",
        )
    token = _of(op, request)
    text, secret = new_token_text(token.id)
    digest = digest_secret(secret)
    keys = await vault.keys(op.tx, INSTALLATION)
    await op.tx.access_tokens.add(KeptToken(token, digest, _seal(keys, token, digest)))
    op.note([token.id], **_told(token))
    return NewAccessToken(token, text)


def _check(request: TokenRequest) -> None:
    check_name(request.agent_id, name="agent_id")
    check_name(request.team_id, name="team_id", empty_allowed=True)
    check_name(request.swarm_id, name="swarm_id", empty_allowed=True)
    for project_id in request.project_ids:
        check_name(project_id, name="project_id")
    check_no_handle(request.label, name="label")
    check_text(request.label, name="label", bytes_max=_LABEL_BYTES_MAX, empty_allowed=True)
    if not request.project_ids or not request.scopes:
        raise InvalidInput(
            "a token without a project or without a scope is for nothing",
            code="token_for_nothing",
            hint="Name at least one project and one scope.",
        )
    if request.expires_in_s is not None:
        check_seconds(request.expires_in_s, name="expires_in_s", maximum=TOKEN_TTL_MAX_S)


async def _require_own_projects(op: Operation, principal: Principal, request: TokenRequest) -> None:
    """Refuse projects that are not the maker's: in a session it has one."""
    own = {op.project_id} if op.actor.session_id else set(principal.project_ids)
    for project_id in request.project_ids:
        if project_id not in own or await op.tx.projects.get(project_id) is None:
            raise NotFound(
                "no such project for this caller",
                code="project_not_found",
                hint=f"Projects you may use: {', '.join(sorted(own))}.",
                denied=True,
            )


def _of(op: Operation, request: TokenRequest) -> AccessToken:
    span = request.expires_in_s
    return AccessToken(
        id=TokenId(new_id(IdPrefix.TOKEN, op.now)),
        agent_id=request.agent_id,
        project_ids=tuple(sorted(set(request.project_ids))),
        team_id=request.team_id,
        swarm_id=request.swarm_id,
        role=request.role,
        scopes=request.scopes,
        label=request.label,
        created_at=op.now,
        created_by=op.actor.agent_id,
        expires_at=None if span is None else op.now + timedelta(seconds=span),
    )


def _told(token: AccessToken) -> dict[str, object]:
    """Give what the audit log says of a new token; its label is a text."""
    return {
        "agent": token.agent_id,
        "projects": list(token.project_ids),
        "role": token.role.value,
        "scopes": sorted(token.scopes),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
    }


async def page(op: Operation, principal: Principal, *, after: TokenId, limit: int) -> TokenPage:
    """List the tokens all of whose projects are the caller's, in the order of their making, from behind one.

    Raises:
        LimitExceeded: ``limit_out_of_range``.
    """
    check_count(limit, name="limit", maximum=_LISTED_MAX)
    found: list[AccessToken] = []
    while len(found) <= limit:
        rows = await op.tx.access_tokens.page(after=after, limit=_LISTED_MAX)
        found += [kept.token for kept in rows if await _is_own(op, principal, kept.token)]
        if len(rows) < _LISTED_MAX:
            break
        after = rows[-1].token.id
    op.note(tokens=min(len(found), limit))
    return TokenPage(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else TokenId(""))


async def revoke(op: Operation, vault: Vault, principal: Principal, token_id: TokenId) -> AccessToken:
    """End a token, for every process at once; one that is revoked already stays so.

    Raises:
        NotFound: ``token_not_found``: there is none, or one of its projects is not the caller's.
    """
    kept = await op.tx.access_tokens.get(token_id)
    if kept is None or not await _is_own(op, principal, kept.token):
        raise NotFound(
            "no such token",
            code="token_not_found",
            hint="`contextdna token list` shows the ids.",
            record_ids=(as_named(token_id),),
            denied=kept is not None,
        )
    op.note([kept.token.id])
    if kept.token.revoked_at is not None:
        return kept.token
    revoked = replace(kept.token, revoked_at=op.now)
    keys = await vault.keys(op.tx, INSTALLATION)
    await op.tx.access_tokens.revoke(revoked.id, at=op.now, seal=_seal(keys, revoked, kept.secret_digest))
    return revoked


async def _is_own(op: Operation, principal: Principal, token: AccessToken) -> bool:
    """Tell whether a token is the caller's to see and revoke: projects that are gone do not count."""
    own = {op.project_id} if op.actor.session_id else set(principal.project_ids)
    return not any([await op.tx.projects.get(project) for project in set(token.project_ids) - own])


def read_token(text: str) -> tuple[TokenId, bytes]:
    """Read the id and the digest of the secret from what a caller sent.

    Raises:
        CredentialRefused: ``token_invalid``.
    """
    parts = token_parts(text)
    if parts is None:
        raise _unknown()
    return parts[0], digest_secret(parts[1])


async def bearer(tx: Transaction, vault: Vault, token_id: TokenId, digest: bytes, *, now: datetime) -> AccessToken:
    """Give the token of an id and the digest of its secret, if it works now.

    A text of another form, an unknown id, a wrong secret and an edited row answer alike.

    Raises:
        CredentialRefused: ``token_invalid``, ``token_expired`` or ``token_revoked``.
    """
    kept = await tx.access_tokens.get(token_id)
    is_known = hmac.compare_digest(kept.secret_digest if kept else _NO_DIGEST, digest)
    if kept is None or not is_known:
        raise _unknown()
    token = kept.token
    keys = await vault.keys(tx, INSTALLATION)
    if not hmac.compare_digest(kept.seal, _seal(keys, token, kept.secret_digest)):
        raise _unknown()
    match token.status(now):
        case TokenStatus.REVOKED:
            raise _over(token, "the token was revoked", code="token_revoked")
        case TokenStatus.EXPIRED:
            raise _over(token, "the token has expired", code="token_expired")
    return token


async def require_standing(tx: Transaction, vault: Vault, token_id: TokenId, *, at: datetime) -> None:
    """Refuse what a token was good for earlier, where it has been revoked since.

    Args:
        tx: The transaction that does it.
        vault: Knows what rows of tokens are sealed with.
        token_id: The token.
        at: When it was shown: that it has expired since is no reason.

    Raises:
        AccessDenied: ``token_revoked``.
    """
    kept = await tx.access_tokens.get(token_id)
    keys = await vault.keys(tx, INSTALLATION)
    is_whole = kept is not None and hmac.compare_digest(kept.seal, _seal(keys, kept.token, kept.secret_digest))
    if kept is None or not is_whole or kept.token.status(at) is not TokenStatus.ACTIVE:
        raise AccessDenied("the token was revoked", code="token_revoked", hint=_ANOTHER)


def _unknown() -> CredentialRefused:
    return CredentialRefused("no such token", code="token_invalid", hint=f"Pass it whole, as it was shown. {_ANOTHER}")


def _over(token: AccessToken, why: str, *, code: str) -> CredentialRefused:
    return CredentialRefused(why, code=code, hint=_ANOTHER, principal=token.principal, record_ids=(token.id,))


def _seal(keys: ProjectKeys, token: AccessToken, digest: bytes) -> bytes:
    """Bind all of a row that says who may call and as what."""
    fields = (
        token.id,
        token.agent_id,
        token.project_ids,
        token.team_id,
        token.swarm_id,
        token.role,
        sorted(token.scopes),
        token.label,
        token.created_at.isoformat(),
        token.created_by,
        token.expires_at.isoformat() if token.expires_at else None,
        token.revoked_at.isoformat() if token.revoked_at else None,
        digest.hex(),
    )
    return hmac.digest(keys.token_key, json.dumps(fields, separators=(",", ":")).encode(), hashlib.sha256)
