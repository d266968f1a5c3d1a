"""Vectors: packed for storage, and held in memory to find the nearest ones. NumPy is imported when one is at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from contextdna.errors import SettingsInvalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

FLOAT_BYTES: Final = 4
_BLOCK_ROWS: Final = 4096
_SIGNATURE_WORD_BITS: Final = 64
_LARGEST: Final = 127


def pack_vector(vector: bytes) -> bytes:
    """Pack a float32 vector into one signed byte a dimension; empty where it points nowhere."""
    np = _numpy()
    floats = np.frombuffer(vector, dtype="<f4")
    largest = float(np.abs(floats).max(initial=0.0))
    if not 0.0 < largest < float("inf"):
        return b""
    packed: bytes = np.rint(floats * (_LARGEST / largest)).astype(np.int8).tobytes()
    return packed


def direction(vector: bytes) -> Floats | None:
    """Give a float32 vector at length one; None where it points nowhere."""
    np = _numpy()
    floats = np.frombuffer(vector, dtype="<f4").astype(np.float32)
    length = float(np.linalg.norm(floats))
    return floats / np.float32(length) if 0.0 < length < float("inf") else None


def cosines(asked: Floats, packed: Sequence[bytes]) -> list[float]:
    """Compare a direction with packed vectors of its dimension."""
    if not packed:
        return []
    return [float(score) for score in _dots(_rows(packed, len(asked)), asked)]


@dataclass(frozen=True, slots=True)
class _Block:
    """Some vectors with their serials: floats at length one, or one bit a dimension."""

    serials: NDArray[np.int64]
    rows: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Shelf:
    """The vectors of one project, as far as they are read. Never changed: a search keeps the one that it began with.

    While the floats fit into ``bytes_max`` they are held; else one bit a dimension (its sign), by which candidates
    are chosen before they are compared exactly.
    """

    space: int
    dimension: int
    newest: int = 0
    """The serial up to which vectors are read."""
    gone: int = 0
    """What ``EmbeddingSpace.gone`` was when the last ones were left out that stand no longer."""
    exact: bool = True
    blocks: tuple[_Block, ...] = ()

    @property
    def count(self) -> int:
        """How many vectors are held."""
        return sum(len(block.serials) for block in self.blocks)

    @property
    def size_bytes(self) -> int:
        """How much memory they take."""
        return sum(block.rows.nbytes + block.serials.nbytes for block in self.blocks)

    def with_more(self, serials: Sequence[int], packed: Sequence[bytes], *, newest: int, bytes_max: int) -> Shelf:
        """Give a shelf that holds further packed vectors."""
        shelf = replace(self, newest=max(newest, self.newest))
        if not serials:
            return shelf
        floats_bytes = (self.count + len(serials)) * self.dimension * FLOAT_BYTES
        if self.exact and floats_bytes > bytes_max:
            shelf = shelf._as_signatures()
        return replace(shelf, blocks=(*shelf.blocks[:-1], *shelf._grown(serials, packed)))

    def keeping(self, serials: Sequence[int], *, gone: int) -> Shelf:
        """Give a shelf without the vectors that stand no longer."""
        np = _numpy()
        standing = np.asarray(serials, dtype=np.int64)
        kept = []
        for block in self.blocks:
            there = np.isin(block.serials, standing)
            if there.any():
                kept.append(block if there.all() else _Block(block.serials[there], block.rows[there]))
        return replace(self, blocks=tuple(kept), gone=gone)

    def nearest_first(self, asked: Floats, *, first: int) -> Iterator[list[tuple[int, float]]]:
        """Go through serials and their (for signatures: estimated) cosines, best first, in ever larger handfuls.

        What points away from ``asked`` is left out.

        Args:
            asked: A direction of the shelf's dimension.
            first: The size of the first handful; each further one is eight times the one before.
        """
        if not self.blocks:
            return
        np = _numpy()
        serials = np.concatenate([block.serials for block in self.blocks])
        scores = np.concatenate([self._scores(block, asked) for block in self.blocks])
        toward = np.flatnonzero(scores > 0.0)
        serials, scores = serials[toward], scores[toward]
        size = first
        while len(serials):
            if size < len(serials):
                best = np.argpartition(-scores, size - 1)
                chosen, rest = best[:size], best[size:]
            else:
                chosen, rest = np.arange(len(serials)), np.arange(0)
            ordered = chosen[np.lexsort((-serials[chosen], -scores[chosen]))]
            yield list(zip(serials[ordered].tolist(), scores[ordered].tolist(), strict=True))
            serials, scores, size = serials[rest], scores[rest], size * 8

    def _scores(self, block: _Block, asked: Floats) -> Floats:
        np = _numpy()
        if self.exact:
            return _dots(block.rows, asked)
        differing = np.bitwise_count(block.rows ^ _signatures(asked[np.newaxis, :])[0]).sum(axis=1, dtype=np.float32)
        estimate: Floats = np.cos(differing * np.float32(np.pi / self.dimension)).astype(np.float32)
        return estimate

    def _grown(self, serials: Sequence[int], packed: Sequence[bytes]) -> Iterator[_Block]:
        """Fill the last block, then make further ones: what is shared with other shelves is never written to."""
        np = _numpy()
        new_serials = np.asarray(serials, dtype=np.int64)
        new_rows = self._held(_rows(packed, self.dimension))
        if self.blocks:
            new_serials = np.concatenate([self.blocks[-1].serials, new_serials])
            new_rows = np.concatenate([self.blocks[-1].rows, new_rows])
        for start in range(0, len(new_serials), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            yield _Block(new_serials[part].copy(), new_rows[part].copy())

    def _held(self, rows: Floats) -> NDArray[Any]:
        return rows if self.exact else _signatures(rows)

    def _as_signatures(self) -> Shelf:
        blocks = tuple(_Block(block.serials, _signatures(block.rows)) for block in self.blocks)
        return replace(self, exact=False, blocks=blocks)


def _rows(packed: Sequence[bytes], dimension: int) -> Floats:
    """Unpack vectors to length one."""
    np = _numpy()
    rows: Floats = np.frombuffer(b"".join(packed), dtype=np.int8).reshape(len(packed), dimension).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # a packed vector has one share of 127 at least
    return rows


def _dots(rows: Floats, asked: Floats) -> Floats:
    """Multiply row by row: a product of the whole matrix wakes all threads of BLAS, which a busy machine punishes."""
    dots: Floats = _numpy().vecdot(rows, asked)
    return dots


def _signatures(rows: Floats) -> NDArray[Any]:
    """Give the signs of directions, in words of 64 bits."""
    np = _numpy()
    spare = -rows.shape[1] % _SIGNATURE_WORD_BITS
    bits = np.packbits(np.pad(rows > 0.0, ((0, 0), (0, spare))), axis=1)
    words: NDArray[Any] = np.ascontiguousarray(bits).view(np.uint64)
    return words


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise SettingsInvalid(
            "the package numpy is not installed, which searching by meaning needs",
            code="embedder_missing",
            hint="Install contextdna[semantic], or set search.embedder to none.",
        ) from error
    return numpy
