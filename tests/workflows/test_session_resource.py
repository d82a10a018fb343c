"""What a session mounts and what its agent writes, with a real worker, a real sandbox (`local`) and a git server."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from tests.activities.git_server import GitServer, git_server
from tests.conftest import eventually

from sojourn.sandbox.address import PRIVATE_HOSTS_VARIABLE
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentToolset, Limits, PermissionPolicy, text_of
from sojourn.types.agent import ToolOptions
from sojourn.types.event import AgentToolResult, SessionErrorEvent
from sojourn.types.file import FileMetadata
from sojourn.types.resource import FileMount, RepositoryMount
from sojourn.types.seal import KEYS_VARIABLE, new_keys_line
from sojourn.worker import WorkerOptions

DONE = ScriptedTurn(text="done")
FREE = PermissionPolicy(default="allow")
TOOLS = AgentToolset(configs=tuple(ToolOptions(name=name, enabled=False) for name in ("web_fetch", "web_search")))
SOON = Limits(workspace_timeout=timedelta(seconds=2))


def calls(*made: ScriptedCall) -> ScriptedTurn:
    return ScriptedTurn(calls=list(made))


def bash(command: str) -> ScriptedTurn:
    return calls(ScriptedCall("bash", {"command": command}))


def read(path: str) -> ScriptedCall:
    return ScriptedCall("read", {"file_path": path})


def written(name: str, text: str) -> ScriptedCall:
    return ScriptedCall("write", {"file_path": f"/mnt/session/outputs/{name}", "content": text})


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    root = tmp_path / "git"
    root.mkdir()
    with git_server(root) as forge:
        monkeypatch.setenv(PRIVATE_HOSTS_VARIABLE, forge.host)
        monkeypatch.setenv(KEYS_VARIABLE, new_keys_line("k"))
        yield forge


class Yard:
    """Workers with sandboxes."""

    def __init__(self, stage: Any, root: Path) -> None:
        self.stage = stage
        self.root = root
        self.turns: tuple[ScriptedTurn, ...] = ()

    async def worker(self, place: str = "a") -> None:
        options = WorkerOptions(sandbox="local", workspaces=self.root / place, graceful_shutdown=timedelta(0))
        ours: Client = self.stage.client
        # The SDK wants a client for each worker of a task queue.
        client = await Client.connect(ours.service_client.config.target_host, data_converter=ours.data_converter)
        await self.stage.work(self.turns, options=options, client=client)

    async def session(self, *turns: ScriptedTurn, **options: Any) -> Any:
        self.turns = turns
        await self.worker()
        agent = await self.stage.agent(TOOLS, policy=FREE, limits=SOON)
        return await self.stage.open(agent, **options)

    async def outputs(self, probe: Any) -> list[FileMetadata]:
        page = await self.stage.runtime.list_files(session=probe.session, limit=1000)
        return [each for each in page.data if each.origin == "output"]

    async def output(self, probe: Any, *names: str) -> list[FileMetadata]:
        """The outputs, once they are these."""
        found: list[FileMetadata] = []

        async def there() -> bool:
            found[:] = await self.outputs(probe)
            return sorted(each.filename for each in found) == sorted(names)

        await eventually(there, f"outputs {names}; there are {[each.filename for each in found]}")
        return found


@pytest.fixture
def yard(stage: Any, tmp_path: Path) -> Yard:
    return Yard(stage, tmp_path / "workspaces")


def told(probe: Any) -> list[str]:
    return [text_of(each.content) for each in probe.of(AgentToolResult)]


async def talk(probe: Any, number: int) -> None:
    await probe.session.send(f"turn {number}")
    await probe.idle(number)


async def test_an_agent_works_on_what_is_mounted_and_its_outputs_are_files(yard: Yard, forge: GitServer) -> None:
    runtime = yard.stage.runtime
    forge.repository("private")
    file = await runtime.upload_file(b"six times seven", filename="task.txt")
    probe = await yard.session(
        calls(read("/mnt/session/uploads/task.txt"), read("private/README"), written("deep/answer.txt", "42")),
        # Links can be made through the real path alone, which this sandbox does not hide.
        bash("ln -s /etc/passwd ../outputs/link"),
        DONE,
        calls(written("deep/answer.txt", "43"), written("more.txt", "more")),
        DONE,
        resources=[
            FileMount(file_id=file.id, mount_path="/mnt/session/uploads/task.txt"),
            RepositoryMount(url=forge.url("private"), authorization_token=forge.token),
        ],
    )
    await talk(probe, 1)
    (first,) = await yard.output(probe, "deep/answer.txt")
    content = await runtime.read_file(first)
    await talk(probe, 2)
    found = {each.filename: each for each in await yard.output(probe, "deep/answer.txt", "more.txt")}

    assert {"six times seven", "read me"} < set(told(probe))
    assert (content, first.session_id, first.mime_type) == (b"42", probe.session.id, "text/plain")
    assert probe.of(SessionErrorEvent) == []
    assert await runtime.read_file(found["deep/answer.txt"]) == b"43"
    history = await yard.stage.client.get_workflow_handle(probe.workflow_id).fetch_history()
    assert forge.token not in history.to_json()
    for path in yard.root.rglob("*"):
        assert not path.is_file() or forge.token.encode() not in path.read_bytes()


async def test_what_is_mounted_later_is_there_for_the_next_call(yard: Yard, forge: GitServer) -> None:
    runtime = yard.stage.runtime
    file = await runtime.upload_file(b"late", filename="late.txt")
    forge.repository("private")
    probe = await yard.session(
        bash("ls"), DONE, bash("cat late.txt; ls"), DONE, bash("ls; cat private/README"), DONE, bash("ls"), DONE
    )
    await talk(probe, 1)
    added = await probe.session.add_resource(FileMount(file_id=file.id, mount_path="/workspace/late.txt"))
    mount = RepositoryMount(url=forge.url("private"), authorization_token="gho_wrong")
    repository = await probe.session.add_resource(mount)
    await talk(probe, 2)
    (error,) = [each.error for each in probe.of(SessionErrorEvent)]
    await probe.session.rotate_resource(repository.id, forge.token)
    await talk(probe, 3)
    await probe.session.remove_resource(added.id)
    await talk(probe, 4)

    assert "late" not in told(probe)[0]
    assert told(probe)[1].startswith("late")
    assert (error.type, error.repository_url) == ("repository_authentication_error", forge.url("private"))
    assert "read me" in told(probe)[2]
    assert "late" not in told(probe)[3]
    assert len(probe.of(SessionErrorEvent)) == 1


async def test_a_workspace_that_moves_takes_everything_along(yard: Yard, forge: GitServer) -> None:
    runtime = yard.stage.runtime
    forge.repository("public")
    file = await runtime.upload_file(b"hello", filename="a.txt")
    probe = await yard.session(
        calls(ScriptedCall("write", {"file_path": "public/README", "content": "changed"}), written("one.txt", "1")),
        DONE,
        calls(read("/mnt/session/uploads/a.txt"), read("public/README"), written("two.txt", "2")),
        DONE,
        resources=[
            FileMount(file_id=file.id, mount_path="/mnt/session/uploads/a.txt"),
            RepositoryMount(url=forge.url("public")),
        ],
    )
    await talk(probe, 1)
    (one,) = await yard.output(probe, "one.txt")
    asked = len(forge.requests)

    async def stored() -> bool:
        return await _is_stored(yard, probe)

    await eventually(stored, "a checkpoint")
    await yard.worker("b")
    await yard.stage.stop(yard.stage.workers[0])
    await talk(probe, 2)
    found = await yard.output(probe, "one.txt", "two.txt")

    assert {"hello", "changed"} < {text.rpartition("\n")[2] for text in told(probe)}
    assert len(forge.requests) == asked
    assert one.id in {each.id for each in found}


async def _is_stored(yard: Yard, probe: Any) -> bool:
    """Whether the session's workflow knows a checkpoint."""
    handle = yard.stage.client.get_workflow_handle(probe.workflow_id)
    scheduled: dict[int, str] = {}
    async for event in handle.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            scheduled[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        done = event.activity_task_completed_event_attributes
        if scheduled.get(done.scheduled_event_id) == "checkpoint_workspace":
            return True
    return False
