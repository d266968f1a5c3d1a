"""The tests' S3-compatible server on a port of one's own, that has its objects again after it was killed.

What it was asked to change is written to a journal, and on disk, before it answers; the next start does it again.
"""

import io
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import make_server

from tests.servers.s3_server import Environ, Faulty, QuietHandler, Start

_CHANGING = ("PUT", "DELETE")


class Journal:
    """A WSGI application around another one that remembers what it changed."""

    def __init__(self, inner: Any, path: Path) -> None:
        self._inner = inner
        self._path = path
        if path.exists():
            for line in path.read_text().splitlines():
                self._repeat(json.loads(line))

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer a request; when it changed something, keep it first."""
        if environ["REQUEST_METHOD"] not in _CHANGING:
            answered: Iterable[bytes] = self._inner(environ, start)
            return answered
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        kept = {name: value for name, value in environ.items() if isinstance(value, str)} | {"body": body.hex()}
        told: list[Any] = []

        def remember(*answer: Any) -> None:
            told.append(answer)

        parts = list(self._inner(environ, remember))
        if told[-1][0].startswith("2"):
            self._keep(json.dumps(kept))
        start(*told[-1])
        return parts

    def _keep(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _repeat(self, environ: dict[str, Any]) -> None:
        body = bytes.fromhex(environ.pop("body"))
        more = {"wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"}
        list(self._inner({**environ, **more}, lambda *_: None))


def main(port: int, journal: Path) -> None:
    """Serve until killed."""
    application = Faulty(Journal(create_backend_app("s3"), journal))
    make_server("127.0.0.1", port, application, threaded=True, request_handler=QuietHandler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
