"""Records the histories of representative sessions, for `tests/workflows/test_replay.py`.

``make record-histories`` plays what no release's folder holds yet, into the folder of the release in `pyproject.toml`.
For a release, ``python tests/histories/record.py --all`` plays everything that its own folder lacks. A session that
runs on keeps its history, so an old recording is never replaced: it stands for the sessions that are out there. While
a release is being made, a play named on the command line is recorded again in its folder.

With the wheel of a release ahead on ``PYTHONPATH`` and ``--release 0.1.0`` it records with that release's code.
"""

import argparse
import asyncio
import json
import os
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from errand import ERRANDS, play_work
from play import ASK, DONE, HOOKS, LIMITS, PAY, PLAYS, Play, add, definition, hang, idle, pay, saw
from pydantic import SecretStr
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client, WorkflowHistory
from temporalio.common import VersioningBehavior
from temporalio.service import RPCError
from temporalio.worker import WorkerDeploymentConfig, WorkerDeploymentVersion
from yard import YARD, ask_for_sandbox

from sojourn.activities.mcp.option import McpOptions
from sojourn.client import AgentRuntime, SessionHandle
from sojourn.client.key import KeyStore
from sojourn.client.update import execute_update
from sojourn.sandbox.address import PRIVATE_HOSTS_VARIABLE
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.testing.authority import FakeAuthority, fake_authority
from sojourn.types import (
    CloudConfigChange,
    ConflictError,
    CredentialChange,
    CredentialDefinition,
    DeploymentDefinition,
    EnvironmentChange,
    EnvironmentDefinition,
    EnvironmentNotFoundError,
    McpServer,
    McpToolset,
    NewEnvironmentVariable,
    NewMcpOAuth,
    NewOAuthRefresh,
    NewPublicClient,
    NewStaticBearer,
    Owner,
    Packages,
    PermissionPolicy,
    RollOver,
    StaticBearerChange,
    ToolOptions,
    UserMessage,
    Vault,
    VaultChange,
    VaultDefinition,
    VaultNotFoundError,
)
from sojourn.types.environment import UnrestrictedNetwork
from sojourn.types.event import (
    AgentToolUse,
    SessionErrorEvent,
)
from sojourn.types.id import export_workflow_id, key_workflow_id, name_workflow_id, policy_workflow_id
from sojourn.types.name import (
    ARCHIVE_CREDENTIAL_UPDATE,
    ARCHIVE_VAULT_UPDATE,
    DELETE_CREDENTIAL_UPDATE,
    HOLD_ENVIRONMENT_UPDATE,
    REFRESH_CREDENTIAL_UPDATE,
    RESEAL_VAULT_UPDATE,
)
from sojourn.types.seal import KEYS_VARIABLE, new_keys_line
from sojourn.types.session import UpdateSessionInput
from sojourn.types.vault import RefreshCredentialInput, ShedResult, TokenRefresh
from sojourn.worker import SojournWorker, WorkerOptions, embedded_server

FOLDER = Path(__file__).parent
OWNER = Owner("recorded", "ada")
AGENT = "agent-versions"
ENVIRONMENT = "environment-changes"
VAULT = "vault-changes"
ARCHIVED_VAULT = "vault-archived"
RESEALED_VAULT = "vault-resealed"
NAME = "environment-name"
KEY = "key"
POLICY = "policy"
EXPORT = "export-at-end"
RUN = "deployment-run-started"
FAILED_RUN = "deployment-run-failed"
SANDBOX = "check-sandbox"
WORKS = ("work-stopped", "work-given-back")

# --- plays that bring their own workers ----------------------------------------------------------------------------


async def _lost(client: Client) -> str:
    """A worker stops in the middle of a tool that must not be repeated; another goes on."""
    play = Play((ScriptedTurn(calls=[ScriptedCall("hang")]), DONE), PLAYS["turn"].act)
    async with _worker(client, "lost", play), _crew(client, "lost") as runtime:
        session = await _session(runtime, "lost", play)
        await session.send("hang")
        await saw(session, AgentToolUse)
    async with _worker(client, "lost", play), _crew(client, "lost") as runtime:
        session = runtime.session(session.id)
        await idle(session, 1)
        await session.archive()
    return session.id


