"""What a client may meet, below the root of all errors.

    ContextDnaError
    └── ClientError
        ├── ServerAway       the server cannot be reached, died, or did not answer in time
        ├── Refused          the server answered, and said no: its code, its hint
        └── AnswerInvalid    what came back is not what the tool promises

`retryable` tells the two kinds apart that matter to an agent: what may go well later (the server is away, busy, or
full), and what will not, however often it is asked.
"""

from collections.abc import Iterator

from contextdna.errors import ContextDnaError


class ClientError(ContextDnaError):
    """The root of what a client raises."""

    code = "client_error"


class ServerAway(ClientError):
    """The server cannot be reached now. Always retryable.

    ``outcome_unknown`` is True when a request had left and no answer came: it may have been carried out.
    """

    code = "server_away"

    def __init__(self, message: str, *, code: str = "", hint: str = "", outcome_unknown: bool = False) -> None:
        super().__init__(message, code=code, hint=hint or "Go on without it, or try again later.", retryable=True)
        self.outcome_unknown = outcome_unknown


class Refused(ClientError):
    """The server answered with an error; it did nothing. ``code`` and ``hint`` are the server's.

    ``repeated`` is True when an earlier attempt of the same call got no answer: what is refused now may have
    happened then.
    """

    code = "refused"

    def __init__(
        self, message: str, *, code: str = "", hint: str = "", retryable: bool = False, current_version: int = 0
    ) -> None:
        super().__init__(message, code=code, hint=hint, retryable=retryable)
        self.current_version = current_version
        self.repeated = False


class AnswerInvalid(ClientError):
    """The answer is not of the form that the tool promises: another server, or another version."""

    code = "answer_invalid"


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Give the errors that a group is of, however deep; of another error, itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
