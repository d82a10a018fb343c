import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from pydantic import JsonValue
from tests.sandbox.egress.conftest import Network
from tests.sandbox.package_index import Index

from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.packages import PackageStore
from sojourn.sandbox.protocol import Sandbox, SandboxProcess, SandboxSpec
from sojourn.sandbox.registry import Registries
from sojourn.types import Packages, SandboxError

PATIENCE_SECONDS = 120


class OpenSandbox:
    """Stands for a sandbox: runs commands on this machine, where they reach the network by the proxy alone."""

    name = "open"
    isolates = False
    installs = frozenset({"npm", "pip"})
    owner: tuple[int, int] | None = None

    def __init__(self) -> None:
        self.specs: list[SandboxSpec] = []
        self.started = asyncio.Event()

    async def check(self) -> None: ...

    async def start(self, spec: SandboxSpec) -> SandboxProcess:
        raise NotImplementedError

    async def guest(self, sandbox: Sandbox, spec: SandboxSpec) -> "OpenGuest":
        self.specs.append(spec)
        self.started.set()
        return await OpenGuest.start(spec)


class OpenGuest:
    def __init__(self, spec: SandboxSpec, server: asyncio.AbstractServer, port: int) -> None:
        self.spec = spec
        self.server = server
        self.port = port

    @classmethod
    async def start(cls, spec: SandboxSpec) -> "OpenGuest":
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_unix_connection(str(spec.proxy))

            async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
                with contextlib.suppress(OSError):
                    while data := await source.read(65536):
                        target.write(data)
                        await target.drain()
                target.close()

            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

        server = await asyncio.start_server(forward, "127.0.0.1", 0)
        return cls(spec, server, server.sockets[0].getsockname()[1])

    async def call(
        self, op: str, arguments: Mapping[str, JsonValue], *, progress: Callable[[str], None] | None = None
    ) -> Mapping[str, JsonValue]:
        assert op == "run"
        argv = arguments["argv"]
        assert isinstance(argv, list)
        ours, theirs = "http://127.0.0.1:3128", f"http://127.0.0.1:{self.port}"
        env = {name: value.replace(ours, theirs) for name, value in self.spec.env.items()}
        process = await asyncio.create_subprocess_exec(
            *map(str, argv), env=env, cwd=env["HOME"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            stdout, stderr = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return {
            "stdout": {"text": stdout.decode()},
            "stderr": {"text": stderr.decode()},
            "exit_code": process.returncode,
            "timed_out": False,
        }

    async def close(self) -> None:
        self.server.close()


class Shop:
    """A store of packages, and the index that it gets them from."""

    def __init__(self, network: Network, index: Index, host: str, root: Path) -> None:
        self.network = network
        self.index = index
        self.host = host
        self.root = root
        self.sandbox = OpenSandbox()

    def store(self, registries: Registries | None = None, *, path: Path = Path(sys.executable).parent) -> PackageStore:
        return PackageStore(
            self.root,
            self.sandbox,
            start=self.sandbox.guest,
            authority=self.network.authority,
            private=PrivateHosts.parse("pkg.example"),
            path=f"{path}:{os.environ['PATH']}",
            registries=registries,
            resolver=self.network.resolve,
            trust=self.network.trust,
        )


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Shop, None]:
    network = Network(tmp_path)
    host = await network.host(tls="pkg.example")
    index = Index(f"https://pkg.example:{host.port}")
    host.answer = index
    for name in [name for name in os.environ if name.upper().startswith(("PIP_", "NPM_CONFIG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"https://user:pass%20word@pkg.example:{host.port}/simple/")
    monkeypatch.setenv("npm_config_registry", f"https://pkg.example:{host.port}/npm/")
    try:
        yield Shop(network, index, f"pkg.example:{host.port}", tmp_path / "cache")
    finally:
        await network.close()


def output_of(command: Sequence[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=dict(env), capture_output=True, timeout=PATIENCE_SECONDS, check=True)
    return done.stdout.decode().strip()


def folders(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir() if each.suffix != ".lock")


async def test_packages_of_pip_are_installed_through_the_proxy_and_found_by_programs(shop: Shop) -> None:
    found = await shop.store().installed(Packages(pip=("tiny-one==1.0", "tiny_two")))

    assert found.folder is not None
    env = found.environment(path=f"{Path(sys.executable).parent}:/usr/bin:/bin", root=found.folder)
    assert output_of(["tiny_one"], env) == "it runs"
    assert output_of([sys.executable, "-c", "import tiny_two; tiny_two.main()"], env) == "it runs"
    assert [(mount.source, mount.target, mount.writable) for mount in found.mounts] == [
        (found.folder, PurePosixPath("/opt/packages"), False)
    ]
    assert found.environment()["PYTHONPATH"] == "/opt/packages/pip"


async def test_password_of_the_index_stays_outside_the_sandbox(shop: Shop) -> None:
    store = shop.store()
    await store.installed(Packages(pip=("tiny-one",)))

    (spec,) = shop.sandbox.specs
    assert spec.env["PIP_INDEX_URL"].startswith("https://user:sojourn-registry-")
    assert not any("pass%20word" in value or "pass word" in value for value in spec.env.values())
    assert "pass word" not in repr(await store.registries())


async def test_python_without_pip_is_lent_that_of_the_worker(shop: Shop, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)

    found = await shop.store(path=tmp_path / "bare" / "bin").installed(Packages(pip=("tiny-one",)))

    assert found.folder is not None
    assert (found.folder / "pip" / "tiny_one.py").is_file()


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
async def test_packages_of_npm_are_installed_and_found_by_programs(shop: Shop) -> None:
    found = await shop.store().installed(Packages(npm=("tiny-js@1.0.0",)))

    assert found.folder is not None
    env = found.environment(path=os.environ["PATH"], root=found.folder)
    assert output_of(["tiny-js"], env) == "js"
    assert output_of(["node", "-e", "require('tiny-js')"], env) == "js"


async def test_sessions_that_ask_together_install_once(shop: Shop) -> None:
    stores = [shop.store(), shop.store()]
    packages = Packages(pip=("tiny-one",))

    found = await asyncio.gather(*(store.installed(packages) for store in stores * 2))
    again = await shop.store().installed(packages)
    other = await shop.store().installed(Packages(pip=("tiny-two",)))

    assert {each.folder for each in found} == {again.folder}
    assert other.folder != again.folder
    assert len(shop.sandbox.specs) == 2


async def test_failed_installation_leaves_nothing_and_tells_the_last_lines(shop: Shop) -> None:
    with pytest.raises(SandboxError, match=r"^pip ended with status 1: .*no-such-thing.* \(it may reach pkg.example;"):
        await shop.store().installed(Packages(pip=("tiny-one", "no-such-thing")))

    assert folders(shop.root) == []
    assert (await shop.store().installed(Packages(pip=("tiny-one",)))).folder is not None


async def test_registry_that_is_not_known_is_not_reached(shop: Shop) -> None:
    registries = Registries(environment={"PIP_INDEX_URL": f"https://{shop.host}/simple/", "PIP_RETRIES": "0"})

    with pytest.raises(SandboxError, match="it may reach none; more with SOJOURN_PACKAGE_HOSTS"):
        await shop.store(registries).installed(Packages(pip=("tiny-one",)))

    assert shop.index.asked == []


async def test_installation_that_is_cut_off_is_begun_anew(shop: Shop) -> None:
    store = shop.store()
    await store.registries()
    running = asyncio.create_task(store.installed(Packages(pip=("tiny-one",))))
    await asyncio.wait_for(shop.sandbox.started.wait(), PATIENCE_SECONDS)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    assert folders(shop.root) == []
    assert (await store.installed(Packages(pip=("tiny-one",)))).folder is not None


async def test_what_a_killed_worker_left_is_removed(shop: Shop) -> None:
    store = shop.store()
    found = await store.installed(Packages(pip=("tiny-one",)))
    assert found.folder is not None
    shutil.rmtree(found.folder)
    (found.folder.with_suffix(".new") / "work" / "half").mkdir(parents=True)

    await store.installed(Packages(pip=("tiny-one",)))

    assert folders(shop.root) == [found.folder.name]


async def test_manager_that_the_sandbox_lacks_is_refused_by_name(shop: Shop) -> None:
    with pytest.raises(SandboxError) as error:
        await shop.store().installed(Packages(apt=("jq",), go=("x",), pip=("tiny-one",)))

    assert str(error.value) == (
        "the open sandbox cannot install packages of apt or go, but of npm and pip;"
        " leave them out of the environment's packages"
    )


async def test_environment_without_packages_needs_nothing(shop: Shop) -> None:
    found = await shop.store().installed(Packages())

    assert (found.folder, found.mounts, found.environment()) == (None, (), {})
    assert not shop.root.exists()


async def test_what_nobody_uses_any_more_is_removed(shop: Shop) -> None:
    store = shop.store()
    old = await store.installed(Packages(pip=("tiny-one",)))
    new = await store.installed(Packages(pip=("tiny-two",)))
    assert old.folder is not None
    assert new.folder is not None
    os.utime(old.folder, (0, 0))

    assert await store.prune(unused_for=timedelta(days=30)) == 1
    assert folders(shop.root) == [new.folder.name]


async def test_managers_are_asked_where_their_packages_are(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "index" / "simple"
    local.mkdir(parents=True)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://more.example:8080/simple {local.as_uri()}")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "more.example")
    monkeypatch.setenv("SOJOURN_PACKAGE_HOSTS", "own.example, other.example:444")

    found = await Registries.ask()

    hosts = {host.pattern: host.ports for host in found.hosts}
    assert hosts["own.example"] == {80, 443}
    assert hosts["other.example"] == {444}
    assert hosts["more.example"] == {8080}
    assert f"pkg.example:{next(iter(hosts['pkg.example']))}" == shop.host
    assert found.environment["PIP_TRUSTED_HOST"] == "more.example"
    assert found.mounts[0].source == tmp_path / "index"
    if shutil.which("npm"):
        assert found.environment["npm_config_registry"] == f"https://{shop.host}/npm/"


async def test_manager_that_is_not_set_up_has_its_own_default(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_INDEX_URL")

    found = await Registries.ask()

    assert "PIP_INDEX_URL" not in found.environment
    assert len([host for host in found.hosts if host.pattern != "pkg.example"]) == 2
