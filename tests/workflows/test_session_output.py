"""Files of a session out of what its agent has written, in real folders."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from sojourn.activities.output import OutputLimits, Outputs
from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.testing import ScriptedTurn
from sojourn.types.file import FileMetadata
from sojourn.types.file_store import FileStore
from sojourn.types.payload import store_of
from sojourn.types.session import SessionInput
from sojourn.types.session_error import ErrorDetail


class Field:
    """A workspace of a session that exists, and its outputs."""

    def __init__(self, stage: Any, probe: Any, folder: WorkspaceFolder, start: SessionInput) -> None:
        store = store_of(stage.client)
        assert store is not None
        self.folder = folder
        self.outputs = folder.outputs
        self.files = FileStore(store, clock=lambda: datetime.now(UTC))
        self._client: Client = stage.client
        self._start = start
        self._environment = ActivityEnvironment()
        self._environment.info = replace(self._environment.info, workflow_id=probe.workflow_id, workflow_run_id="")

    async def harvest(self, limits: OutputLimits | None = None) -> tuple[ErrorDetail, ...]:
        outputs = Outputs(self._client, limits=limits or OutputLimits())
        return await self._environment.run(outputs.harvest, self._start, self.folder)

    async def found(self) -> dict[str, FileMetadata]:
        page = await self.files.page(owner=self._start.owner, session_id=self._start.session_id, limit=100)
        assert len({meta.filename for meta in page.data}) == len(page.data)
        return {meta.filename: meta for meta in page.data}

    async def content(self, meta: FileMetadata) -> bytes:
        return b"".join([chunk async for chunk in self.files.read(meta, owner=self._start.owner)])


@pytest.fixture
async def field(stage: Any, tmp_path: Path) -> Field:
    probe = await stage.session(ScriptedTurn(text="hi"))
    snapshot = await stage.runtime.session_snapshot(probe.session)
    folder = WorkspaceFolder(tmp_path / "here")
    folder.make(None)
    start = SessionInput(session_id=probe.session.id, owner=stage.owner, agent=snapshot.agent)
    return Field(stage, probe, folder, start)


async def test_new_and_changed_files_are_taken_once(field: Field) -> None:
    (field.outputs / "deep").mkdir()
    (field.outputs / "deep/a.txt").write_text("one")
    (field.outputs / "b.txt").write_text("two")
    assert await field.harvest() == ()
    first = await field.found()
    assert await field.harvest() == ()
    again = await field.found()
    (field.outputs / "b.txt").write_text("2!!")
    (field.outputs / "deep/a.txt").unlink()
    await field.harvest()
    changed = await field.found()

    assert set(first) == {"deep/a.txt", "b.txt"}
    assert again == first
    assert changed["deep/a.txt"] == first["deep/a.txt"]
    assert changed["b.txt"].id != first["b.txt"].id
    assert await field.content(changed["b.txt"]) == b"2!!"


async def test_another_worker_takes_nothing_twice(field: Field) -> None:
    (field.outputs / "a.txt").write_text("one")
    await field.harvest()
    first = await field.found()
    (field.folder.path / "outputs.json").unlink()
    await field.harvest()

    assert await field.found() == first


async def test_links_and_what_is_no_file_are_left_out(field: Field, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    (field.outputs / "link").symlink_to(secret / "key")
    (field.outputs / "folder").symlink_to(secret)
    os.mkfifo(field.outputs / "pipe")
    (field.outputs / "a.txt").write_text("one")

    assert await field.harvest() == ()
    assert set(await field.found()) == {"a.txt"}


@pytest.mark.parametrize("limits", [OutputLimits(files=2), OutputLimits(file_bytes=5), OutputLimits(total_bytes=8)])
async def test_what_is_over_a_limit_is_said(field: Field, limits: OutputLimits) -> None:
    for name, text in (("a", "1"), ("b", "2"), ("c", "1234567")):
        (field.outputs / name).write_text(text)

    (error,) = await field.harvest(limits)

    assert error.message.startswith("1 outputs became no files of the session: 'c'")
    assert set(await field.found()) == {"a", "b"}
