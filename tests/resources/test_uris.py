"""URIs: what we write we read back, and nothing else is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextdna import ContextDnaError, InvalidInput, NotFound, TokenId
from contextdna.values.ids import new_token_text
from contextdna_resources import TEMPLATES, Noun, ResourceUri, parse_uri
from contextdna_resources.paging import Place, read_cursor, write_cursor
from contextdna_resources.uris import PAGED, PATHS, URI_CHARS_MAX, template

NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z").filter(lambda name: not name.startswith("ses_"))
SESSION_IDS = st.from_regex(r"\Ases_[0-9a-z]{22}\Z")


@st.composite
def uris(draw: st.DrawFn) -> ResourceUri:
    noun = draw(st.sampled_from(list(Noun)))
    depth = len(PATHS[noun])
    return ResourceUri(
        noun,
        project_id=draw(NAMES) if depth > 1 else "",
        item_id=draw(SESSION_IDS if noun is Noun.CONVERSATION else NAMES) if depth > 3 else "",
        cursor=draw(st.text(st.characters(codec="ascii"), max_size=40)) if noun in PAGED else "",
    )


@given(uris())
def test_a_written_uri_reads_back_as_itself(uri: ResourceUri) -> None:
    assert parse_uri(str(uri)) == uri


def attempt(text: str) -> tuple[ResourceUri | None, ContextDnaError | None]:
    try:
        return parse_uri(text), None
    except ContextDnaError as error:
        return None, error


@given(st.text(max_size=80), st.booleans())
def test_any_text_is_read_canonically_or_refused_with_a_code(text: str, with_scheme: bool) -> None:
    uri, error = attempt(f"contextdna://{text}" if with_scheme else text)
    if error is not None:
        assert error.code in {"uri_invalid", "resource_not_found", "session_handle_in_uri", "access_token_in_argument"}
        assert error.hint
    if uri is not None:
        assert parse_uri(str(uri)) == uri


@given(uris(), st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_written_cursor_reads_back_as_its_place(uri: ResourceUri, offset: int, chars: int) -> None:
    place = Place(offset, chars)
    cursor = write_cursor(uri, place)
    assert read_cursor(ResourceUri(uri.noun, uri.project_id, uri.item_id, cursor)) == place


@given(st.text(max_size=60))
def test_any_cursor_is_read_or_refused_with_its_code(cursor: str) -> None:
    code = ""
    try:
        read_cursor(ResourceUri(Noun.ARTIFACTS, "default", cursor=cursor))
    except InvalidInput as error:
        code = error.code
    assert code in {"", "cursor_invalid"}


def test_every_noun_is_listed_once_as_a_fixed_uri_or_a_template() -> None:
    assert [entry.uri_template for entry in TEMPLATES] == [
        template(noun) for noun, path in PATHS.items() if any(part.startswith("{") for part in path)
    ]


def test_names_may_be_percent_encoded_once() -> None:
    uri = parse_uri("contextdna://projects/a%3Ab%40c/artifacts")
    assert uri == ResourceUri(Noun.ARTIFACTS, "a:b@c")
    assert str(uri) == "contextdna://projects/a:b@c/artifacts"


INVALID = [
    "",
    "contextdna://guide#top",
    "contextdna://guide?x=1",
    "contextdna://guide?",
    "contextdna://guide?cursor=abc",
    "contextdna://projects/default?cursor=abc",
    "contextdna://projects/",
    "contextdna://projects//artifacts",
    "contextdna://projects/default/artifacts/",
    "contextdna://projects/../artifacts",
    "contextdna://projects/%2e%2e/artifacts",
    "contextdna://projects/%252e%252e/artifacts",
    "contextdna://projects/a%2Fb/artifacts",
    "contextdna://projects/a%5Cb",
    "contextdna://projects/a\\b",
    "contextdna://projects/a%00",
    "contextdna://projects/a%0A",
    "contextdna://projects/a\n",
    "contextdna://projects/a b",
    "contextdna://projects/a%20b",
    "contextdna://projects/a%zz",
    "contextdna://projects/a%",
    "contextdna://projects/%ff",
    "contextdna://projects/%C0%AE%C0%AE",
    "contextdna://projects/prøject",
    "contextdna://projects/-a",
    f"contextdna://projects/{'a' * 129}",
    f"contextdna://projects/{'a' * URI_CHARS_MAX}",
    "contextdna://projects/{project_id}",
    "contextdna://projects/' OR 1=1 --",
    "contextdna://projects/a'--",
    "contextdna://projects/default/artifacts?Cursor=a",
    "contextdna://projects/default/artifacts?cursor",
    "contextdna://projects/default/artifacts?cursor=a&cursor=b",
    "contextdna://projects/default/artifacts?cursor=a&limit=5",
    "contextdna://projects/default/artifacts?limit=5",
]
UNKNOWN = [
    "guide",
    "file:///etc/passwd",
    "http://guide",
    "CONTEXTDNA://guide",
    "contextdna:guide",
    "contextdna://",
    "contextdna:///guide",
    "contextdna://guide/",
    "contextdna://guide/../health",
    "contextdna://Guide",
    "contextdna://projects/default/",
    "contextdna://projects/default/artifacts/art_1/versions",
    "contextdna://projects/default/drones/alice",
    "contextdna://projects/default/audit",
    "contextdna://admin@guide",
]


@pytest.mark.parametrize("uri", INVALID)
def test_a_malformed_uri_is_refused(uri: str) -> None:
    with pytest.raises((InvalidInput, NotFound)) as caught:
        parse_uri(uri)
    assert caught.value.code in {"uri_invalid", "resource_not_found"}


@pytest.mark.parametrize("uri", [uri for uri in INVALID if uri.startswith("contextdna://projects/default/artifacts?")])
def test_an_unknown_query_is_named_as_such(uri: str) -> None:
    with pytest.raises(InvalidInput, match="query"):
        parse_uri(uri)


@pytest.mark.parametrize("uri", UNKNOWN)
def test_a_uri_of_no_resource_is_not_found(uri: str) -> None:
    with pytest.raises(NotFound) as caught:
        parse_uri(uri)
    assert caught.value.code == "resource_not_found"


@pytest.mark.parametrize(
    "uri",
    [
        "contextdna://projects/default/conversations/ses_1.topsecret",
        "contextdna://projects/default/conversations/ses_1%2Etopsecret",
        "contextdna://projects/default/memories/ses_1.topsecret",
        "contextdna://projects/ses_1.topsecret",
    ],
)
def test_a_handle_in_a_uri_is_refused_without_repeating_its_secret(uri: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_uri(uri)
    assert caught.value.code == "session_handle_in_uri"
    assert "topsecret" not in f"{caught.value.message}{caught.value.hint}"


def test_a_token_in_a_uri_is_refused_without_repeating_its_secret() -> None:
    token, secret = new_token_text(TokenId("tok_" + "0" * 22))
    for uri in (f"contextdna://projects/{token}", f"contextdna://projects/p/memories/x{token.replace('_', '%5F')}"):
        with pytest.raises(InvalidInput) as caught:
            parse_uri(uri)
        assert caught.value.code == "access_token_in_argument"
        assert secret[:4] not in f"{caught.value.message}{caught.value.hint}"
