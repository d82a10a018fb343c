"""What the coding agent's demonstration finds on the network: a repository, a search engine, a page of documentation.

All of it is served by this machine, for this machine.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from sojourn.types.error import InvalidRequestError

REPOSITORY = "textkit"
PAGE = "/docs/unicodedata"
SITE_TEXT = "NFKD splits a letter with an accent into the letter and its accent"
"""Stands in the page and nowhere else."""

FILES: Mapping[str, str] = {
    "README.md": "# textkit\n\nSmall helpers for texts. Run the tests with `python3 -m unittest`.\n",
    "textkit/__init__.py": '"""Helpers for texts."""\n\nfrom textkit.slug import slugify\n\n__all__ = ["slugify"]\n',
    "textkit/slug.py": '''"""Names for URLs."""

import re


def slugify(title: str) -> str:
    """Turn a title into what can stand in a URL."""
    text = title.lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")
''',
    "tests/__init__.py": "",
    "tests/test_slug.py": """import unittest

from textkit import slugify


class SlugTest(unittest.TestCase):
    def test_words_are_joined(self):
        self.assertEqual(slugify("Hello, World!"), "hello-world")

    def test_accents_are_dropped(self):
        self.assertEqual(slugify("Crème Brûlée"), "creme-brulee")
""",
}
"""A repository with two tests, one of which fails."""

_DOCUMENT = f"""<!doctype html><html><head><title>unicodedata</title></head><body><main><h1>unicodedata</h1>
<p>The function <code>unicodedata.normalize(form, text)</code> gives the normal form of a text.</p>
<p>{SITE_TEXT}: what is left after <code>encode("ascii", "ignore")</code> is plain ASCII.</p></main></body></html>"""


@dataclass(frozen=True)
class CodingSite:
    """Where it is served."""

    port: int

    @property
    def repository_url(self) -> str:
        """For `RepositoryMount`."""
        return f"{self.url}/{REPOSITORY}.git"

    @property
    def url(self) -> str:
        """Of all of it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a worker has to be told of it. Nothing here is public, so it is refused otherwise."""
        return {"SOJOURN_PRIVATE_HOSTS": f"127.0.0.1:{self.port}", "SOJOURN_SEARCH": f"searxng:{self.url}"}


@contextmanager
def coding_site(folder: Path) -> Iterator[CodingSite]:
    """Serve it while the block runs.

    Args:
        folder: For the repository; an empty one, or a new one.

    Raises:
        InvalidRequestError: There is no git on this machine.
    """
    bare = _make_repository(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = _page(self.path, bare, f"http://{self.headers.get('Host')}")
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield CodingSite(server.server_port)
        finally:
            server.shutdown()
            thread.join()


def _page(target: str, bare: Path, site: str) -> tuple[str, bytes]:
    """Type and content of what a path names; no type for nothing."""
    parts = urlsplit(target)
    if parts.path == PAGE:
        return "text/html; charset=utf-8", _DOCUMENT.encode()
    if parts.path == "/search":
        (query,) = parse_qs(parts.query).get("q", [""])
        hit = {"url": f"{site}{PAGE}", "title": f"unicodedata ({query})", "content": "Normal forms of Unicode texts."}
        return "application/json", json.dumps({"results": [hit]}).encode()
    # Git reads a repository from plain files as well.
    root, path = bare.resolve(), (bare.parent / parts.path.lstrip("/")).resolve()
    if path.is_relative_to(root) and path.is_file():
        return "application/octet-stream", path.read_bytes()
    return "", b"not found"


def _make_repository(folder: Path) -> Path:
    work, bare = folder / "work", folder / f"{REPOSITORY}.git"
    for name, text in FILES.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    _git(work, "init", "--quiet")
    _git(work, "add", ".")
    _git(work, "commit", "--quiet", "-m", "Helpers for texts")
    _git(folder, "clone", "--quiet", "--bare", str(work), str(bare))
    _git(bare, "update-server-info")
    return bare


def _git(folder: Path, *arguments: str) -> None:
    person = {f"GIT_{role}_{field}": "demo" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder)}
    command = ("git", "-c", "init.defaultBranch=main", *arguments)
    env = {"PATH": os.environ.get("PATH", os.defpath), **own, **person}
    try:
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        raise InvalidRequestError("there is no git on this machine; on Debian: apt-get install git") from None
