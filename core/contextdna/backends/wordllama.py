"""Embedder: WordLlama, static word vectors that come within its package (extra ``semantic``). It never goes online."""

import logging
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from contextdna.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIG: Final = "l2_supercat"
_DIMENSION: Final = 256


class WordLlamaEmbedder:
    """``Embedder`` by WordLlama: a sixth of a millisecond a text on one core, 16 MB of weights, loaded at first use."""

    batch_max: Final = 64

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._model: Any = None

    @property
    def model(self) -> str:
        """Name the product and its model."""
        return f"wordllama/{_CONFIG}_{_DIMENSION}"

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Give a vector for each text, on a worker thread.

        Raises:
            SettingsInvalid: ``embedder_missing`` or ``embedder_invalid``.
        """
        return await anyio.to_thread.run_sync(self._embed, list(texts), abandon_on_cancel=True)

    def _embed(self, texts: list[str]) -> list[bytes]:
        with self._loading:  # its tokenizer is set up by each call: one at a time
            if self._model is None:
                self._model = _load()
            return [row.astype("<f4").tobytes() for row in self._model.embed(texts)]


def _load() -> Any:
    try:
        with _logging_left_alone():
            import wordllama
    except ImportError as error:
        raise SettingsInvalid(
            "the package wordllama is not installed",
            code="embedder_missing",
            hint="Install contextdna[semantic], or set search.embedder to none.",
        ) from error
    folder = Path(wordllama.__file__).parent  # else it looks for its tokenizer in the user's cache, and online
    try:
        return wordllama.WordLlama.load(_CONFIG, cache_dir=folder, dim=_DIMENSION, disable_download=True)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(
            "the package wordllama holds no weights that can be read",
            code="embedder_invalid",
            hint="Install contextdna[semantic] again.",
        ) from error


@contextmanager
def _logging_left_alone() -> "Iterator[None]":
    """Undo what the import does to the root logger: it sets it up for itself, at level INFO."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("wordllama").setLevel(logging.WARNING)
