"""Addresses of buckets and objects: what is read in them, and that what is refused is not repeated."""

import pytest

from contextdna.domain.object_sources import allowed_object
from contextdna.errors import AccessDenied
from contextdna.values.ids import ProjectId
from contextdna.values.object_place import ObjectPlace, ObjectStore, parse_object_place, parse_object_store
from contextdna.values.settings import HubSettings, S3Settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://my-bucket", ObjectStore("my-bucket")),
        ("s3://my-bucket/", ObjectStore("my-bucket")),
        ("s3://my-bucket/a/b/", ObjectStore("my-bucket", "a/b/")),
        ("s3://my.bucket/a%20b?region=eu-central-1", ObjectStore("my.bucket", "a b/", region="eu-central-1")),
        (
            "s3://my-bucket?endpoint_url=https://h:9000/&path_style=false",
            ObjectStore("my-bucket", "", "https://h:9000", path_style=False),
        ),
    ],
)
def test_a_bucket_is_read(url: str, expected: ObjectStore) -> None:
    assert parse_object_store(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIASECRET:hidden@my-bucket/a",
        "s3://my-bucket?aws_secret_access_key=hidden",
        "s3://my-bucket?endpoint_url=https://user:hidden@host",
        "s3://my-bucket?endpoint_url=https://host/hidden",
        "s3://my-bucket?endpoint_url=file:///hidden",
        "s3://my-bucket?endpoint_url=https://host:hidden",
        "s3://my-bucket?path_style=hidden",
        "s3://my-bucket/../hidden",
        "s3://my-bucket/a#hidden",
        "s3://Hidden",
        "s3://127.0.0.1/hidden",
        "https://my-bucket/hidden",
        "s3://",
        "s3://[hidden",
    ],
)
def test_what_is_no_bucket_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as refused:
        parse_object_store(url)
    assert "hidden" not in str(refused.value).lower()


@pytest.mark.parametrize("name", ["b", "My-bucket", "bucket-"])
def test_a_name_that_no_bucket_has_is_told_of(name: str) -> None:
    with pytest.raises(ValueError, match="3 to 63"):
        parse_object_store(f"s3://{name}/p")


def test_the_key_of_an_object_is_taken_as_it_stands() -> None:
    assert parse_object_place("s3://my-bucket/a b/%2e%2e/ü?x=1") == ObjectPlace("my-bucket", "a b/%2e%2e/ü?x=1")


@pytest.mark.parametrize("project_id", ["..", ".", "other"])
def test_a_project_reaches_only_what_bears_its_name(project_id: str) -> None:
    settings = HubSettings(artifacts="s3://my-bucket/p", s3=S3Settings(allowed_sources=("s3://reports/{project_id}/",)))
    for key in ("mine/a", "a", "other-one/a"):
        with pytest.raises(AccessDenied):
            allowed_object(f"s3://reports/{key}", ProjectId(project_id), settings)
    assert allowed_object("s3://reports/mine/a", ProjectId("mine"), settings) == ObjectPlace("reports", "mine/a")