async def _versioned(client: Client) -> str:
    """A pinned session moves to another version, parked and with its messages, and is moved back."""
    play = Play((PAY, *([DONE] * 5)), PLAYS["turn"].act, policy=ASK)
    one, two = (_worker(client, "versioned", play, build_id=build_id) for build_id in ("v1", "v2"))
    async with one, two, _crew(client, "versioned") as runtime:
        await _make_current(client, "v1")
        session = await _session(runtime, "versioned", play)
        await session.send("pay")
        await idle(session, 1)
        await _make_current(client, "v2")
        await session.send("and again")
        (action,) = await session.pending_actions()
        await session.confirm(action, allow=True)
        await idle(session, 3)
        await _make_current(client, "v1")
        await session.send_and_wait("back")
        await idle(session, 4)
        await session.archive()
    return session.id


async def _make_current(client: Client, build_id: str) -> None:
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name="versioned", build_id=build_id, identity="recorder"
    )
    async with asyncio.timeout(60):
        while True:
            try:
                await client.workflow_service.set_worker_deployment_current_version(request)
            except RPCError:
                # Its workers have not been heard of.
                await asyncio.sleep(0.1)
            else:
                # All task queues hear of it a moment later.
                return await asyncio.sleep(2)


def _mcp_call(name: str) -> ScriptedCall:
    return ScriptedCall(f"mcp__desk__{name}", {"a": 1, "b": 2} if name == "add" else {})


def _mcp_turn(*names: str) -> ScriptedTurn:
    return ScriptedTurn(calls=[_mcp_call(name) for name in names])


async def _answered(session: SessionHandle, answer: str) -> None:
    (action,) = await session.pending_actions()
    await session.answer(action, answer)


async def _asked(session: SessionHandle) -> None:
    """Questions of a server: answered wrongly, then rightly; left alone; interrupted. Another server is not there."""
    await session.send("ask")
    await idle(session, 1)
    await _answered(session, "three")
    await idle(session, 2)
    await _answered(session, '{"size": 3}')
    await idle(session, 3)
    await session.send("grow")
    await idle(session, 4)
    await session.send("ask and do not wait")
    await idle(session, 6)
    await session.send("ask")
    await idle(session, 7)
    await session.interrupt()
    await idle(session, 8)


async def _asked_twice(session: SessionHandle) -> None:
    """A question that is answered in another run than the one that it came in."""
    await session.send("ask")
    await idle(session, 1)
    for place in range(8):
        await session.update(UpdateSessionInput(title=f"{place}"))
    await _answered(session, '{"size": 3}')
    await idle(session, 2)
    await session.send("add")
    await idle(session, 3)


MCP_ASKS = (
    _mcp_turn("resolve", "add"),
    DONE,
    _mcp_turn("grow"),
    _mcp_turn("grown"),
    DONE,
    _mcp_turn("resolve"),
    DONE,
    _mcp_turn("resolve"),
)
MCP_PLAYS = {
    "mcp": Play(MCP_ASKS, _asked),
    "mcp-rolling": Play(
        (_mcp_turn("resolve"), DONE, _mcp_turn("add"), DONE),
        _asked_twice,
        limits=LIMITS.model_copy(update={"custom_tool_timeout": None}),
        max_events=25,
    ),
}
MCP_PROGRAM = FOLDER.parent / "mcp_servers" / "server.py"


