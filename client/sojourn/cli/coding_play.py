"""The coding agent's demonstration from its first line to its last."""

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sojourn.cli.coding_check import Evidence, check
from sojourn.cli.coding_scene import CodingCrew, commit, leave, look, repair, soak
from sojourn.cli.demo_process import DemoProcess
from sojourn.cli.demo_screen import Screen
from sojourn.cli.demo_stage import DemoError, ModelError, Stage
from sojourn.client import AgentRuntime, SessionHandle
from sojourn.sandbox import choose_sandbox
from sojourn.testing import coding as desk
from sojourn.testing.coding_proof import prove
from sojourn.testing.coding_site import CodingSite, coding_site
from sojourn.types import (
    CloudConfig,
    EnvironmentDefinition,
    LimitedNetwork,
    RepositoryMount,
    SandboxError,
    SojournError,
)
from sojourn.worker import EmbeddedServer, embedded_server


async def play(folder: Path, *, model: str | None, sandbox: str, keep: bool) -> bool:
    """Play all scenes and check what has become of the repository.

    Args:
        folder: For the database, the workspaces and the logs of the processes.
        model: Answers in place of the script.
        sandbox: Where the agent's commands run.
        keep: Whether the folder stays, so that it is worth saying how to look at it again.

    Returns:
        Whether every promise was kept.
    """
    screen, begun = Screen(), time.monotonic()
    if not await _sandbox_works(screen, sandbox):
        return False
    with _scratch() as scratch, coding_site(scratch / "site") as site:
        screen.say(f"a repository with a failing test, a search engine and a page are at {site.url}")
        screen.say(f"starting a Temporal server, with its data in {folder}")
        async with embedded_server(data=folder) as server:
            crew = CodingCrew(server.address, folder, scratch=scratch, sandbox=sandbox, site=site)
            try:
                evidence = await _perform(server, crew, screen, model)
            except (DemoError, SojournError) as error:
                if not isinstance(error, ModelError):
                    screen.complain(crew.complaints())
                screen.verdict(f"The demonstration failed: {error}", good=False)
                return False
            finally:
                await crew.stop()
    good = _verdict(screen, evidence, seconds=time.monotonic() - begun)
    if keep:
        screen.say(f"look at it again: sojourn up --data {folder}")
    return good


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sojourn-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def _sandbox_works(screen: Screen, name: str) -> bool:
    """Whether there is a sandbox; says the way out if there is none."""
    try:
        choice = await choose_sandbox(name)
    except SandboxError as error:
        screen.verdict(f"There is no sandbox for the agent: {error}", good=False)
        screen.say("install bubblewrap (on Debian: apt-get install bubblewrap), or try --sandbox docker")
        return False
    if choice.sandbox is None:
        screen.verdict(f"There is no sandbox for the agent: {choice.reason}", good=False)
        return False
    if not choice.sandbox.isolates:
        screen.verdict(f"Sandbox {name!r} protects nothing; this demonstration takes one that does.", good=False)
        return False
    return True


def _verdict(screen: Screen, evidence: Evidence, *, seconds: float) -> bool:
    checks = check(evidence)
    screen.scene("Checks")
    screen.checks(checks)
    broken = sum(1 for each in checks if each.faults)
    took = f"{len(evidence.log)} events, {seconds:.0f} s"
    screen.verdict(
        f"{broken} of {len(checks)} checks failed." if broken else f"Repaired, committed and checked: {took}.",
        good=not broken,
    )
    return not broken


async def _perform(server: EmbeddedServer, crew: CodingCrew, screen: Screen, model: str | None) -> Evidence:
    worker = await crew.worker()
    screen.say(f"starting a worker with the sandbox {crew.sandbox}: process {worker.pid}")
    async with _runtime(server) as runtime, AgentRuntime.connect(crew.address) as second:
        session = await _session(runtime, crew.site, model)
        screen.link("session", session.id)
        stage = Stage(screen=screen, runtime=runtime, session=session, crew=crew, second=second, scripted=model is None)
        async with stage.watched():
            await _scenes(stage, worker)
            patch = await _patch(stage)
        screen.scene("The repository, as it is seen from another sandbox")
        (workspace,) = crew.folder.glob("workspaces/*/*/*/workspace")
        proof = await prove(crew.sandbox, workspace, patch, crew.scratch / "proof")
        for subject in proof.subjects:
            screen.say(f"commit: {subject}")
        return Evidence(log=await runtime.list_events(session), proof=proof, scripted=stage.scripted)


async def _session(runtime: AgentRuntime, site: CodingSite, model: str | None) -> SessionHandle:
    """A session with the repository mounted, whose sandbox reaches nothing."""
    limited = CloudConfig(networking=LimitedNetwork())
    environment = await runtime.create_environment(EnvironmentDefinition(name="coding", config=limited))
    return await runtime.start_session(
        await runtime.create(desk.definition(model)),
        title="sojourn demo coding",
        environment=desk.AUTHOR,
        environment_id=environment.id,
        resources=[RepositoryMount(url=site.repository_url)],
    )


async def _scenes(stage: Stage, worker: DemoProcess) -> None:
    stage.screen.scene("1  The agent looks for the failure: glob, grep, read, bash")
    await look(stage)
    stage.screen.scene("2  It looks things up and repairs the program: web, code, edit, write")
    await repair(stage)
    stage.screen.scene("3  Its worker is killed in the middle of a shell command")
    await soak(stage, worker)
    stage.screen.scene("4  What it may not: push, and reach a host that is not allowed")
    await leave(stage)
    stage.screen.scene("5  It commits, once somebody has said yes")
    await commit(stage)


async def _patch(stage: Stage) -> bytes:
    """The patch, from the files of the session; empty if there is none."""
    name = Path(desk.PATCH).name
    # A file is there a moment after its turn.
    for _ in range(100):
        for file in (await stage.session.files()).data:
            if file.filename == name:
                patch = await stage.runtime.read_file(file)
                stage.screen.say(f"{name} is a file of the session now, {file.size_bytes} bytes:")
                for line in patch.decode(errors="replace").splitlines():
                    stage.screen.quote(line)
                return patch
        await asyncio.sleep(0.1)
    stage.screen.say(f"{name} is not among the files of the session")
    return b""


@asynccontextmanager
async def _runtime(server: EmbeddedServer) -> AsyncGenerator[AgentRuntime, None]:
    runtime = AgentRuntime(server.client)
    try:
        yield runtime
    finally:
        await runtime.close()
