"""A bucket on this machine that speaks as much S3 as an object store needs, and can be told to fail."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape


@dataclass
class FakeBucket:
    """Objects by path.

    Attributes:
        refuses: Answer every request with ``403``, as a bucket does whose credentials have run out.
        requests: Method and path of every request.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    refuses: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)
    endpoint: str = ""
    name: str = "bucket"

    @property
    def url(self) -> str:
        """What to open as a store, with `environment` set."""
        return f"s3://{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which S3 clients find the bucket."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one request."""
        parts = urlsplit(target)
        path = unquote(parts.path).removeprefix(f"/{self.name}").removeprefix("/")
        self.requests.append((method, path))
        if self.refuses:
            return HTTPStatus.FORBIDDEN, b"<Error><Code>AccessDenied</Code></Error>"
        query = parse_qs(parts.query)
        if method == "GET" and "list-type" in query:
            return HTTPStatus.OK, self._listing(query.get("prefix", [""])[0], query.get("start-after", [""])[0])
        if method == "PUT":
            self.objects[path] = body
            return HTTPStatus.OK, b""
        if method == "POST" and parts.query == "delete":
            keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for key in keys:
                self.objects.pop(unescape(key), None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return HTTPStatus.OK, f"<DeleteResult>{deleted}</DeleteResult>".encode()
        if path not in self.objects:
            return HTTPStatus.NOT_FOUND, b"<Error><Code>NoSuchKey</Code></Error>"
        return HTTPStatus.OK, self.objects[path]

    def _listing(self, prefix: str, after: str) -> bytes:
        entries = "".join(self._entries(prefix, after))
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()

    def _entries(self, prefix: str, after: str) -> Iterator[str]:
        for path in sorted(self.objects):
            if path.startswith(prefix) and path > after:
                size = len(self.objects[path])
                yield (
                    f"<Contents><Key>{escape(path)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                    f'<ETag>"{size}"</ETag><Size>{size}</Size></Contents>'
                )


@asynccontextmanager
async def fake_bucket() -> AsyncGenerator[FakeBucket, None]:
    """Serve a bucket on the loopback interface while the block runs."""
    bucket = FakeBucket()
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                size = 0
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    size = int(value) if name.lower() == "content-length" else size
                status, body = bucket.answer(method, target, await reader.readexactly(size))
                writer.write(_response(method, status, body))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            connections.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    bucket.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield bucket
    finally:
        server.close()
        for connection in connections:
            connection.close()
        while connections:  # noqa: ASYNC110 (each ends when it has noticed)
            await asyncio.sleep(0.01)


def _response(method: str, status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}\r\n"
        f"Content-Length: {len(body)}\r\n"
        'Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: "1"\r\nContent-Type: application/xml\r\n\r\n'
    )
    return head.encode() + (b"" if method == "HEAD" else body)