async def _mcp(client: Client, name: str) -> str:
    """A session with a local MCP server."""
    play = MCP_PLAYS[name]
    with tempfile.NamedTemporaryFile() as ledger:
        command = shlex.join([sys.executable, str(MCP_PROGRAM), "--transport", "stdio", "--ledger", ledger.name])
        servers = (McpServer(type="stdio", name="desk"), McpServer(name="away", url="http://127.0.0.1:9/mcp"))
        allow = ToolOptions(permission="allow")
        tools = [McpToolset(mcp_server_name=each.name, default_config=allow) for each in servers]
        wanted = definition(name, play).model_copy(update={"tools": tuple(tools), "mcp_servers": servers})
        async with _worker(client, name, play, programs={"desk": command}), _crew(client, name) as runtime:
            agent = await runtime.create(wanted)
            roll_over = RollOver(max_events=play.max_events)
            session = await runtime.start_session(agent, session_id=f"sesn_{name}", title=name, roll_over=roll_over)
            await play.act(session)
            await session.archive()
    return session.id


LONE: dict[str, Callable[[Client], Awaitable[str]]] = {
    "lost": _lost,
    "versioned": _versioned,
    **YARD,
    **ERRANDS,
    **{name: partial(_mcp, name=name) for name in MCP_PLAYS},
}
"""Each gives the id of its session, which has ended."""

# --- recording -----------------------------------------------------------------------------------------------------


def _worker(
    client: Client,
    name: str,
    play: Play,
    *,
    build_id: str | None = None,
    programs: Mapping[str, str] | None = None,
) -> SojournWorker:
    version = WorkerDeploymentVersion(name, build_id) if build_id else None
    options = WorkerOptions(
        task_queue=name,
        identity="recorder",
        graceful_shutdown=timedelta(0),
        mcp=McpOptions(programs=programs or {}),
        deployment=WorkerDeploymentConfig(version, True, VersioningBehavior.PINNED) if version else None,
    )
    return SojournWorker(client, tools=[add, pay, hang], hooks=HOOKS, scripts={name: play.turns}, options=options)


@asynccontextmanager
async def _crew(client: Client, name: str) -> AsyncGenerator[AgentRuntime, None]:
    runtime = AgentRuntime(client, owner=OWNER, task_queue=name)
    try:
        yield runtime
    finally:
        await runtime.close()


async def record(folder: Path, names: set[str]) -> None:
    """Play the named and write them to the folder."""
    os.environ[KEYS_VARIABLE] = new_keys_line("recorder")
    async with embedded_server() as server:
        for name in sorted(names):
            await _record(server.client, folder, name)


async def _record(client: Client, folder: Path, name: str) -> None:
    if name in ENTITIES:
        return await ENTITIES[name](client, folder)
    name = name.removeprefix("session-")
    if name in LONE:
        id = await LONE[name](client)
    else:
        play = PLAYS[name]
        async with _worker(client, name, play), _crew(client, name) as runtime:
            session = await _session(runtime, name, play)
            await play.act(session)
            failed = any(isinstance(event, SessionErrorEvent) for event in await runtime.list_events(session))
            assert failed == play.fails, f"{name} did not go as planned"
            if not play.ends:
                await session.archive()
            id = session.id
            if play.exports:
                export = export_workflow_id(f"{OWNER.workspace}/{id}")
                await client.get_workflow_handle(export).result()
                await _write(client, folder, export, EXPORT)
    await _write(client, folder, f"{OWNER.workspace}/{id}", f"session-{name}")


async def _session(runtime: AgentRuntime, name: str, play: Play) -> SessionHandle:
    agent = await runtime.create(definition(name, play))
    roll_over = RollOver(max_events=play.max_events)
    return await runtime.start_session(
        agent, session_id=f"sesn_{name}", title=name, roll_over=roll_over, budget=play.budget
    )


async def _record_agent(client: Client, folder: Path) -> None:
    play = PLAYS["turn"]
    async with _worker(client, "agent", play), _crew(client, "agent") as runtime:
        first = definition("turn", play)
        agent = await runtime.create(first)
        await agent.update(first.model_copy(update={"system": "two"}))
        await agent.update(first.model_copy(update={"system": "two"}))
        await agent.update(first.model_copy(update={"name": "three"}), version=2)
        await agent.archive()
    await _write(client, folder, f"{OWNER.workspace}/{agent.id}", AGENT)


