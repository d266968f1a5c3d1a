"""Who calls over HTTP: the credential of a request, verified before anything else looks at it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from contextdna import Principal


@dataclass(frozen=True, slots=True)
class Credential:
    """A verified caller, and what proved it."""

    principal: Principal
    client_id: str
    """The token's id, or the client that an issuer gave it to."""
    issuer: str
    subject: str
    expires_at: datetime | None = None


current_credential: ContextVar[Credential] = ContextVar("contextdna_credential")
"""The credential of the request at hand."""
