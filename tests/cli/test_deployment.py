import json
import signal
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from sojourn.worker import default_build_id

if TYPE_CHECKING:
    from tests.conftest import Eventually


@pytest.fixture
def queue() -> str:
    return f"test-deploy-{uuid.uuid4().hex[:8]}"


async def test_versions_are_listed_made_current_and_drained(
    start: Any, sojourn: Any, queue: str, eventually: "Eventually"
) -> None:
    async def current(build_id: str) -> bool:
        return bool((await sojourn("deployments", "set-current", queue, build_id, "--move", "--json")).code == 0)

    async def statuses() -> dict[str, str]:
        listed = (await sojourn("deployments", "list", queue, "--json")).document["data"]
        return {each["build_id"]: each["status"] for each in listed}

    async def drained() -> bool:
        return await statuses() == {"v1": "drained", "v2": "current"}

    worker = ("worker", "--deployment", queue, "--task-queue", queue, "--json")
    async with start(*worker, "--build-id", "v1") as first, start(*worker, "--build-id", "v2") as second:
        served = [json.loads(await process.stdout.readline()) for process in (first, second)]
        await eventually(lambda: current("v1"), "v1 is current")
        said = await sojourn("chat", "--task-queue", queue, stdin="hi\n")
        await eventually(lambda: current("v2"), "v2 is current")
        await eventually(drained, "v1 has drained")
        first.send_signal(signal.SIGTERM)
        await first.communicate()
        table = await sojourn("deployments", "list", queue)

    assert [(each["deployment"], each["build_id"]) for each in served] == [(queue, "v1"), (queue, "v2")]
    assert "You said: hi" in said.out
    assert first.returncode == 0
    rows = sorted(line.split("\t")[1:3] for line in table.out.splitlines()[1:])
    assert rows == [["v1", "drained"], ["v2", "current"]]


async def test_the_build_id_is_the_release_and_its_code(start: Any, queue: str) -> None:
    async with start("worker", "--task-queue", queue, "--deployment", queue, "--versioning", "auto-upgrade") as process:
        process_said = (await process.stdout.readuntil(b" of deployment ") + await process.stdout.readline()).decode()
        warned = (await process.stderr.readuntil(b"it gets no work before ") + await process.stderr.readline()).decode()
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert f"version {default_build_id()!r} of deployment {queue!r}" in process_said
    assert f"it gets no work before `sojourn deployments set-current {queue} {default_build_id()}`" in warned


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--build-id", "v1"), "name it with --deployment"),
        (("--deployment", "a.b"), "deployment 'a.b' is none"),
        (("--deployment", " "), "deployment ' ' is none"),
        (("--deployment", "a", "--build-id", "x:y"), "build id 'x:y' is none"),
        (("--deployment", "a", "--versioning", "later"), "use pinned or auto-upgrade"),
    ],
)
async def test_a_version_that_is_none_is_refused(sojourn: Any, arguments: tuple[str, ...], told: str) -> None:
    ended = await sojourn("worker", *arguments, "--json")

    assert ended.code == 2
    assert told in ended.error["message"]


async def test_a_deployment_that_does_not_exist_is_told(sojourn: Any) -> None:
    ended = await sojourn("deployments", "set-current", "nowhere", "v1", "--json")

    assert ended.code == 3
    assert "`sojourn worker --deployment` makes it" in ended.error["message"]