async def _record_started_run(client: Client, folder: Path) -> None:
    await _record_run(client, folder, RUN)


async def _record_failed_run(client: Client, folder: Path) -> None:
    await _record_run(client, folder, FAILED_RUN)


async def _record_run(client: Client, folder: Path, name: str) -> None:
    """A run of a deployment that starts a session, or one whose agent is gone."""
    play = PLAYS["turn"]
    async with _worker(client, name, play), _crew(client, name) as runtime:
        agent = await runtime.create(definition(name, play))
        wanted = DeploymentDefinition(name="nightly", agent=agent.id, initial_events=(UserMessage.text("hello"),))
        deployment = await runtime.create_deployment(wanted)
        if name == FAILED_RUN:
            await agent.archive()
        run = await runtime.run_deployment(deployment)
        assert (run.error is not None) == (name == FAILED_RUN), f"{name} did not go as planned"
        await _write(client, folder, f"{OWNER.workspace}/{run.id}", name)
        if run.session_id is not None:
            session = runtime.session(run.session_id)
            await idle(session, 1)
            await session.archive()


async def _record_environment(client: Client, folder: Path) -> None:
    async with _worker(client, "environment", PLAYS["turn"]), _crew(client, "environment") as runtime:
        made = await runtime.create_environment(EnvironmentDefinition(name="one", metadata={"a": "1"}))
        packages = CloudConfigChange(type="cloud", packages=Packages(pip=("pandas",)))
        for change in (
            EnvironmentChange(name="two", description="d"),
            EnvironmentChange(name="two"),
            EnvironmentChange(description=None, metadata={"a": None}, config=packages),
        ):
            made = await runtime.update_environment(made, change)
        for wanted in (True, False):
            await execute_update(
                client,
                f"{OWNER.workspace}/{made.id}",
                HOLD_ENVIRONMENT_UPDATE,
                wanted,
                result=None,
                missing=EnvironmentNotFoundError(made.id),
                task_queue="environment",
            )
        await runtime.archive_environment(made)
        await runtime.archive_environment(made)
    await _write(client, folder, f"{OWNER.workspace}/{made.id}", ENVIRONMENT)


async def _record_vault(client: Client, folder: Path) -> None:
    """One whose secrets never change hands: nothing is taken out of it, so it stays one run."""
    async with (
        fake_authority() as authority,
        _worker(client, "vault", PLAYS["turn"]),
        _crew(client, "vault") as runtime,
    ):
        os.environ[PRIVATE_HOSTS_VARIABLE] = authority.address
        made = await runtime.create_vault(VaultDefinition(display_name="one"))
        await runtime.update_vault(made, VaultChange(display_name="two", metadata={"a": "1"}))
        await runtime.update_vault(made, VaultChange(display_name="two"))
        bearer = NewStaticBearer(mcp_server_url="https://one.example.com", token=SecretStr("recorded"))
        static = await runtime.create_credential(made, CredentialDefinition(auth=bearer))
        change = StaticBearerChange(type="static_bearer", token=SecretStr("recorded"))
        await runtime.update_credential(made, static, CredentialChange(auth=change))
        stale = await runtime.create_credential(made, CredentialDefinition(auth=_oauth(authority)))
        for status in (0, 500):
            authority.server_status = status
            await runtime.validate_credential(made, stale)
        for generation in (0, 1):
            await execute_update(
                client,
                f"{OWNER.workspace}/{made.id}",
                REFRESH_CREDENTIAL_UPDATE,
                RefreshCredentialInput(credential_id=stale.id, generation=generation),
                result=TokenRefresh,
                missing=VaultNotFoundError(made.id),
                task_queue="vault",
            )
    await _write(client, folder, f"{OWNER.workspace}/{made.id}", VAULT)


