"""The embedder that the settings name; its module is imported only then."""

from contextlib import AsyncExitStack
from importlib.util import find_spec

from contextdna.errors import SettingsInvalid
from contextdna.ports.embedder import Embedder
from contextdna.values.settings import EmbedderKind, SearchSettings

_EXTRAS = {
    EmbedderKind.WORDLLAMA: ("semantic", ("wordllama", "numpy")),
    EmbedderKind.OPENAI: ("semantic", ("numpy",)),
    EmbedderKind.FASTEMBED: ("fastembed", ("fastembed", "numpy")),
}


async def open_embedder(stack: AsyncExitStack, search: SearchSettings) -> Embedder | None:
    """Make the embedder of the settings, without loading its model; None for ``none``.

    Raises:
        SettingsInvalid: ``embedder_missing``: its package is not installed; ``embedder_invalid``.
    """
    if search.embedder is EmbedderKind.NONE:
        return None
    _require_packages(search.embedder)
    match search.embedder:
        case EmbedderKind.WORDLLAMA:
            from contextdna.backends.wordllama import WordLlamaEmbedder

            return WordLlamaEmbedder()
        case EmbedderKind.FASTEMBED:
            from contextdna.backends.fastembed import FastEmbedEmbedder

            return FastEmbedEmbedder(search.embedding_model)
        case EmbedderKind.OPENAI:
            from contextdna.backends.openai_embeddings import OpenAiEmbedder

            embedder = OpenAiEmbedder(search.embedding_model, search.embedding_url, key=search.embedding_key)
            return await stack.enter_async_context(embedder)


def _require_packages(kind: EmbedderKind) -> None:
    extra, packages = _EXTRAS[kind]
    for package in packages:
        if find_spec(package) is None:
            raise SettingsInvalid(
                f"search.embedder is {kind.value}, but the package {package} is not installed",
                code="embedder_missing",
                hint=f"Install contextdna[{extra}], or set search.embedder to none.",
            )
