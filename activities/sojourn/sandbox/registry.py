"""Where package managers get their packages: as they are set up on the worker, and never by a name written here."""

import ast
import asyncio
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.egress.policy import AllowedHost
from sojourn.sandbox.egress.secret import SecretVariable
from sojourn.sandbox.protocol import Mount

PACKAGE_HOSTS_VARIABLE = "SOJOURN_PACKAGE_HOSTS"

_WAIT = timedelta(seconds=60)
_WEB = frozenset({80, 443})

_PIP_SETTINGS = frozenset(
    {"index-url", "extra-index-url", "find-links", "trusted-host", "no-index", "default-timeout", "timeout", "retries"}
)
"""What a sandbox's pip is told. Certificates are not among them: sandboxes have a file of their own."""
_PIP_URLS = frozenset({"index-url", "extra-index-url", "find-links"})

_PIP_DEFAULTS = """
from pip._internal.models.index import PyPI
print(PyPI.simple_url, "https://" + PyPI.file_storage_domain)
"""


@dataclass(frozen=True, slots=True)
class Registries:
    """What a sandbox needs in order to get packages."""

    hosts: tuple[AllowedHost, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings of the package managers. Passwords in them are placeholders."""
    mounts: tuple[Mount, ...] = ()
    """Registries that are folders of this machine."""
    secrets: tuple[SecretVariable, ...] = ()
    """The passwords, for the proxy."""

    @classmethod
    async def ask(cls) -> "Registries":
        """Ask pip and npm of this machine how they are set up, and the environment for more hosts.

        A manager that is not there, or says nothing within a minute, adds nothing.

        Raises:
            InvalidRequestError: `SOJOURN_PACKAGE_HOSTS` cannot be read.
        """
        named = PrivateHosts.parse(os.environ.get(PACKAGE_HOSTS_VARIABLE, ""), variable=PACKAGE_HOSTS_VARIABLE)
        own = [
            AllowedHost(host, _WEB if port is None else frozenset({port}))
            for host, port in sorted(named.hosts, key=str)
        ]
        pip, npm = await asyncio.gather(_pip(), _npm())
        return cls(
            hosts=tuple(dict.fromkeys([*own, *pip.hosts, *npm.hosts])),
            environment={**pip.environment, **npm.environment},
            mounts=(*pip.mounts, *npm.mounts),
            secrets=(*pip.secrets, *npm.secrets),
        )


async def _pip() -> Registries:
    settings = _settings(await _said(sys.executable, "-m", "pip", "config", "list"))
    found = Registries()
    for name, value in settings.items():
        found = _url_setting(found, name, value) if name in _PIP_URLS else _setting(found, name, value)
    if "index-url" not in settings and settings.get("no-index", "0").lower() not in ("1", "true", "yes", "on"):
        for url in (await _said(sys.executable, "-c", _PIP_DEFAULTS)).split():
            found = _with_host(found, url)
    return found


def _settings(listed: str) -> dict[str, str]:
    """What ``pip config list`` says, without the sections; the environment comes last there and counts most."""
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, equals, value = line.partition("=")
        name = key.rpartition(".")[2]
        if equals and name in _PIP_SETTINGS:
            try:
                found[name] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                found[name] = value
    return found


def _setting(found: Registries, name: str, value: str) -> Registries:
    variable = f"PIP_{name.upper().replace('-', '_')}"
    return replace(found, environment={**found.environment, variable: value})


def _url_setting(found: Registries, name: str, value: str) -> Registries:
    urls = []
    for url in value.split():
        shown, found = _shown(found, url)
        found = _with_mount(_with_host(found, url), url)
        urls.append(shown)
    return _setting(found, name, " ".join(urls))


async def _npm() -> Registries:
    npm = shutil.which("npm")
    listed = await _said(npm, "config", "get", "registry", "--json") if npm else ""
    try:
        url = str(json.loads(listed))
    except ValueError:
        url = listed.strip()
    if not url.startswith(("http://", "https://")):
        return Registries()
    shown, found = _shown(Registries(), url)
    return replace(_with_host(found, url), environment={"npm_config_registry": shown})


def _with_host(found: Registries, url: str) -> Registries:
    host = AllowedHost.of_url(url)
    return found if host is None else replace(found, hosts=(*found.hosts, host))


def _with_mount(found: Registries, url: str) -> Registries:
    """A folder that is an index, as the sandbox sees it: where it is. Its files may lie beside it."""
    path = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else Path(url)
    folder = path.parent if path.name == "simple" else path
    if not path.is_absolute() or not folder.is_dir():
        return found
    return replace(found, mounts=(*found.mounts, Mount(folder, PurePosixPath(folder))))


def _shown(found: Registries, url: str) -> tuple[str, Registries]:
    """The URL with a placeholder for its password: what packages run at their installation may read it."""
    parts = urlsplit(url)
    host = AllowedHost.of_url(url)
    if not parts.password or host is None or parts.scheme != "https":
        return url, found
    placeholder = f"sojourn-registry-{secrets.token_hex(16)}"
    user, _, rest = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}:{placeholder}@{rest}"
    secret = SecretVariable(
        f"SOJOURN_REGISTRY_{len(found.secrets)}",
        placeholder,
        unquote(parts.password),
        allowed_hosts=(host.pattern,),
        body=False,
    )
    return urlunsplit(parts._replace(netloc=netloc)), replace(found, secrets=(*found.secrets, secret))


async def _said(*command: str) -> str:
    """What a program writes; nothing if it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_WAIT.total_seconds()):
            output, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace") if process.returncode == 0 else ""


def proxied(hosts: Iterable[AllowedHost]) -> str:
    """Hosts in one line, for an error."""
    return ", ".join(sorted({each.pattern for each in hosts})) or "none"
