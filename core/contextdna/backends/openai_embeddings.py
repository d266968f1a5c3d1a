"""Embedder: any endpoint that speaks OpenAI's embeddings over HTTP, of a provider or of one's own machine.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

import random
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import anyio
import httpx2

from contextdna.errors import SettingsInvalid, StorageUnavailable

DEFAULT_URL: Final = "https://api.openai.com/v1"
DEFAULT_MODEL: Final = "text-embedding-3-small"
_TIMEOUT_S: Final = 20.0
_CONNECT_TIMEOUT_S: Final = 5.0
_TRIES: Final = 3
_PAUSE_S: Final = 0.5
_RETRIED: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
_REFUSED: Final = frozenset({400, 401, 403, 404, 422})
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class OpenAiEmbedder(AbstractAsyncContextManager["OpenAiEmbedder", None]):
    """``Embedder`` by ``POST {url}/embeddings``. Neither texts nor the key are ever logged or put into an error.

    Args:
        model: The endpoint's name of the model.
        url: Where ``/embeddings`` is, such as ``https://api.openai.com/v1``.
        key: The API key; empty sends none.
        pause_s: What the first retry waits at most; each further one twice as much.
        sleep: Waits so many seconds.
    """

    batch_max: Final = 64

    def __init__(
        self,
        model: str = "",
        url: str = "",
        *,
        key: str = "",
        pause_s: float = _PAUSE_S,
        sleep: Callable[[float], Any] = anyio.sleep,
    ) -> None:
        self._name = model or DEFAULT_MODEL
        self._url = _checked(url or DEFAULT_URL)
        self._key = key
        self._pause_s = pause_s
        self._sleep = sleep
        self._client: httpx2.AsyncClient | None = None

    @property
    def model(self) -> str:
        """Name the product and its model: the same one is the same at every endpoint."""
        return f"openai/{self._name}"

    async def __aenter__(self) -> Self:
        """Give the embedder; a connection is made at its first use."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Ask the endpoint for a vector for each text.

        Raises:
            StorageUnavailable: ``embedder_unavailable``: it does not answer, or not with vectors.
            SettingsInvalid: ``embedder_invalid``: it refuses the model or the key.
        """
        for attempt in range(_TRIES):
            if attempt:
                await self._sleep(random.uniform(0.0, self._pause_s * 2 ** (attempt - 1)))  # noqa: S311 - jitter
            answer = await self._post(texts)
            if answer is None or answer.status_code in _RETRIED:
                continue
            if answer.status_code in _REFUSED:
                raise SettingsInvalid(
                    f"the embedding endpoint refuses with status {answer.status_code}",
                    code="embedder_invalid",
                    hint="Correct search.embedding_url, search.embedding_model or search.embedding_key.",
                )
            return _vectors(answer, count=len(texts))
        raise _no_answer("the embedding endpoint does not answer")

    async def _post(self, texts: Sequence[str]) -> httpx2.Response | None:
        if self._client is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            timeout = httpx2.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
            self._client = httpx2.AsyncClient(headers=headers, timeout=timeout, follow_redirects=False)
        try:
            return await self._client.post(f"{self._url}/embeddings", json={"model": self._name, "input": list(texts)})
        except httpx2.HTTPError:
            return None


def _checked(url: str) -> str:
    parts = urlsplit(url)
    plain_and_far = parts.scheme == "http" and parts.hostname not in _LOCAL
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or plain_and_far:
        raise SettingsInvalid(
            "search.embedding_url is not https://…, nor http:// on this machine",
            code="embedder_invalid",
            hint="Name the address above /embeddings, such as https://api.openai.com/v1, without user and password.",
        )
    return url.rstrip("/")


def _vectors(answer: httpx2.Response, *, count: int) -> list[bytes]:
    try:
        rows = sorted(answer.json()["data"], key=lambda row: row["index"])
        vectors = [_float32(row["embedding"]) for row in rows]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise _no_answer("the embedding endpoint answers with something else than vectors") from error
    if len(vectors) != count or len(set(map(len, vectors))) != 1 or not vectors[0]:
        raise _no_answer("the embedding endpoint answers with other vectors than were asked for")
    return vectors


def _float32(numbers: Sequence[float]) -> bytes:
    floats = array("f", numbers)
    if _BIG_ENDIAN:
        floats.byteswap()
    return floats.tobytes()


_BIG_ENDIAN: Final = array("H", [1]).tobytes() == b"\x00\x01"


def _no_answer(what: str) -> StorageUnavailable:
    return StorageUnavailable(
        what,
        code="embedder_unavailable",
        hint="It is tried again, and until then searches compare words alone. See that search.embedding_url answers.",
        retryable=True,
    )
