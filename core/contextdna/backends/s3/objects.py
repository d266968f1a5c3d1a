"""Objects that artifacts are made from."""

from contextdna.backends.s3.calls import S3Calls
from contextdna.backends.s3.checksums import SHA256
from contextdna.backends.s3.errors import unavailable
from contextdna.backends.s3.reading import Absent, Changed, TooLarge, read_object
from contextdna.errors import Conflict, LimitExceeded, NotFound, StorageUnavailable
from contextdna.values.object_place import ObjectPlace


class S3Objects:
    """``ObjectSource`` over the endpoint that the artifacts are kept at, with the same credentials."""

    def __init__(self, calls: S3Calls) -> None:
        self._calls = calls

    async def fetch(self, place: ObjectPlace, *, bytes_max: int) -> bytes:
        """Read one version of an object, checked against the SHA-256 that S3 has of it, if any.

        Raises:
            NotFound: ``object_not_found``.
            LimitExceeded: ``artifact_too_large``; nothing of it was read.
            Conflict: ``object_changed``: it was written while it was read.
            StorageUnavailable: S3 is away, or refuses us.
        """
        where = {"Bucket": place.bucket, "Key": place.key, **self._calls.checksums.asking}
        try:
            data, told = await read_object(self._calls, where, bytes_max=bytes_max)
        except Absent:
            raise _absent() from None
        except TooLarge:
            raise LimitExceeded(
                f"the object is larger than {bytes_max} bytes",
                code="artifact_too_large",
                hint="Raise limits.artifact_bytes_max, or attach a part of it.",
            ) from None
        except Changed:
            raise Conflict(
                "the object was changed while it was read", code="object_changed", hint="Attach it again."
            ) from None
        except StorageUnavailable as error:
            if error.code == "storage_bucket_missing":
                raise _absent() from None
            raise
        expected = told.get(SHA256.told, "")
        if expected and "-" not in expected:
            digest = await self._calls.apart(lambda: SHA256.digest(data))
            if SHA256.show(digest) != expected:
                raise unavailable("storage_garbled", "the object's bytes are not what S3 has a checksum of")
        return data


def _absent() -> NotFound:
    return NotFound("there is no such object", code="object_not_found", hint="Check bucket and key.")
