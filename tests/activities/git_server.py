"""A git server on this machine: `git http-backend` behind a small HTTP server that asks for a token."""

import base64
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

_ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


def git(*arguments: str | Path, cwd: Path) -> str:
    command = ["git", "-c", "init.defaultBranch=main", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=_ENV, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class GitServer:
    """Serves ``/<name>.git``: what begins with ``private`` only with the token, what begins with ``closed`` never."""

    root: Path
    port: int = 0
    token: str = "gho_secret_token"
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths and authorization headers."""
    redirect_to: str = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        return f"http://{self.host}/{name}.git"

    def repository(self, name: str, **files: str) -> Path:
        """A new repository with one commit on ``main`` and one more on ``other``."""
        bare, work = self.root / f"{name}.git", self.root / f"{name}-work"
        git("init", "--bare", "--quiet", bare, cwd=self.root)
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=bare)
        work.mkdir()
        git("init", "--quiet", cwd=work)
        for path, text in (files or {"README": "read me"}).items():
            (work / path).write_text(text)
        git("add", ".", cwd=work)
        git("commit", "--quiet", "-m", "first", cwd=work)
        git("checkout", "--quiet", "-b", "other", cwd=work)
        (work / "OTHER").write_text("other")
        git("add", ".", cwd=work)
        git("commit", "--quiet", "-m", "second", cwd=work)
        git("push", "--quiet", bare, "main", "other", cwd=work)
        git("checkout", "--quiet", "main", cwd=work)
        return work


@contextmanager
def git_server(root: Path) -> Iterator[GitServer]:
    """Serve until the block ends."""
    server = GitServer(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _serve(self, server)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.port = http.server_port
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join(30)


def _serve(request: BaseHTTPRequestHandler, server: GitServer) -> None:
    given = request.headers.get("Authorization")
    server.requests.append((request.path, given))
    path, _, query = request.path.partition("?")
    name = path.strip("/").partition(".git")[0]
    length = int(request.headers.get("Content-Length") or 0)
    body = request.rfile.read(length)
    if server.redirect_to:
        return _answer(request, 302, {"Location": server.redirect_to + request.path})
    expected = "Basic " + base64.b64encode(f"x-access-token:{server.token}".encode()).decode()
    if name.startswith("private") and given != expected:
        return _answer(request, 401, {"WWW-Authenticate": 'Basic realm="git"'})
    if name.startswith("closed"):
        return _answer(request, 403, {})
    if not (server.root / f"{name}.git").exists():
        return _answer(request, 404, {})
    env = {
        **_ENV,
        "GIT_PROJECT_ROOT": str(server.root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(length),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
    }
    done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, timeout=60, check=False)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    status = int(headers.pop("Status", "200").split()[0])
    _answer(request, status, headers, content)


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes = b"") -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(content)
