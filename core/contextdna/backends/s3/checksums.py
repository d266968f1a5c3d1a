"""Checksums that S3 compares with the bytes that arrive: SHA-256, or MD5 for servers that refuse any other.

Our own check of what is read never rests on these.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Checksums:
    """One kind of checksum, and how requests and answers carry it."""

    digest: Callable[[bytes | memoryview], bytes]
    argument: str
    """Of requests that carry bytes: base64."""
    told: str
    """Of answers about objects."""
    show: Callable[[bytes], str]
    """How answers write it."""
    asking: Mapping[str, str]
    """What makes S3 tell it."""
    upload: Mapping[str, str]
    """What an upload in parts begins with."""
    is_listed: bool
    """Whether the end of an upload names each part's."""

    def sent(self, digest: bytes) -> dict[str, str]:
        """Give the argument that goes with bytes."""
        return {self.argument: base64.b64encode(digest).decode()}

    def composite(self, digests: Sequence[bytes]) -> str:
        """Give what S3 tells of an object of parts: the checksum of the parts' checksums, and how many they are.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        """
        return f"{self.show(self.digest(b''.join(digests)))}-{len(digests)}"

    def is_told(self, expected: str, found: Mapping[str, Any]) -> bool:
        """Tell whether an answer about an object has a checksum; some servers leave out how many parts there are."""
        told = str(found.get(self.told, "")).strip('"')
        return bool(told) and told.partition("-")[0] == expected.partition("-")[0]


def _sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def _md5(data: bytes | memoryview) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _as_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


SHA256: Final = Checksums(
    digest=_sha256,
    argument="ChecksumSHA256",
    told="ChecksumSHA256",
    show=_as_base64,
    asking={"ChecksumMode": "ENABLED"},
    upload={"ChecksumAlgorithm": "SHA256", "ChecksumType": "COMPOSITE"},
    is_listed=True,
)
MD5: Final = Checksums(
    digest=_md5, argument="ContentMD5", told="ETag", show=bytes.hex, asking={}, upload={}, is_listed=False
)
"""An object's ETag is the MD5 of its bytes, unless S3 encrypts it with a key of KMS: then it looks changed, and a put
writes it anew."""

CHECKSUMS: Final[Mapping[str, Checksums]] = {"sha256": SHA256, "md5": MD5}
