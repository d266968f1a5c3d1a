"""Port: an embedder, which turns texts into vectors."""

from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """Texts in, vectors out. It may be slow and it may fail: nothing that must not wait or fail rests on it."""

    @property
    def model(self) -> str:
        """Name the product and its model. Vectors of different names are never compared."""
        ...

    @property
    def batch_max(self) -> int:
        """Tell how many texts one call takes."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Give a vector for each text: little-endian float32, all of one dimension, of any length but zero.

        Args:
            texts: 1 to ``batch_max`` texts, none of them empty.

        Raises:
            StorageUnavailable: ``embedder_unavailable``: it does not answer now, or not with vectors.
            SettingsInvalid: ``embedder_missing`` or ``embedder_invalid``: it cannot work as it is set.
        """
        ...
