import logging

import pytest

from sojourn.sandbox import choose_sandbox
from sojourn.types import SandboxError


async def test_local_is_taken_by_name_only_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sojourn.sandbox"):
        choice = await choose_sandbox("local")

    assert choice.sandbox is not None
    assert not choice.sandbox.isolates
    assert "protects nothing" in caplog.text


async def test_none_says_so() -> None:
    choice = await choose_sandbox("none")

    assert choice.sandbox is None
    assert choice.reason == "the worker was started without a sandbox"


async def test_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(SandboxError, match="no sandbox 'jail'; choose one of auto, bubblewrap, docker, local, none"):
        await choose_sandbox("jail")


async def test_docker_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    with pytest.raises(SandboxError, match="no Docker daemon at unix:///nowhere"):
        await choose_sandbox("docker")
