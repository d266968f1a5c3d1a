"""An S3-compatible server, moto's, that does what tests ask of it: fail, damage, break off, be slow, and tell its log.

Unlike moto alone it checks the SHA-256 that comes with bytes, as S3 does. ``POST /-/faults`` takes a fault as JSON,
``GET /-/log?bucket=NAME`` gives the requests about a bucket.
"""

import base64
import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

os.environ["S3_UPLOAD_PART_MIN_SIZE"] = "1"  # else whatever tests send in parts has 5 MiB and more

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

Environ = dict[str, Any]
Start = Callable[..., Any]


class Faulty:
    """A WSGI application around moto's."""

    def __init__(self, inner: Callable[[Environ, Start], Iterable[bytes]]) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._faults: list[dict[str, Any]] = []
        self._log: list[tuple[str, str, str]] = []

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size) if size else b""
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        if path.startswith("/-/"):
            return self._told(path, query, body, start)
        method, bucket = environ["REQUEST_METHOD"], path.split("/")[1]
        with self._lock:
            self._log.append((method, path, query))
            fault = self._next(method, bucket, f"{path}?{query}")
        time.sleep(fault.get("pause_s", 0))
        if "status" in fault:
            return _refused(fault["status"], fault.get("code", "InternalError"), start)
        if "refuse" in fault and any(name.startswith("HTTP_X_AMZ_CHECKSUM") for name in environ):
            return _refused(400, "InvalidArgument", start)
        if fault.get("damage") == "request":
            body = _damaged(body)
        checksum = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256", "")
        if size and checksum and base64.b64decode(checksum) != hashlib.sha256(body).digest():
            return _refused(400, "BadDigest", start)
        if checksum and "HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM" not in environ:
            environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = "SHA256"  # moto keeps it with this only, S3 without
        md5 = environ.get("HTTP_CONTENT_MD5", "")
        if size and md5 and base64.b64decode(md5) != hashlib.md5(body, usedforsecurity=False).digest():
            return _refused(400, "BadDigest", start)
        environ["wsgi.input"] = io.BytesIO(body)
        answer = self._inner(environ, start)
        if fault.get("damage") == "answer":
            return [_damaged(b"".join(answer))]
        if fault.get("damage") == "broken":
            return _broken(b"".join(answer))
        return answer

    def _next(self, method: str, bucket: str, target: str) -> dict[str, Any]:
        for fault in self._faults:
            if (fault["bucket"], fault["method"]) == (bucket, method) and fault.get("target", "") in target:
                fault["times"] -= 1
                if not fault["times"]:
                    self._faults.remove(fault)
                return fault
        return {}

    def _told(self, path: str, query: str, body: bytes, start: Start) -> Iterable[bytes]:
        with self._lock:
            answer: list[Any] = []
            if path == "/-/faults":
                fault = json.loads(body)
                if fault.get("clear"):
                    self._faults = [other for other in self._faults if other["bucket"] != fault["bucket"]]
                else:
                    self._faults.append({"times": 1, **fault})
            else:
                bucket = parse_qs(query)["bucket"][0]
                answer = [entry for entry in self._log if entry[1].split("/")[1] == bucket]
        text = json.dumps(answer).encode()
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
        return [text]


def _refused(status: int, code: str, start: Start) -> Iterable[bytes]:
    text = f"<Error><Code>{code}</Code><Message>secret: AKIA-TEST</Message></Error>".encode()
    start(f"{status} Fault", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
    return [text]


def _damaged(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def _broken(data: bytes) -> Iterator[bytes]:
    yield data[: len(data) // 2]
    raise ConnectionAbortedError("injected")


class QuietHandler(WSGIRequestHandler):
    """Speaks HTTP/1.1, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


def serve(ready: Path) -> None:
    """Serve on a free port of loopback; its URL is written to a file once it does."""
    server = _made()
    temporary = ready.with_suffix(".part")
    temporary.write_text(_url(server))
    temporary.rename(ready)
    server.serve_forever()


def lend(listening: socket.socket, parent: int) -> None:
    """Make servers for whoever connects to a socket, each for as long as the connection is; all has been imported."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening.settimeout(1)
    while os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _serve_one(client)
            client.close()


def _serve_one(client: socket.socket) -> None:
    client.settimeout(None)
    server = _made()
    client.sendall(json.dumps([os.getpid(), _url(server)]).encode() + b"\n")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client.recv(1)
    os._exit(0)


def _made() -> BaseWSGIServer:
    return make_server("127.0.0.1", 0, Faulty(create_backend_app("s3")), threaded=True, request_handler=QuietHandler)


def _url(server: BaseWSGIServer) -> str:
    return f"http://127.0.0.1:{server.port}"


if __name__ == "__main__":
    wanted = Path(sys.argv[1])
    here = os.getpid()
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(str(wanted.with_name("lender")))
        place.listen()
        if os.fork() == 0:
            lend(place, here)
            os._exit(0)
    serve(wanted)
