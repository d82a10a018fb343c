"""Mounting files and repositories, into real folders and from a real git server."""

import os
import shutil
import socket
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.activities.git_server import GitServer, git, git_server

from sojourn.activities.resource import Mounting
from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.repository import CloneLimits
from sojourn.types import AgentDefinition, AgentId, AgentVersion, ModelRef, Owner, SessionId
from sojourn.types.file import FileMetadata
from sojourn.types.file_store import FileStore
from sojourn.types.id import new_resource_id
from sojourn.types.resource import (
    BranchCheckout,
    CommitCheckout,
    FileResource,
    RepositoryResource,
    Resource,
    token_context,
    token_path,
)
from sojourn.types.seal import Sealer
from sojourn.types.session import SessionInput
from sojourn.types.session_error import ErrorDetail
from sojourn.types.store import Store

OWNER = Owner("acme", "ada")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEALER = Sealer({"k": b"k" * 32})


@dataclass
class Desk:
    """A workspace on a worker, and what is mounted into it."""

    folder: WorkspaceFolder
    store: Store
    files: FileStore
    git: GitServer
    mounting: Mounting

    async def prepare(self, *resources: Resource) -> tuple[ErrorDetail, ...]:
        start = SessionInput(
            session_id=SessionId("sesn_1"),
            owner=OWNER,
            agent=AgentVersion(
                id=AgentId("agent_1"),
                version=1,
                definition=AgentDefinition(name="a", model=ModelRef.of("scripted:echo")),
            ),
            resources=resources,
        )
        return await self.mounting.prepare(start, self.folder, 1, lambda text: None)

    async def uploaded(self, content: bytes) -> FileMetadata:
        return await self.files.write(_one(content), owner=OWNER, filename="a.txt")

    async def file(self, content: bytes = b"hello", path: str = "/mnt/session/uploads/a.txt") -> FileResource:
        made = await self.uploaded(content)
        return FileResource(id=new_resource_id(), file_id=made.id, mount_path=path, created_at=NOW, updated_at=NOW)

    async def repository(self, name: str = "public", *, token: str | None = None, **options: Any) -> RepositoryResource:
        id = new_resource_id()
        if token is not None:
            sealed = SEALER.seal(token, context=token_context("acme/sesn_1", id))
            await self.store.put(token_path("acme/sesn_1", id), sealed.encode())
        shown = {"url": self.git.url(name), "mount_path": "/workspace/repo", "has_token": token is not None, **options}
        return RepositoryResource.model_validate({"id": id, "created_at": NOW, "updated_at": NOW, **shown})

    @property
    def repo(self) -> Path:
        return self.folder.workspace / "repo"

    def left(self) -> set[str]:
        """What is in the folder besides what belongs there."""
        return {path.name for path in self.folder.path.iterdir()} - {
            *("workspace", "uploads", "outputs", "home", "mounts.json"),
        }


