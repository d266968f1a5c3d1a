"""Embedder: FastEmbed, sentence transformers by ONNX on this machine (extra ``fastembed``).

It downloads a model that is not in its cache yet: that is its user's choice, by naming the model.
"""

import threading
from collections.abc import Sequence
from typing import Any, Final

import anyio.to_thread

from contextdna.errors import SettingsInvalid, StorageUnavailable

DEFAULT_MODEL: Final = "BAAI/bge-small-en-v1.5"


class FastEmbedEmbedder:
    """``Embedder`` by FastEmbed; the model is loaded at first use.

    Args:
        model: One of FastEmbed's models.
    """

    batch_max: Final = 32

    def __init__(self, model: str = "") -> None:
        self._name = model or DEFAULT_MODEL
        self._loading = threading.Lock()
        self._loaded: Any = None

    @property
    def model(self) -> str:
        """Name the product and its model."""
        return f"fastembed/{self._name}"

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Give a vector for each text, on a worker thread.

        Raises:
            SettingsInvalid: ``embedder_missing`` or ``embedder_invalid``.
            StorageUnavailable: ``embedder_unavailable``: the model cannot be loaded now.
        """
        return await anyio.to_thread.run_sync(self._embed, list(texts), abandon_on_cancel=True)

    def _embed(self, texts: list[str]) -> list[bytes]:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return [row.astype("<f4").tobytes() for row in self._loaded.embed(texts)]

    def _load(self) -> Any:
        try:
            from fastembed import TextEmbedding
        except ImportError as error:
            raise SettingsInvalid(
                "the package fastembed is not installed",
                code="embedder_missing",
                hint="Install contextdna[fastembed], or set search.embedder to none.",
            ) from error
        try:
            return TextEmbedding(self._name)
        except ValueError as error:
            raise SettingsInvalid(
                f"fastembed cannot use the model {self._name}",
                code="embedder_invalid",
                hint="Name one of its models in search.embedding_model, and see that it can be downloaded once.",
            ) from error
        except (OSError, RuntimeError) as error:
            raise StorageUnavailable(
                f"fastembed cannot load the model {self._name} now",
                code="embedder_unavailable",
                hint="See that it can be downloaded once; it is tried again.",
                retryable=True,
            ) from error
