import asyncio
import os
from pathlib import Path
from typing import Any


async def test_a_file_lives_from_upload_to_delete(sojourn: Any, tmp_path: Path) -> None:
    content = os.urandom(5_000_000)
    (tmp_path / "numbers.bin").write_bytes(content)

    made = await sojourn("files", "upload", "numbers.bin", "--expires-in", "2h")
    id = made.out.strip()

    assert made.code == 0, made.err
    assert id.startswith("file_")

    shown, text, listed, taken, saved = await asyncio.gather(
        sojourn("files", "get", id, "--json"),
        sojourn("files", "get", id),
        sojourn("files", "list", "--json"),
        sojourn("files", "download", id),
        sojourn("files", "download", id, "-o", "copy.bin"),
    )

    assert (shown.document["filename"], shown.document["size_bytes"]) == ("numbers.bin", 5_000_000)
    assert shown.document["expires_at"] is not None
    assert "application/octet-stream" in text.out
    assert id in [each["id"] for each in listed.document["data"]]
    assert (taken.code, "--force" in taken.err) == (2, True)
    assert saved.code == 0, saved.err
    assert (tmp_path / "copy.bin").read_bytes() == content
    assert [name for name in os.listdir(tmp_path) if name.startswith((".numbers", ".copy"))] == []

    unsure = await sojourn("files", "delete", id)
    gone = await sojourn("files", "delete", id, "--yes")
    missing = await sojourn("files", "get", id, "--json")

    assert unsure.code == 2
    assert gone.code == 0
    assert missing.error["type"] == "not_found_error"


async def test_what_cannot_be_uploaded_is_told(sojourn: Any, tmp_path: Path) -> None:
    missing, soon = await asyncio.gather(
        sojourn("files", "upload", "nothing.txt", "--json"),
        sojourn("files", "upload", "-", "--expires-in", "1m", "--json", stdin="x"),
    )

    assert (missing.code, "cannot be read" in missing.error["message"]) == (2, True)
    assert (soon.code, "between 3,600 and" in soon.error["message"]) == (2, True)
