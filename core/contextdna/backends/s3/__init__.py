"""S3: blobs as objects of a bucket, by boto3 (extra ``s3``). Imported only when it is used."""

from contextdna.backends.s3.calls import S3Calls, open_calls
from contextdna.backends.s3.objects import S3Objects
from contextdna.backends.s3.store import BLOBS, S3BlobStore

__all__ = ["BLOBS", "S3BlobStore", "S3Calls", "S3Objects", "open_calls"]
