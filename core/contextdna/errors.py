"""Every error a caller may meet, in one tree.

    ContextDnaError
    ├── InvalidInput          the request is wrong; nothing was changed
    │   └── LimitExceeded     a size or count is over its limit
    ├── NotFound              absent, or not visible to the caller: the two answer alike
    ├── AccessDenied          the caller may not do this, whatever the record
    ├── CredentialRefused     the credential of a request tells of nobody who may call
    ├── SessionInvalid        the session handle is unknown, foreign, ended or expired
    ├── Conflict              the state moved on: stale version, duplicate, reused idempotency key
    ├── IntegrityFault        stored data or a key is not what it must be
    ├── SettingsInvalid       the configuration names something impossible
    ├── StorageUnavailable    the engine cannot do it now (busy, full, read-only, too old, too new)
    └── ClientError           what contextdna.client raises; drawn in its errors.py

Each carries ``code`` (stable, for programs), ``hint`` (what to do next) and ``retryable``.
No error text holds memory text, a key or a token.
"""

from contextdna.values.ids import without_secrets
from contextdna.values.principal import Principal, Scope


class ContextDnaError(Exception):
    """The root of the tree; catch this at a boundary.

    Args:
        message: What went wrong, one sentence, no record text. The secret of a handle or token is left out.
        code: Stable snake_case code.
        hint: What to do next.
        retryable: True when the same call may succeed later.
    """

    code = "error"

    def __init__(self, message: str, *, code: str = "", hint: str = "", retryable: bool = False) -> None:
        self.message = without_secrets(message)
        super().__init__(self.message)
        self.code = code or type(self).code
        self.hint = without_secrets(hint)
        self.retryable = retryable


class InvalidInput(ContextDnaError):
    """The request is wrong; nothing was changed."""

    code = "invalid_input"


class LimitExceeded(InvalidInput):
    """A size or a count is over its limit."""

    code = "limit_exceeded"


class NotFound(ContextDnaError):
    """Nothing of that name that the caller may see.

    ``denied`` tells the audit log, and nobody else, that the record exists.
    """

    code = "not_found"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        record_ids: tuple[str, ...] = (),
        denied: bool = False,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.record_ids = record_ids
        self.denied = denied


class AccessDenied(ContextDnaError):
    """The caller's role or membership does not allow the action.

    ``scopes`` are those that the action needs, where the credential lacks one of them.
    """

    code = "access_denied"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        record_ids: tuple[str, ...] = (),
        scopes: frozenset[Scope] = frozenset(),
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.record_ids = record_ids
        self.scopes = scopes


class CredentialRefused(ContextDnaError):
    """The credential of a request tells of nobody who may call now.

    ``principal`` is set where it was a good credential once: its refusal can be audited. It is for the audit log only.
    """

    code = "token_invalid"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        principal: Principal | None = None,
        record_ids: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.principal = principal
        self.record_ids = record_ids


class SessionInvalid(ContextDnaError):
    """The session handle does not work for this caller."""

    code = "session_invalid"

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint or "Call begin_session for a new session_id.")


class Conflict(ContextDnaError):
    """The state moved on since the caller looked.

    ``current_version`` is set when a version was stale. ``told_key`` names a kept answer that it follows from and that
    goes with it: it is said once.
    """

    code = "conflict"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        record_ids: tuple[str, ...] = (),
        current_version: int = 0,
        expected_version: int = 0,
        told_key: str = "",
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.record_ids = record_ids
        self.current_version = current_version
        self.expected_version = expected_version
        self.told_key = told_key


class IntegrityFault(ContextDnaError):
    """Stored data or a key is not what it must be."""

    code = "integrity_fault"


class SettingsInvalid(ContextDnaError):
    """The configuration names something impossible."""

    code = "settings_invalid"


class StorageUnavailable(ContextDnaError):
    """The storage engine cannot do it now."""

    code = "storage_unavailable"