async def _one(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    root = tmp_path / "git"
    root.mkdir()
    with git_server(root) as server:
        yield server


@pytest.fixture
async def desk(tmp_path: Path, server: GitServer) -> AsyncGenerator[Desk, None]:
    folder = WorkspaceFolder(tmp_path / "here")
    folder.make(None)
    store = Store.open(str(tmp_path / "store"))
    private = PrivateHosts.parse(server.host)
    mounting = Mounting(store, private=private, sealer=SEALER)
    desk = Desk(folder, store, FileStore(store, clock=lambda: datetime.now(UTC)), server, mounting)
    yield desk
    assert desk.left() == set()


# --- files ---------------------------------------------------------------------------------------------------------


async def test_a_file_is_mounted_read_only_where_it_is_wanted(desk: Desk) -> None:
    errors = await desk.prepare(await desk.file(), await desk.file(b"data", "/workspace/in/data.csv"))

    mounted = desk.folder.uploads / "a.txt"
    assert errors == ()
    assert mounted.read_bytes() == b"hello"
    assert mounted.stat().st_mode & 0o777 == 0o444
    assert (desk.folder.workspace / "in/data.csv").read_bytes() == b"data"


async def test_what_is_mounted_is_left_to_the_agent(desk: Desk) -> None:
    file = await desk.file(path="/workspace/a.txt")
    await desk.prepare(file)
    (desk.folder.workspace / "a.txt").write_text("changed")
    more = await desk.file(b"more", "/workspace/b.txt")
    await desk.prepare(file, more)

    assert (desk.folder.workspace / "a.txt").read_text() == "changed"
    assert (desk.folder.workspace / "b.txt").read_text() == "more"


async def test_what_is_removed_goes_unless_it_was_changed(desk: Desk) -> None:
    kept, gone = await desk.file(path="/workspace/kept.txt"), await desk.file(path="/workspace/gone.txt")
    await desk.prepare(kept, gone)
    (desk.folder.workspace / "kept.txt").write_text("changed")
    await desk.prepare()

    assert [path.name for path in desk.folder.workspace.iterdir()] == ["kept.txt"]


async def test_a_file_that_is_gone_from_the_store_is_an_error_and_tried_again(desk: Desk) -> None:
    file, other = await desk.file(), await desk.file(path="/workspace/other.txt")
    await desk.files.delete(file.file_id, owner=OWNER)

    (error,) = await desk.prepare(file, other)
    (again,) = await desk.prepare(file, other)

    assert error == again
    assert "not found" in error.message
    assert (desk.folder.workspace / "other.txt").exists()


async def test_nothing_goes_through_a_link_of_the_agents(desk: Desk, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    first = await desk.file()
    await desk.prepare(first)
    (desk.folder.workspace / "in").symlink_to(outside)
    (desk.folder.workspace / "a.txt").symlink_to(outside / "a.txt")

    errors = await desk.prepare(
        first,
        await desk.file(path="/workspace/in/data.csv"),
        await desk.file(path="/workspace/a.txt"),
        await desk.repository(mount_path="/workspace/in/repo"),
    )

    assert len(errors) == 3
    assert list(outside.iterdir()) == []


async def test_nothing_is_removed_through_a_link_of_the_agents(desk: Desk, tmp_path: Path) -> None:
    file = await desk.file(path="/workspace/in/data.csv")
    await desk.prepare(file)
    outside = tmp_path / "outside"
    shutil.move(desk.folder.workspace / "in", outside)
    (desk.folder.workspace / "in").symlink_to(outside)
    await desk.prepare()

    assert (outside / "data.csv").exists()


async def test_a_restored_workspace_keeps_what_came_with_it(desk: Desk) -> None:
    # The checkpoint has what is in the workspace, and nothing of what the worker before knew.
    (desk.folder.workspace / "a.txt").write_text("changed")
    errors = await desk.prepare(await desk.file(path="/workspace/a.txt"), await desk.file())

    assert errors == ()
    assert (desk.folder.workspace / "a.txt").read_text() == "changed"
    assert (desk.folder.uploads / "a.txt").read_text() == "hello"


async def test_a_place_that_is_taken_is_not_overwritten(desk: Desk) -> None:
    first = await desk.file()
    await desk.prepare(first)
    (desk.folder.workspace / "a.txt").write_text("mine")

    (error,) = await desk.prepare(first, await desk.file(path="/workspace/a.txt"))

    assert "something else is there already" in error.message
    assert (desk.folder.workspace / "a.txt").read_text() == "mine"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
async def test_everything_belongs_to_the_owner_of_the_sandbox(desk: Desk) -> None:
    desk.git.repository("public")
    desk.mounting = Mounting(desk.store, owner=(4321, 4321), private=PrivateHosts.parse(desk.git.host), sealer=SEALER)
    errors = await desk.prepare(await desk.repository(mount_path="/workspace/in/repo"))

    assert errors == ()
    owners = {path.lstat().st_uid for path in desk.folder.workspace.rglob("*")}
    assert owners == {4321}


# --- repositories --------------------------------------------------------------------------------------------------


async def test_a_repository_is_cloned_with_its_history(desk: Desk) -> None:
    desk.git.repository("public")
    errors = await desk.prepare(await desk.repository())

    assert errors == ()
    assert (desk.repo / "README").read_text() == "read me"
    assert git("log", "--format=%s", "main", cwd=desk.repo) == "first"
    assert git("status", "--porcelain", "--branch", cwd=desk.repo) == "## main...origin/main"


async def test_a_branch_or_a_commit_is_checked_out(desk: Desk) -> None:
    work = desk.git.repository("public")
    commit = git("rev-parse", "other", cwd=work)
    errors = await desk.prepare(
        await desk.repository(checkout=BranchCheckout(name="other"), mount_path="/workspace/branch"),
        await desk.repository(checkout=CommitCheckout(sha=commit), mount_path="/workspace/commit"),
        await desk.repository(checkout=CommitCheckout(sha=commit[:9]), mount_path="/workspace/short"),
    )

    assert errors == ()
    for name in ("branch", "commit", "short"):
        assert (desk.folder.workspace / name / "OTHER").exists()
    assert git("rev-parse", "HEAD", cwd=desk.folder.workspace / "commit") == commit


async def test_a_commit_that_no_branch_leads_to_is_fetched(desk: Desk) -> None:
    work = desk.git.repository("public")
    commit = git("rev-parse", "other", cwd=work)
    git("branch", "-D", "other", cwd=desk.git.root / "public.git")
    errors = await desk.prepare(await desk.repository(checkout=CommitCheckout(sha=commit)))

    assert errors == ()
    assert (desk.repo / "OTHER").exists()


async def test_an_empty_repository_is_an_empty_clone(desk: Desk) -> None:
    git("init", "--bare", "--quiet", desk.git.root / "public.git", cwd=desk.git.root)

    assert await desk.prepare(await desk.repository()) == ()
    assert (desk.repo / ".git").exists()


async def test_a_token_opens_a_private_repository_and_is_nowhere_in_the_workspace(desk: Desk) -> None:
    desk.git.repository("private")
    errors = await desk.prepare(await desk.repository("private", token=desk.git.token))

    assert errors == ()
    assert (desk.repo / "README").exists()
    for path in desk.folder.path.rglob("*"):
        if path.is_file():
            assert desk.git.token.encode() not in path.read_bytes()
    assert "extraheader" not in (desk.repo / ".git/config").read_text().lower()


@pytest.mark.parametrize(
    ("name", "token", "options", "type"),
    [
        ("private", None, {}, "repository_authentication_error"),
        ("private", "gho_wrong", {}, "repository_authentication_error"),
        ("closed", "gho_any", {}, "repository_forbidden_error"),
        ("nowhere", None, {}, "repository_not_found_error"),
        ("public", None, {"checkout": BranchCheckout(name="nothing")}, "repository_checkout_error"),
        ("public", None, {"checkout": CommitCheckout(sha="0" * 40)}, "repository_checkout_error"),
        ("public", None, {"url": "http://127.0.0.1:1/public.git"}, "repository_clone_error"),
        ("public", None, {"url": "http://localhost/public.git"}, "repository_clone_error"),
        ("public", None, {"url": "https://169.254.169.254/latest.git"}, "repository_clone_error"),
    ],
)
async def test_what_fails_is_said_by_kind(
    desk: Desk, name: str, token: str | None, options: dict[str, Any], type: str
) -> None:
    for each in ("public", "private", "closed"):
        desk.git.repository(each)
    resource = await desk.repository(name, token=token, **options)

    (error,) = await desk.prepare(resource)

    assert error.type == type, error.message
    assert error.repository_url == resource.url
    assert "gho_" not in error.message
    assert list(desk.folder.workspace.iterdir()) == []


async def test_another_token_is_used_the_next_time(desk: Desk) -> None:
    desk.git.repository("private")
    resource = await desk.repository("private", token="gho_wrong")
    (error,) = await desk.prepare(resource)
    sealed = SEALER.seal(desk.git.token, context=token_context("acme/sesn_1", resource.id))
    await desk.store.put(token_path("acme/sesn_1", resource.id), sealed.encode())

    assert error.type == "repository_authentication_error"
    assert await desk.prepare(resource) == ()


async def test_a_token_sealed_for_another_resource_does_not_open(desk: Desk) -> None:
    desk.git.repository("private")
    one, two = [await desk.repository("private", token=desk.git.token) for _ in range(2)]
    moved = await desk.store.get(token_path("acme/sesn_1", one.id))
    assert moved is not None
    await desk.store.put(token_path("acme/sesn_1", two.id), moved)

    (error,) = await desk.prepare(two)

    assert error.type == "repository_authentication_error"


async def test_a_redirect_is_not_followed_and_gets_no_token(desk: Desk, tmp_path: Path) -> None:
    other_root = tmp_path / "elsewhere"
    other_root.mkdir()
    with git_server(other_root) as elsewhere:
        elsewhere.repository("private")
        desk.git.redirect_to = f"http://{elsewhere.host}"
        (error,) = await desk.prepare(await desk.repository("private", token=desk.git.token))

        assert elsewhere.requests == []
    assert error.type == "repository_clone_error"
    assert "redirects are not followed" in error.message


async def test_hooks_and_filters_of_the_repository_do_not_run(desk: Desk, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    desk.git.repository("public", **{".gitattributes": "* filter=evil", "README": "x"})
    hooks = desk.git.root / "public.git" / "hooks"
    for name in ("post-checkout", "post-merge"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {proof}\n")
        (hooks / name).chmod(0o755)

    assert await desk.prepare(await desk.repository()) == ()
    assert not proof.exists()
    assert not (desk.repo / ".git/hooks").exists()


async def test_a_repository_over_the_limit_is_refused(desk: Desk) -> None:
    desk.git.repository("public", README=os.urandom(400_000).hex())
    desk.mounting = Mounting(
        desk.store,
        private=PrivateHosts.parse(desk.git.host),
        limits=CloneLimits(size_bytes=100_000),
    )
    (error,) = await desk.prepare(await desk.repository())

    assert "the limit of the worker" in error.message
    assert not desk.repo.exists()


async def test_a_server_that_says_nothing_is_given_up(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = "{}:{}".format(*silent.getsockname())
        private, limits = PrivateHosts.parse(host), CloneLimits(time=timedelta(seconds=1))
        desk.mounting = Mounting(desk.store, private=private, limits=limits)
        (error,) = await desk.prepare(await desk.repository(url=f"http://{host}/a.git"))

    assert "took longer" in error.message


async def test_a_repository_nobody_has_touched_goes_with_its_resource(desk: Desk) -> None:
    desk.git.repository("public")
    untouched = await desk.repository()
    touched = await desk.repository(mount_path="/workspace/touched")
    await desk.prepare(untouched, touched)
    (desk.folder.workspace / "touched/README").write_text("changed")
    await desk.prepare()

    assert [path.name for path in desk.folder.workspace.iterdir()] == ["touched"]
