"""Workspaces as one file and back, with all that an agent may leave in them."""

import gzip
import io
import os
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from sojourn.sandbox import tree
from sojourn.sandbox.bundle import BundleError, BundleTooLargeError, StoppedError, pack, unpack

LIMIT = 1024 * 1024


def stored(folder: Path, *, limit_bytes: int = LIMIT) -> bytes:
    target = io.BytesIO()
    pack({"workspace": folder}, target, limit_bytes=limit_bytes, stop=Event())
    return target.getvalue()


def restored(data: bytes, folder: Path, *, owner: tuple[int, int] | None = None) -> Path:
    folder.mkdir()
    unpack(io.BytesIO(data), {"workspace": folder}, owner=owner, stop=Event())
    return folder


@pytest.fixture
def before(tmp_path: Path) -> Path:
    folder = tmp_path / "before"
    folder.mkdir()
    return folder


def test_files_folders_and_links_come_back_as_they_were(before: Path, tmp_path: Path) -> None:
    (before / "a/b").mkdir(parents=True)
    (before / "a/b/run.sh").write_text("#!/bin/sh\n")
    (before / "a/b/run.sh").chmod(0o755)
    os.link(before / "a/b/run.sh", before / "hard")
    os.symlink("/usr/bin/python3", before / "absolute")
    os.symlink("../../etc/passwd", before / "outside")
    os.symlink("nowhere", before / "broken")
    (before / os.fsdecode(b"\xff\xfe")).write_text("no text")
    (before / "closed").mkdir()
    (before / "closed/inside").write_text("kept")
    (before / "closed").chmod(0o555)
    os.utime(before / "a/b/run.sh", (1_000_000_000, 1_000_000_000))

    after = restored(stored(before), tmp_path / "after")

    assert (after / "a/b/run.sh").stat().st_mode & 0o777 == 0o755
    assert (after / "a/b/run.sh").stat().st_mtime == 1_000_000_000
    assert (after / "hard").stat().st_ino == (after / "a/b/run.sh").stat().st_ino
    assert os.readlink(after / "absolute") == "/usr/bin/python3"
    assert os.readlink(after / "outside") == "../../etc/passwd"
    assert os.readlink(after / "broken") == "nowhere"
    assert (after / os.fsdecode(b"\xff\xfe")).read_text() == "no text"
    assert (after / "closed").stat().st_mode & 0o777 == 0o555
    assert (after / "closed/inside").read_text() == "kept"


def test_pipes_sockets_and_rights_to_be_somebody_else_stay_behind(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(before / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        # The whole path may be too long for a socket.
        monkeypatch.chdir(before)
        server.bind("socket")
    (before / "sudo").write_text("")
    (before / "sudo").chmod(0o4755)

    after = restored(stored(before), tmp_path / "after")

    assert os.listdir(after) == ["sudo"]
    assert not (after / "sudo").stat().st_mode & stat.S_ISUID


def test_a_link_is_stored_and_not_what_it_leads_to(before: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the worker's")
    os.symlink(secret, before / "link")
    os.symlink(tmp_path, before / "folder")

    data = stored(before)

    assert b"the worker's" not in gzip.decompress(data)


def test_more_than_the_limit_is_refused_at_once_even_where_it_takes_no_room(before: Path) -> None:
    with (before / "huge").open("wb") as file:
        file.truncate(1024**4)

    with pytest.raises(BundleTooLargeError, match="larger than"):
        stored(before)


def test_storing_stops_when_it_is_told_to(before: Path) -> None:
    (before / "file").write_text("x")
    stop = Event()
    stop.set()

    with pytest.raises(StoppedError):
        pack({"workspace": before}, io.BytesIO(), limit_bytes=LIMIT, stop=stop)


def test_folders_deeper_than_the_limit_are_told_of(before: Path) -> None:
    deep = os.open(before, os.O_RDONLY)
    for _ in range(tree.MAX_DEPTH + 10):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)

    _, skipped = pack({"workspace": before}, io.BytesIO(), limit_bytes=LIMIT, stop=Event())

    assert len(skipped) == 1
    tree.remove(before)
    assert not before.exists()


def crafted(*members: tuple[str, bytes, str]) -> bytes:
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb") as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info, io.BytesIO())
    return target.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        crafted(("workspace/../escaped", tarfile.REGTYPE, "")),
        crafted(("/escaped", tarfile.REGTYPE, "")),
        crafted(("elsewhere/escaped", tarfile.REGTYPE, "")),
        crafted(("workspace/link", tarfile.SYMTYPE, ".."), ("workspace/link/escaped", tarfile.REGTYPE, "")),
        crafted(
            ("workspace/link", tarfile.SYMTYPE, "/etc/passwd"), ("workspace/hard", tarfile.LNKTYPE, "workspace/link")
        ),
        crafted(("workspace/device", tarfile.CHRTYPE, "")),
        b"no archive at all",
        gzip.compress(b"no archive either" * 100),
    ],
    ids=["up", "absolute", "elsewhere", "through-link", "hard-link-to-link", "device", "junk", "packed-junk"],
)
def test_an_archive_that_would_reach_outside_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        restored(data, tmp_path / "after")

    assert not (tmp_path / "escaped").exists()


def test_a_fingerprint_changes_with_every_change(before: Path) -> None:
    changes: list[Callable[[], object]] = [
        lambda: (before / "file").write_text("one"),
        lambda: (before / "file").chmod(0o700),
        lambda: os.symlink("file", before / "link"),
        lambda: (before / "folder").mkdir(),
        lambda: (before / "file").rename(before / "other"),
    ]
    seen = {tree.fingerprint({"workspace": before})}
    for change in changes:
        change()
        seen.add(tree.fingerprint({"workspace": before}))

    assert len(seen) == len(changes) + 1
    assert tree.fingerprint({"workspace": before}) in seen


def test_a_folder_is_never_made_through_a_link(before: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, before / "link")

    with pytest.raises(OSError, match=r"link|directory"):
        tree.make_folders(before, "link/deep")
    tree.make_folders(before, "own/deep")

    assert not os.listdir(outside)
    assert (before / "own/deep").is_dir()


def test_a_tree_without_rights_can_be_removed(before: Path) -> None:
    (before / "a/b").mkdir(parents=True)
    (before / "a/b/file").write_text("")
    (before / "a/b").chmod(0)
    (before / "a").chmod(0o500)

    tree.remove(before)
    tree.remove(before)

    assert not before.exists()
