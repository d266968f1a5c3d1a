"""What counts a language model's tokens, as the settings say; a tokeniser's module is imported only then."""

from collections.abc import Callable

import anyio.to_thread

from contextdna.domain.tokens import estimate_tokens
from contextdna.values.settings import SearchSettings


async def open_counter(search: SearchSettings) -> Callable[[str], int]:
    """Give what counts tokens: the encoding of the settings' file, else the estimate that errs high.

    Raises:
        SettingsInvalid: ``tiktoken_missing`` or ``token_file_invalid``.
    """
    if search.token_file is None:
        return estimate_tokens
    from contextdna.backends.tiktoken import token_counter

    return await anyio.to_thread.run_sync(token_counter, search.token_file)
