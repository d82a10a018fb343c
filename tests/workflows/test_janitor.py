"""Workspaces that nobody needs any more, on a machine with workers that live and workers that do not."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from sojourn.activities.janitor import Janitor
from sojourn.activities.workspace import Equipment, Workspaces
from sojourn.activities.workspace_folder import FolderRecord, WorkspaceFolder
from sojourn.sandbox.local import LocalSandbox
from sojourn.sandbox.slot import Slot
from sojourn.types.chain import described_run


async def made(slot: Slot, workflow_id: str, first_run_id: str) -> WorkspaceFolder:
    folder = Workspaces(slot.folder, "queue", Equipment(LocalSandbox())).at(workflow_id).folder
    folder.make(None)
    folder.write(FolderRecord(workflow_id=workflow_id, first_run_id=first_run_id, generation=1))
    return folder


async def test_only_workspaces_of_sessions_that_go_on_are_kept(stage: Any, tmp_path: Path) -> None:
    goes_on, over = await stage.session(), await stage.open(await stage.agent(model="scripted:echo"))
    runs = {}
    for probe in (goes_on, over):
        info = await described_run(stage.client, probe.workflow_id)
        assert info is not None
        runs[probe.workflow_id] = info.first_run_id
    await over.session.archive()
    with Slot.claim(tmp_path) as own, Slot.claim(tmp_path) as living, Slot.claim(tmp_path) as gone:
        wanted = [await made(slot, goes_on.workflow_id, runs[goes_on.workflow_id]) for slot in (own, living, gone)]
        ended = [await made(slot, over.workflow_id, runs[over.workflow_id]) for slot in (own, gone)]
        unknown = [await made(slot, "nobody/sesn_none", "run") for slot in (own, gone)]
        elsewhere = await made(living, over.workflow_id, runs[over.workflow_id])
        gone.release()

        workspaces = Workspaces(own.folder, "queue", Equipment(LocalSandbox()))
        await Janitor(stage.client, workspaces, None, every=timedelta(hours=1)).clean()

        assert [folder.path.exists() for folder in wanted] == [True] * 3
        assert [folder.path.exists() for folder in (*ended, *unknown)] == [False] * 4
        assert elsewhere.path.exists(), "its own worker lives, and removes it"


async def test_another_session_of_the_same_id_does_not_keep_the_workspace(stage: Any, tmp_path: Path) -> None:
    probe = await stage.session()
    with Slot.claim(tmp_path) as own:
        folder = await made(own, probe.workflow_id, "run-of-the-session-before")

        await Janitor(stage.client, Workspaces(own.folder, "queue", Equipment(LocalSandbox())), None).clean()

        assert not folder.path.exists()
