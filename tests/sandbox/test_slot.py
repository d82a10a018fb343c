import os
import subprocess
import sys
from pathlib import Path

import pytest

from sojourn.sandbox.slot import Slot, write_whole
from sojourn.types.error import SandboxError


def test_workers_of_one_machine_get_a_slot_each_and_find_it_again(tmp_path: Path) -> None:
    with Slot.claim(tmp_path) as first, Slot.claim(tmp_path) as second:
        taken = {first.id: first.folder.name, second.id: second.folder.name}
    with Slot.claim(tmp_path) as again, Slot.claim(tmp_path) as other:
        found = {again.id: again.folder.name, other.id: other.folder.name}

    assert taken == found
    assert sorted(taken.values()) == ["0", "1"]


def test_a_slot_is_free_once_its_process_is_killed(tmp_path: Path) -> None:
    claim = (
        "import sys, pathlib; from sojourn.sandbox.slot import Slot;"
        "print(Slot.claim(pathlib.Path(sys.argv[1])).id, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", claim, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        id = process.stdout.readline().strip()
        with Slot.claim(tmp_path) as beside:
            assert beside.folder.name == "1"
        process.kill()

    with Slot.claim(tmp_path) as after:
        assert (after.folder.name, after.id) == ("0", id)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="only Linux has a folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_an_error_with_a_way_out() -> None:
    with pytest.raises(SandboxError, match="--workspaces"):
        Slot.claim(Path("/proc/sojourn"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    write_whole(path, b"one")
    write_whole(path, b"two")

    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["meta.json"]
