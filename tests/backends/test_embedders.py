"""The embedders: real words through the model that comes along, real HTTP to an endpoint on this machine."""

import json
import logging
import math
import sys
import threading
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from contextdna.backends.fastembed import FastEmbedEmbedder
from contextdna.backends.openai_embeddings import OpenAiEmbedder
from contextdna.backends.wordllama import WordLlamaEmbedder
from contextdna.domain.vectors import Shelf, cosines, direction, pack_vector
from contextdna.errors import SettingsInvalid, StorageUnavailable

pytestmark = pytest.mark.anyio


def cosine(one: bytes, two: bytes) -> float:
    a, b = array("f", one), array("f", two)
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


# WordLlama


@pytest.fixture(scope="module")
def wordllama() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


async def test_wordllama_knows_near_words_offline(
    wordllama: WordLlamaEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", _no_network)
    asked, near, far = await wordllama.embed(
        ["how do I log in", "sign in with a user name and password", "the weather in May was sunny"]
    )
    assert len(asked) == len(near) == len(far) == 256 * 4
    assert cosine(asked, near) > cosine(asked, far) + 0.1


def _no_network(*_: object) -> None:
    raise AssertionError("it went online")


async def test_wordllama_gives_a_text_the_same_vector_alone_and_among_others(wordllama: WordLlamaEmbedder) -> None:
    [alone] = await wordllama.embed(["a short one"])
    among = await wordllama.embed(["a much longer text, with many more words than the other " * 20, "a short one"])
    assert cosine(alone, among[1]) == pytest.approx(1.0, abs=1e-5)


async def test_wordllama_leaves_the_root_logger_alone(wordllama: WordLlamaEmbedder) -> None:
    before = (list(logging.getLogger().handlers), logging.getLogger().level)
    await wordllama.embed(["x"])
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


async def test_a_missing_wordllama_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(SettingsInvalid) as caught:
        await WordLlamaEmbedder().embed(["x"])
    assert (caught.value.code, "contextdna[semantic]" in caught.value.hint) == ("embedder_missing", True)


async def test_eight_bits_a_dimension_lose_next_to_nothing(wordllama: WordLlamaEmbedder) -> None:
    texts = [f"the {noun} was {verb}" for noun in ("key", "token", "server", "test") for verb in ("lost", "found")]
    vectors = await wordllama.embed(texts)
    for vector in vectors:
        asked = direction(vector)
        assert asked is not None
        rough = cosines(asked, [pack_vector(other) for other in vectors])
        assert rough == pytest.approx([cosine(vector, other) for other in vectors], abs=0.01)


# FastEmbed


async def test_a_missing_fastembed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastembed", None)
    with pytest.raises(SettingsInvalid) as caught:
        await FastEmbedEmbedder().embed(["x"])
    assert (caught.value.code, "contextdna[fastembed]" in caught.value.hint) == ("embedder_missing", True)


async def test_fastembed_is_asked_for_the_model_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its models are downloaded, so a double stands for the package."""

    class TextEmbedding:
        def __init__(self, name: str) -> None:
            if name != "small":
                raise ValueError(name)

        def embed(self, texts: list[str]) -> Iterator[Any]:
            return (np.array([len(text), 1.0]) for text in texts)

    module = ModuleType("fastembed")
    module.TextEmbedding = TextEmbedding  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fastembed", module)
    embedder = FastEmbedEmbedder("small")
    assert embedder.model == "fastembed/small"
    assert await embedder.embed(["ab"]) == [array("f", [2.0, 1.0]).tobytes()]
    with pytest.raises(SettingsInvalid) as caught:
        await FastEmbedEmbedder("large").embed(["ab"])
    assert caught.value.code == "embedder_invalid"


# An OpenAI-compatible endpoint


@dataclass
class Endpoint:
    """A server on this machine that answers as it is told."""

    url: str = ""
    answers: list[Callable[[dict[str, Any]], tuple[int, Any]]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """Path, Authorization and body of each request."""


def vectors_of(body: dict[str, Any]) -> tuple[int, Any]:
    rows = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(body["input"])]
    return 200, {"data": rows[::-1]}


@contextmanager
def serving() -> Iterator[Endpoint]:
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.asked.append((self.path, self.headers.get("Authorization", ""), body))
            answer = endpoint.answers.pop(0) if endpoint.answers else vectors_of
            status, document = answer(body)
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1/"
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as found:
        yield found


async def _at_once(_: float) -> None: ...


@pytest.fixture
async def embedder(endpoint: Endpoint) -> AsyncIterator[OpenAiEmbedder]:
    async with OpenAiEmbedder("tiny", endpoint.url, key="sk-secret", sleep=_at_once) as made:
        yield made


async def test_texts_are_posted_and_vectors_come_back_in_their_order(
    endpoint: Endpoint, embedder: OpenAiEmbedder
) -> None:
    assert embedder.model == "openai/tiny"
    vectors = await embedder.embed(["a", "bbb"])
    assert [list(array("f", vector)) for vector in vectors] == [[1.0, 1.0], [3.0, 1.0]]
    assert endpoint.asked == [("/v1/embeddings", "Bearer sk-secret", {"model": "tiny", "input": ["a", "bbb"]})]


async def test_an_endpoint_without_a_key_gets_none(endpoint: Endpoint) -> None:
    async with OpenAiEmbedder("tiny", endpoint.url) as embedder:
        await embedder.embed(["a"])
    assert endpoint.asked[0][1] == ""


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_tried_again(endpoint: Endpoint, embedder: OpenAiEmbedder, status: int) -> None:
    endpoint.answers = [lambda _: (status, {})] * 2
    assert len(await embedder.embed(["a"])) == 1
    assert len(endpoint.asked) == 3


async def test_an_endpoint_that_stays_down_is_given_up_after_three_tries(
    endpoint: Endpoint, embedder: OpenAiEmbedder
) -> None:
    endpoint.answers = [lambda _: (503, {})] * 9
    with pytest.raises(StorageUnavailable) as caught:
        await embedder.embed(["a"])
    assert (caught.value.code, caught.value.retryable) == ("embedder_unavailable", True)
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_refusal_is_told_at_once_without_text_and_key(
    endpoint: Endpoint, embedder: OpenAiEmbedder, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.answers = [lambda body: (status, {"error": {"message": f"{body} sk-secret"}})]
    with pytest.raises(SettingsInvalid) as caught:
        await embedder.embed(["a private text"])
    assert caught.value.code == "embedder_invalid"
    told = f"{caught.value} {caught.value.hint} {caplog.text}"
    assert "sk-secret" not in told
    assert "a private text" not in told
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"no JSON",
        {"data": []},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": "AAAA"}]},
        [1],
    ],
)
async def test_an_answer_that_is_no_vectors_is_refused(
    endpoint: Endpoint, embedder: OpenAiEmbedder, answer: Any
) -> None:
    endpoint.answers = [lambda _: (200, answer)]
    with pytest.raises(StorageUnavailable) as caught:
        await embedder.embed(["a"])
    assert caught.value.code == "embedder_unavailable"


async def test_nobody_listening_is_no_answer() -> None:
    with serving() as gone:
        url = gone.url
    async with OpenAiEmbedder("tiny", url, sleep=_at_once) as embedder:
        with pytest.raises(StorageUnavailable) as caught:
            await embedder.embed(["a"])
    assert caught.value.code == "embedder_unavailable"


@pytest.mark.parametrize("url", ["http://far.example/v1", "ftp://x/v1", "far.example", "https://me:word@far.example"])
def test_an_address_that_would_leak_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        OpenAiEmbedder("tiny", url)
    assert caught.value.code == "embedder_invalid"
    assert "word" not in f"{caught.value.message}"


# What a process holds


def shelf_of(vectors: np.ndarray[Any, Any], *, bytes_max: int) -> Shelf:
    packed = [pack_vector(row.astype("<f4").tobytes()) for row in vectors]
    shelf = Shelf(space=1, dimension=vectors.shape[1])
    middle = len(packed) // 2
    shelf = shelf.with_more(range(middle), packed[:middle], newest=middle, bytes_max=bytes_max)
    return shelf.with_more(range(middle, len(packed)), packed[middle:], newest=len(packed), bytes_max=bytes_max)


@pytest.mark.parametrize("bytes_max", [2**30, 1], ids=["floats", "signatures"])
def test_the_nearest_come_first_whichever_way_vectors_are_held(bytes_max: int) -> None:
    numbers = np.random.default_rng(7)
    centre = numbers.normal(size=100)
    vectors = np.concatenate([numbers.normal(size=(5_000, 100)), centre + 0.5 * numbers.normal(size=(20, 100))])
    shelf = shelf_of(vectors, bytes_max=bytes_max)
    assert shelf.exact == (bytes_max > 1)
    assert shelf.count == 5_020
    asked = direction(centre.astype("<f4").tobytes())
    assert asked is not None
    handfuls = list(shelf.nearest_first(asked, first=20))
    assert {serial for serial, _ in handfuls[0]} == set(range(5_000, 5_020))
    assert [len(handful) for handful in handfuls[:3]] == [20, 160, 1_280]
    scores = [score for handful in handfuls for _, score in handful]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    kept = shelf.keeping([1, 5_019], gone=5_018)
    assert (kept.count, kept.gone) == (2, 5_018)


def test_one_bit_a_dimension_takes_a_thirty_second_of_the_memory() -> None:
    vectors = np.random.default_rng(7).normal(size=(1_000, 256))
    exact, rough = (shelf_of(vectors, bytes_max=bytes_max).size_bytes - 8_000 for bytes_max in (2**30, 1))
    assert exact == 32 * rough


def test_what_points_nowhere_has_no_vector() -> None:
    zeros = array("f", [0.0, 0.0]).tobytes()
    assert pack_vector(zeros) == b""
    assert direction(zeros) is None
    assert pack_vector(array("f", [float("nan"), 1.0]).tobytes()) == b""