def _oauth(authority: FakeAuthority) -> NewMcpOAuth:
    return NewMcpOAuth(
        mcp_server_url=authority.mcp_url,
        access_token=SecretStr("recorded"),
        refresh=NewOAuthRefresh(
            token_endpoint=authority.token_endpoint,
            client_id="recorder",
            refresh_token=SecretStr(authority.refresh_token),
            token_endpoint_auth=NewPublicClient(type="none"),
        ),
    )


async def _record_archived_vault(client: Client, folder: Path) -> None:
    """Each time secrets are taken out another run begins, and the client has the server forget the one before."""
    async with _worker(client, "shut", PLAYS["turn"]), _crew(client, "shut") as runtime:
        made = await runtime.create_vault(VaultDefinition(display_name="one"))
        for name in ("A", "B"):
            auth = NewEnvironmentVariable(
                secret_name=name, secret_value=SecretStr("recorded"), networking=UnrestrictedNetwork()
            )
            await runtime.create_credential(made, CredentialDefinition(auth=auth), credential_id=f"vcrd_{name}")
        workflow_id = f"{OWNER.workspace}/{made.id}"
        for name, argument in (
            (ARCHIVE_CREDENTIAL_UPDATE, "vcrd_A"),
            (ARCHIVE_CREDENTIAL_UPDATE, "vcrd_A"),
            (DELETE_CREDENTIAL_UPDATE, "vcrd_B"),
            (ARCHIVE_VAULT_UPDATE, None),
            (ARCHIVE_VAULT_UPDATE, None),
        ):
            await _shed(client, made, name, argument, queue="shut")
        await _begun(client, workflow_id)
    await _write(client, folder, workflow_id, ARCHIVED_VAULT)


async def _record_resealed_vault(client: Client, folder: Path) -> None:
    """Sealed anew with another key, which begins another run; and once more, which changes nothing."""
    async with _worker(client, "reseal", PLAYS["turn"]), _crew(client, "reseal") as runtime:
        made = await runtime.create_vault(VaultDefinition(display_name="one"))
        bearer = NewStaticBearer(mcp_server_url="https://one.example.com", token=SecretStr("recorded"))
        await runtime.create_credential(made, CredentialDefinition(auth=bearer))
        os.environ[KEYS_VARIABLE] = f"{new_keys_line('next')},{os.environ[KEYS_VARIABLE]}"
        for _ in range(2):
            await _shed(client, made, RESEAL_VAULT_UPDATE, queue="reseal")
        workflow_id = f"{OWNER.workspace}/{made.id}"
        await _begun(client, workflow_id)
    await _write(client, folder, workflow_id, RESEALED_VAULT)


async def _shed(client: Client, vault: Vault, name: str, argument: object | None = None, *, queue: str) -> None:
    """Not through the runtime, which would have the server forget what is to be recorded."""
    await execute_update(
        client,
        f"{OWNER.workspace}/{vault.id}",
        name,
        argument,
        result=ShedResult,
        missing=VaultNotFoundError(vault.id),
        task_queue=queue,
    )


async def _record_name(client: Client, folder: Path) -> None:
    async with _worker(client, "name", PLAYS["turn"]), _crew(client, "name") as runtime:
        made = await runtime.create_environment(EnvironmentDefinition(name="taken"))
        held = name_workflow_id(OWNER.workspace, made.name)
        await _begun(client, held)
        await runtime.archive_environment(made)
    await _write(client, folder, held, NAME)


async def _record_key(client: Client, folder: Path) -> None:
    keys = KeyStore(client, task_queue="key")
    async with _worker(client, "key", PLAYS["turn"]):
        key = (await keys.create("recorded", owner=OWNER, expires_in=timedelta(days=1))).info
        await _begun(client, key_workflow_id(key.id))
        await keys.revoke(key.id, workspace=OWNER.workspace)
    await _write(client, folder, key_workflow_id(key.id), KEY)


async def _record_question(client: Client, folder: Path) -> None:
    await _write(client, folder, await ask_for_sandbox(client), SANDBOX)


