"""Servers on this machine that stand for the public ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest


@dataclass
class Server:
    """Serves ``files`` by their paths, as an HTTP server that knows ranges, and as S3 lists and sends objects."""

    files: dict[str, bytes]
    address: str = ""
    breaks_after: int | None = None  # bytes of a body, once
    knows_ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)  # paths and ranges


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library names it so
            where = urlsplit(self.path)
            query = parse_qs(where.query)
            if "list-type" in query:
                self._send(200, _listing(server, where.path.strip("/"), query.get("prefix", [""])[0]))
                return
            server.asked.append((where.path, self.headers.get("Range", "")))
            body = server.files.get(where.path.lstrip("/"))
            if body is None:
                is_bucket = any(path.startswith(f"{where.path.strip('/')}/") for path in server.files)
                self._send(200 if is_bucket else 404, b"")
                return
            first, last = 0, len(body) - 1
            if server.knows_ranges and (wanted := self.headers.get("Range")):
                begin, _, end = wanted.removeprefix("bytes=").partition("-")
                first, last = int(begin), min(int(end), last) if end else last
                self._send(206, body[first : last + 1], f"bytes {first}-{last}/{len(body)}")
            else:
                self._send(200, body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def _send(self, status: int, body: bytes, content_range: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
            self.send_header("ETag", '"0"')
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()
            if self.command == "HEAD":
                return
            if server.breaks_after is not None and len(body) > server.breaks_after:
                body, server.breaks_after = body[: server.breaks_after], None
                self.wfile.write(body)
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _listing(server: Server, bucket: str, prefix: str) -> bytes:
    """Objects of a bucket, as S3's ListObjectsV2 answers."""
    found = {
        path.partition("/")[2]: len(body)
        for path, body in server.files.items()
        if path.startswith(f"{bucket}/{prefix}")
    }
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2000-01-01T00:00:00.000Z</LastModified><ETag>&quot;0&quot;"
        f"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key, size in sorted(found.items())
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(found)}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    ).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on this machine, empty at first."""
    served = Server({})
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield served
    http.shutdown()
    http.server_close()
