"""A coding agent repairs a repository in a sandbox, and asks before it commits.

python examples/coding_agent.py                               # a scripted model, a repository made for it
python examples/coding_agent.py REPOSITORY PROVIDER:MODEL     # yours, at https://…

The sandbox is bubblewrap (Linux; on Debian: apt-get install bubblewrap). `sojourn demo coding` shows more.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from sojourn.client import AgentRuntime, SessionHandle
from sojourn.testing.coding import script
from sojourn.testing.coding_site import coding_site
from sojourn.types import (
    AgentDefinition,
    AgentMessage,
    AgentToolResult,
    AgentToolset,
    AgentToolUse,
    CloudConfig,
    EnvironmentConfig,
    EnvironmentDefinition,
    LimitedNetwork,
    PermissionPolicy,
    RepositoryMount,
    RequiresAction,
    SessionIdle,
)

TASK = "A unit test fails. Repair the program, commit it, and write the patch to /mnt/session/outputs/fix.patch."
AUTHOR = {
    "GIT_AUTHOR_NAME": "Coding agent",
    "GIT_AUTHOR_EMAIL": "agent@example.com",
    "GIT_COMMITTER_NAME": "Coding agent",
    "GIT_COMMITTER_EMAIL": "agent@example.com",
}


async def start(runtime: AgentRuntime, repository: str, model: str) -> SessionHandle:
    coder = AgentDefinition(
        name="coder",
        model=model,
        system="You repair programs. The repository is below /workspace. Be brief.",
        tools=[AgentToolset()],
        permission_policy=PermissionPolicy.of(ask=["bash(git commit*)"], deny=["bash(git push*)"]),
    )
    offline = EnvironmentDefinition(name="offline", config=CloudConfig(networking=LimitedNetwork()))
    return await runtime.start_session(
        await runtime.create(coder),
        environment=EnvironmentConfig(env_vars=AUTHOR),
        environment_id=(await runtime.create_environment(offline)).id,
        resources=[RepositoryMount(url=repository)],
    )


async def repair(session: SessionHandle) -> None:
    calls: dict[str, AgentToolUse] = {}
    await session.send(TASK)
    async for event in session.events(from_seq=0):
        match event:
            case AgentMessage():
                print(event.text)
            case AgentToolUse():
                calls[event.id] = event
                print(">", event.name, event.input)
            case AgentToolResult():
                print(event.text)
            case SessionIdle(stop_reason=RequiresAction(event_ids=ids)):
                for call in map(calls.__getitem__, ids):
                    answer = await asyncio.to_thread(input, f"allow {call.name} {call.input}? [y/n] ")
                    await session.confirm(call, allow=answer == "y")
            case SessionIdle():
                return


async def show_patch(runtime: AgentRuntime, session: SessionHandle) -> None:
    for _ in range(100):
        for file in (await session.files()).data:
            print(f"--- {file.filename}\n{(await runtime.read_file(file)).decode()}")
            return
        # What an agent has written becomes a file of its session a moment after the turn.
        await asyncio.sleep(0.1)


async def main(repository: str, model: str, site: str = "") -> None:
    async with AgentRuntime.embedded(scripts={"coder": script(site)}, sandbox="bubblewrap") as runtime:
        session = await start(runtime, repository, model)
        await repair(session)
        await show_patch(runtime, session)


if len(sys.argv) == 3:
    asyncio.run(main(*sys.argv[1:]))
else:
    with tempfile.TemporaryDirectory() as folder, coding_site(Path(folder)) as site:
        # Our repository is on this machine, which nobody may reach who is not told so.
        os.environ.update(site.environment)
        asyncio.run(main(site.repository_url, "scripted:coder", site.url))
