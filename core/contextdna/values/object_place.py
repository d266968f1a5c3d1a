"""Where objects lie: a bucket with a prefix that keeps artifacts, and one object that an artifact is made from."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

OBJECT_SCHEME: Final = "s3://"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_KEY_BYTES_MAX: Final = 1024
_OPTIONS: Final = frozenset({"endpoint_url", "region", "path_style"})
_TRUTHS: Final = {"true": True, "false": False, "1": True, "0": False}
# No name of a bucket in s3:// may stand for a network address or an access point.
# Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_ADDRESS: Final = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """One object, or what all objects under a prefix begin with."""

    bucket: str
    key: str

    def holds(self, place: "ObjectPlace") -> bool:
        """Tell whether an object lies under this prefix, which ends at a slash or is empty."""
        return self.bucket == place.bucket and place.key.startswith(self.key) and place.key != self.key


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A bucket that keeps artifacts, and how it is reached."""

    bucket: str
    prefix: str = ""
    """Ends with a slash, or is empty."""
    endpoint_url: str = ""
    """Of a server that speaks S3; empty: the one of the SDK, which is Amazon's unless its own settings say else."""
    region: str = ""
    path_style: bool | None = None
    """Whether the bucket stands in the path and not in the host's name; None: with an endpoint of one's own."""

    @property
    def place(self) -> str:
        """How people name it."""
        return f"{OBJECT_SCHEME}{self.bucket}/{self.prefix}"


def parse_object_store(url: str) -> ObjectStore:
    """Read ``s3://bucket/prefix?endpoint_url=…&region=…&path_style=…``.

    Raises:
        ValueError: It is none, with a message that repeats nothing of it: it may hold a secret by mistake.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("use s3://bucket/prefix?endpoint_url=https://…&region=…") from None
    if "@" in parts.netloc:
        raise ValueError("no credentials here: the environment, or the SDK's own files, give them")
    if parts.scheme != "s3" or parts.fragment or not parts.netloc:
        raise ValueError("use s3://bucket/prefix?endpoint_url=https://…&region=…")
    if not is_bucket(parts.netloc):
        raise ValueError("the bucket's name is none: 3 to 63 of a-z, 0-9, . and -, with a letter or digit at both ends")
    if set(options) - _OPTIONS:
        raise ValueError("after the ? use endpoint_url, region and path_style only")
    style = options.get("path_style", "")
    if style and style not in _TRUTHS:
        raise ValueError("path_style is true or false")
    endpoint = options.get("endpoint_url", "")
    if endpoint and not is_endpoint(endpoint):
        raise ValueError("endpoint_url is http(s)://host:port, without user, path and query")
    prefix = unquote(parts.path).strip("/")
    if prefix and not is_key(prefix):
        raise ValueError("the prefix is no path of plain names")
    return ObjectStore(
        parts.netloc,
        f"{prefix}/" if prefix else "",
        endpoint.rstrip("/"),
        options.get("region", ""),
        _TRUTHS.get(style),
    )


def parse_object_place(url: str) -> ObjectPlace:
    """Read ``s3://bucket/key`` as callers name an object; the key is taken as it stands.

    Raises:
        ValueError: It names no object, or one by a path that leads elsewhere where a server takes it for a path.
    """
    bucket, _, key = url.removeprefix(OBJECT_SCHEME).partition("/")
    if not url.startswith(OBJECT_SCHEME) or not is_bucket(bucket) or not is_key(key):
        raise ValueError("use s3://bucket/key")
    return ObjectPlace(bucket, key)


def parse_object_prefix(url: str) -> ObjectPlace:
    """Read ``s3://bucket/prefix/``; the prefix ends at a slash, added where there is none, or is the whole bucket.

    Raises:
        ValueError: It is none.
    """
    bucket, _, key = url.removeprefix(OBJECT_SCHEME).partition("/")
    key = key.rstrip("/")
    if not url.startswith(OBJECT_SCHEME) or not is_bucket(bucket) or (key and not is_key(key)):
        raise ValueError("use s3://bucket/prefix/")
    return ObjectPlace(bucket, f"{key}/" if key else "")


def is_bucket(name: str) -> bool:
    """Tell whether a bucket may have a name; what reads as an address or a path is none."""
    return bool(_BUCKET.fullmatch(name)) and ".." not in name and not _ADDRESS.fullmatch(name)


def is_key(key: str) -> bool:
    """Tell whether an object may have a key, here: some servers take keys for paths, so none has steps of one."""
    if not key or not key.isprintable() or "\\" in key:
        return False
    if len(key.encode("utf-8", "surrogatepass")) > _KEY_BYTES_MAX:
        return False
    return not {"", ".", ".."} & set(key.split("/"))


def is_endpoint(url: str) -> bool:
    """Tell whether a server may be named so: scheme, host and port, and nothing else."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and parts.path in ("", "/")
        and not (parts.query or parts.fragment)
    )