async def _record_work(client: Client, folder: Path, name: str) -> None:
    """An item of the queue of a self-hosted environment."""
    id = await play_work(client, name)
    await _write(client, folder, f"{OWNER.workspace}/{id}", name)


async def _record_policy(client: Client, folder: Path) -> None:
    async with _worker(client, "policy", PLAYS["turn"]), _crew(client, "policy") as runtime:
        made = await runtime.set_policy(PermissionPolicy.of(deny=["bash(rm *)"]))
        await runtime.add_rule("bash(git *)")
        await runtime.add_rule("bash(git *)")
        await runtime.add_rule("bash(make)", agent="agent_recorded")
        await runtime.remove_rule("bash(git *)")
        with suppress(ConflictError):
            await runtime.set_policy(PermissionPolicy(), version=made.version)
    await _write(client, folder, policy_workflow_id(OWNER.workspace), POLICY)


async def _begun(client: Client, workflow_id: str) -> None:
    """Wait until a worker has had the workflow."""
    events = client.get_workflow_handle(workflow_id).fetch_history_events(wait_new_event=True)
    async with asyncio.timeout(30):
        async for event in events:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return


ENTITIES: dict[str, Callable[[Client, Path], Awaitable[None]]] = {
    AGENT: _record_agent,
    ENVIRONMENT: _record_environment,
    VAULT: _record_vault,
    ARCHIVED_VAULT: _record_archived_vault,
    RESEALED_VAULT: _record_resealed_vault,
    NAME: _record_name,
    KEY: _record_key,
    POLICY: _record_policy,
    RUN: _record_started_run,
    FAILED_RUN: _record_failed_run,
    SANDBOX: _record_question,
    **{name: partial(_record_work, name=name) for name in WORKS},
}


async def _write(client: Client, folder: Path, workflow_id: str, name: str) -> None:
    """One file for each run, the first run first."""
    runs: list[WorkflowHistory] = []
    run_id: str | None = None
    while True:
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        runs.insert(0, history)
        started = history.events[0].workflow_execution_started_event_attributes
        run_id = started.continued_execution_run_id
        if not run_id:
            break
    for number, history in enumerate(runs, 1):
        path = folder / f"{name}{f'-{number}' if len(runs) > 1 else ''}.json"
        path.write_text(_cleaned(history.to_json(), workflow_id))
        print(f"{path.relative_to(FOLDER)}: {len(history.events)} events")


def _cleaned(text: str, workflow_id: str) -> str:
    """Without the names of the machine it was recorded on, and its paths."""
    text = re.sub(r'"stackTrace":\s*"(?:[^"\\]|\\.)*"', '"stackTrace": ""', text)
    loose = json.loads(re.sub(r'"identity":\s*"[^"]*"', '"identity": "recorder"', text))
    return json.dumps({"workflowId": workflow_id, **loose}, indent=1) + "\n"


def _release() -> str:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    return str(project["version"]).partition(".dev")[0]


def _files(folder: Path, name: str) -> list[Path]:
    """Recordings of a play: one, or one for each run."""
    return [path for path in folder.rglob("*.json") if re.fullmatch(rf"{name}(-\d+)?", path.stem)]


def main() -> None:
    """Play what the arguments say; see the top of the file."""
    every = {*ENTITIES, *(f"session-{name}" for name in (*PLAYS, *LONE))}
    parser = argparse.ArgumentParser(description="Record workflow histories for the replay tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="record these again, for example session-turn")
    parser.add_argument("--all", action="store_true", help="everything that the release's own folder lacks")
    parser.add_argument("--release", default=_release(), help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - every:
        parser.error(f"no play is called {', '.join(sorted(unknown))}")
    folder = FOLDER / arguments.release
    names = set(arguments.names) or {each for each in every if not _files(folder if arguments.all else FOLDER, each)}
    if not names:
        print("every play has been recorded")
        return
    folder.mkdir(exist_ok=True)
    for old in (file for name in names for file in _files(folder, name)):
        old.unlink()
    asyncio.run(record(folder, names))


if __name__ == "__main__":
    main()
