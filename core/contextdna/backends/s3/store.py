"""Blobs as objects of a bucket: one object a blob, named by the SHA-256 of its bytes."""

import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from botocore.exceptions import ClientError

from contextdna.backends.s3.calls import S3Calls
from contextdna.backends.s3.checksums import SHA256
from contextdna.backends.s3.errors import is_absent, is_there_already, status_of, unavailable
from contextdna.backends.s3.reading import Absent, read_object
from contextdna.backends.s3.uploads import Upload, parts_of
from contextdna.errors import ContextDnaError, IntegrityFault, NotFound
from contextdna.ports.storage import Progress
from contextdna.values.backend_health import BackendHealth

BLOBS: Final = "blobs/"
"""What the keys of blobs begin with, behind the prefix of the store: nobody's objects are attached from there."""

_KEY: Final = re.compile(r"[0-9a-f]{64}")
_YOUNG: Final = timedelta(hours=12)
"""Who stores a blob again that is older writes it anew, so that no sweep takes it for an orphan."""
_LISTED: Final = 1000
_HEALTH_DEADLINE_S: Final = 3.0
_CHUNK_BYTES: Final = 1024 * 1024
_NOT_IMPLEMENTED: Final = 501


class S3BlobStore:
    """``BlobStore`` in a bucket; several servers may share it.

    A blob appears whole or not at all. S3 checks the checksum of what arrives, and every read the SHA-256.

    Args:
        calls: The client.
        young: Age up to which a blob that is stored again stays as it is.
    """

    has_links = True

    def __init__(self, calls: S3Calls, *, young: timedelta = _YOUNG) -> None:
        self._calls = calls
        self._young = young
        self._prefix = f"{calls.store.prefix}{BLOBS}"
        self._conditions = True

    async def put(self, data: bytes, *, progress: Progress | None = None) -> str:
        """Store bytes durably and give their key; storing the same bytes twice keeps one copy.

        Args:
            data: The bytes; what is over ``multipart_over_bytes`` goes up in parts.
            progress: Told how many bytes S3 has, of how many.

        Raises:
            StorageUnavailable: S3 is away, refuses us, is full, or got other bytes. Nothing was kept.
        """
        if len(data) <= self._calls.settings.multipart_over_bytes:
            digest = hashlib.sha256(data).digest() if len(data) < _CHUNK_BYTES else await self._digest(data)
            await self._put_whole(data, digest)
        else:
            digest = await self._digest(data)
            await self._put_parts(data, digest, progress)
        if progress is not None:
            await progress(len(data), len(data))
        return digest.hex()

    async def get(self, key: str) -> bytes:
        """Fetch bytes, checked against their key.

        Raises:
            NotFound: ``blob_not_found``.
            IntegrityFault: ``blob_changed``: the bytes are not what the key says.
            StorageUnavailable: S3 is away, or refuses us.
        """
        if not _KEY.fullmatch(key):
            raise _no_blob()
        try:
            data, _ = await read_object(self._calls, self._at(key))
        except Absent:
            raise _no_blob() from None
        digest = hashlib.sha256(data).digest() if len(data) < _CHUNK_BYTES else await self._digest(data)
        if digest.hex() != key:
            raise IntegrityFault(
                "a blob's bytes are not what its key says",
                code="blob_changed",
                hint="The object was changed or damaged: restore it from a backup.",
            )
        return data

    async def has(self, key: str) -> bool:
        """Tell whether a blob is there, without reading it.

        Raises:
            StorageUnavailable: S3 is away, or refuses us.
        """
        return bool(_KEY.fullmatch(key)) and await self._head(key) is not None

    async def waits(self, key: str) -> bool:  # noqa: ARG002 - the port's
        """Nothing waits: a blob is here, or nowhere."""
        return False

    async def delete(self, key: str) -> None:
        """Remove a blob; one that is not there is no error.

        Raises:
            StorageUnavailable: S3 is away, or refuses us.
        """
        if _KEY.fullmatch(key):
            await self._calls.ask("delete_object", self._at(key))

    async def keys_older_than(self, at: datetime) -> AsyncIterator[str]:
        """Go through the keys of blobs that were last put before a time, a thousand at a call.

        Raises:
            StorageUnavailable: S3 is away, or refuses us.
        """
        going_on: dict[str, str] = {}
        while True:
            where = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": _LISTED, **going_on}
            page = await self._calls.ask("list_objects_v2", where)
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self._prefix)
                if _KEY.fullmatch(key) and found["LastModified"] < at:
                    yield key
            if not page.get("IsTruncated"):
                return
            going_on = {"ContinuationToken": page["NextContinuationToken"]}

    async def drop_unfinished(self, at: datetime) -> None:
        """Abort uploads that were begun before a time and never finished: their parts take room, unseen.

        Raises:
            StorageUnavailable: S3 is away, or refuses us.
        """
        going_on: dict[str, str] = {}
        while True:
            where = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxUploads": _LISTED, **going_on}
            page = await self._calls.run(partial(_uploads, where))
            for found in page.get("Uploads", ()):
                if found["Initiated"] < at:
                    which = {"Bucket": self._bucket, "Key": found["Key"], "UploadId": found["UploadId"]}
                    await self._calls.run(partial(_aborted, which))
            if not page.get("IsTruncated"):
                return
            going_on = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def link(self, key: str, *, name: str, media_type: str, valid_s: int) -> str:
        """Give a URL by which whoever holds it may fetch a blob for a while; browsers save it and show nothing of it.

        Args:
            key: The blob. Whether it is there is not looked at.
            name: The file name that it is saved by.
            media_type: What it is served as.
            valid_s: How long the URL is good for, in seconds; less where the credentials end earlier.

        Raises:
            StorageUnavailable: There are no credentials to sign with.
        """
        where = {
            **self._at(key),
            "ResponseContentType": media_type,
            "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        }
        return await self._calls.sign("get_object", where, valid_s=valid_s)

    async def health(self) -> BackendHealth:
        """Ask for the bucket, within three seconds."""
        begun = time.monotonic()
        problem = ""
        try:
            await self.check()
        except ContextDnaError as error:
            problem = error.code
        return BackendHealth("S3", not problem, (time.monotonic() - begun) * 1000, problem)

    async def check(self) -> None:
        """Ask whether the bucket is there and may be used, within three seconds.

        Raises:
            StorageUnavailable: It cannot be used, or not now.
        """

        def ask(client: Any) -> None:
            try:
                client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                missing = {"Error": {"Code": "NoSuchBucket"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
                raise ClientError(missing, "HeadBucket") from None  # type: ignore[arg-type, unused-ignore]

        await self._calls.run(ask, deadline_s=_HEALTH_DEADLINE_S)

    async def keeps_versions(self) -> bool:
        """Tell whether the bucket keeps what is deleted as an older version.

        Raises:
            StorageUnavailable: S3 is away, or does not tell.
        """
        told = await self._calls.ask("get_bucket_versioning", {"Bucket": self._bucket})
        return bool(told.get("Status") == "Enabled")

    @property
    def _bucket(self) -> str:
        return self._calls.store.bucket

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{key}"}

    @property
    def _encryption(self) -> dict[str, str]:
        own = self._calls.settings
        wanted = {"ServerSideEncryption": own.encryption} if own.encryption else {}
        return wanted | ({"SSEKMSKeyId": own.kms_key_id} if own.kms_key_id else {})

    async def _digest(self, data: bytes) -> bytes:
        return await self._calls.apart(lambda: hashlib.sha256(data).digest())

    async def _put_whole(self, data: bytes, digest: bytes) -> None:
        checksums = self._calls.checksums
        check = digest if checksums is SHA256 else checksums.digest(data)
        request = {**self._at(digest.hex()), "Body": data, **checksums.sent(check), **self._encryption}
        if await self._unless_there(lambda client, condition: client.put_object(**request, **condition), len(data)):
            return
        if not await self._stands(digest.hex(), len(data), [checksums.show(check)]):
            await self._calls.ask("put_object", request, size_bytes=len(data))

    async def _put_parts(self, data: bytes, digest: bytes, progress: Progress | None) -> None:
        key = digest.hex()
        parts = parts_of(data, self._calls.settings.part_bytes)
        checksums = self._calls.checksums
        digests = await self._calls.apart(lambda: [checksums.digest(part) for part in parts])
        whole = checksums.composite(digests)
        if await self._stands(key, len(data), [checksums.show(digest), whole]):
            return
        async with Upload.begun(self._calls, self._at(key), self._encryption) as upload:
            await upload.send(parts, digests, progress)
            is_complete = await upload.complete(whole)
        if not is_complete and not await self._stands(key, len(data), [whole]):
            raise unavailable("storage_busy", "S3 lost an upload before it was complete")

    async def _unless_there(self, put: Callable[[Any, dict[str, str]], Any], size_bytes: int) -> bool:
        """Put where nothing stands; tell whether it did. A server that knows no conditions is asked once."""
        condition = {"IfNoneMatch": "*"} if self._conditions else {}

        def attempt(client: Any) -> int:
            try:
                put(client, condition)
            except ClientError as error:
                if is_there_already(error):
                    return 412
                if condition and status_of(error) == _NOT_IMPLEMENTED:
                    return _NOT_IMPLEMENTED
                raise
            return 200

        status = await self._calls.run(attempt, size_bytes=size_bytes)
        if status == _NOT_IMPLEMENTED:
            self._conditions = False
        return status == 200

    async def _stands(self, key: str, size_bytes: int, expected: Sequence[str]) -> bool:
        """Tell whether a blob stands there, whole, and young enough for no sweep to take it."""
        found = await self._head(key)
        return (
            found is not None
            and found["ContentLength"] == size_bytes
            and any(self._calls.checksums.is_told(checksum, found) for checksum in expected)
            and datetime.now(UTC) - found["LastModified"] < self._young
        )

    async def _head(self, key: str) -> dict[str, Any] | None:
        def ask(client: Any) -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = client.head_object(**self._at(key), **self._calls.checksums.asking)
            except ClientError as error:
                if is_absent(error):
                    return None
                raise
            return found

        return await self._calls.run(ask)


def _uploads(where: dict[str, Any], client: Any) -> dict[str, Any]:
    try:
        page: dict[str, Any] = client.list_multipart_uploads(**where)
    except ClientError as error:
        if status_of(error) == _NOT_IMPLEMENTED:  # some servers end unfinished uploads by themselves
            return {}
        raise
    return page


def _aborted(which: dict[str, str], client: Any) -> None:
    try:
        client.abort_multipart_upload(**which)
    except ClientError as error:
        if not is_absent(error):  # another server tidies, too
            raise


def _no_blob() -> NotFound:
    return NotFound("no such blob", code="blob_not_found", hint="It was never stored here, or it was purged.")
