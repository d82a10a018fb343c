"""An index of Python packages and a registry of npm, with the smallest packages there are."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping

from tests.sandbox.egress.conftest import Answer, Seen


def wheel(name: str) -> tuple[str, bytes]:
    """The smallest package there is, with a program."""
    data, info = io.BytesIO(), f"{name}-1.0.dist-info"
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{name}.py", "def main():\n    print('it runs')\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}-1.0-py3-none-any.whl", data.getvalue()


class Index:
    """An index of Python packages that wants a password, and the registry of npm beside it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files = dict(map(wheel, ("tiny_one", "tiny_two")))
        self.asked: list[Seen] = []
        package = {"name": "tiny-js", "version": "1.0.0", "bin": {"tiny-js": "main.js"}, "main": "main.js"}
        self.tarball = packed(
            {"package.json": json.dumps(package), "main.js": "#!/usr/bin/env node\nconsole.log('js')\n"}
        )

    def __call__(self, seen: Seen) -> Answer:
        self.asked.append(seen)
        if seen.target == "/npm/tiny-js":
            return self._packument()
        if seen.target == "/npm/tiny-js.tgz":
            return Answer([("Content-Length", str(len(self.tarball)))], [self.tarball])
        if seen.header("authorization") != f"Basic {base64.b64encode(b'user:pass word').decode()}":
            return Answer([("WWW-Authenticate", 'Basic realm="x"')], [b""], 401)
        name = seen.target.strip("/").rpartition("/")[2]
        if name in self.files:
            return Answer([], [self.files[name]])
        found = [each for each in self.files if each.startswith(name.replace("-", "_"))]
        links = "".join(f'<a href="/files/{each}">{each}</a>' for each in found)
        return Answer([("Content-Type", "text/html")], [links.encode()], 200 if found else 404)

    def _packument(self) -> Answer:
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
        dist = {"tarball": f"{self.url}/npm/tiny-js.tgz", "integrity": integrity}
        version = {"name": "tiny-js", "version": "1.0.0", "bin": {"tiny-js": "main.js"}, "dist": dist}
        body = {"name": "tiny-js", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        return Answer([("Content-Type", "application/json")], [json.dumps(body).encode()])


def packed(files: Mapping[str, str]) -> bytes:
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb") as outer, tarfile.open(fileobj=outer, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size, entry.mode = len(text), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()
