"""Bodies as bytes: compact JSON, compressed with zstd when large."""

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from contextdna.errors import IntegrityFault
from contextdna.values.record import Codec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# A body never holds more than the content limit times the worst JSON escape (6 bytes for one): a bomb guard.
_UNPACKED_BYTES_MAX: Final = 512 * 1024 * 1024

_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def pack(body: Mapping[str, Any], *, compress_over_bytes: int) -> tuple[bytes, Codec]:
    """Pack a body; bodies over ``compress_over_bytes`` are compressed when that makes them smaller."""
    plain = _encode(body).encode()
    if len(plain) > compress_over_bytes:
        squeezed = zstd.compress(plain)
        if len(squeezed) < len(plain):
            return squeezed, Codec.JSON_ZSTD
    return plain, Codec.JSON


def unpack(data: bytes, codec: Codec) -> dict[str, Any]:
    """Undo ``pack``.

    Raises:
        IntegrityFault: The bytes are not a packed body.
    """
    try:
        body = _decode((_inflated(data) if codec is Codec.JSON_ZSTD else data).decode())
    except (zstd.ZstdError, ValueError, RecursionError) as error:
        raise _unreadable() from error
    if not isinstance(body, dict):
        raise _unreadable()
    return body


def _inflated(data: bytes) -> bytes:
    """Decompress one whole frame, never further than the bound."""
    frame = zstd.ZstdDecompressor()
    plain: bytes = frame.decompress(data, _UNPACKED_BYTES_MAX)
    if not frame.eof or frame.unused_data:
        raise ValueError("not one whole frame within the bound")
    return plain


def _unreadable() -> IntegrityFault:
    return IntegrityFault(
        "a stored body cannot be unpacked",
        code="body_unreadable",
        hint="Run `contextdna doctor` and restore the data folder from a backup.",
    )


def compact_json(value: object) -> str:
    """Encode as JSON without spaces; NaN is refused with ValueError."""
    return _encode(value)
