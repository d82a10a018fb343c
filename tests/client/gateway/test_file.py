"""`/v1/files`, with the official SDK and by hand."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import pytest
from temporalio.client import Client

from sojourn.client import AgentRuntime
from sojourn.gateway import GatewayOptions
from sojourn.types.converter import data_converter
from sojourn.types.payload import store_of

BIG = 40 * 1024 * 1024


async def body(content: bytes, boundary: str = "b", more: bytes = b"", name: str = "a.txt") -> bytes:
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n" + more + f"--{boundary}--\r\n".encode()


FORM = {"content-type": "multipart/form-data; boundary=b"}


async def test_sdk_uploads_lists_and_downloads_a_file(gateway: Any) -> None:
    made = await gateway.sdk.files.upload(file=("notes.txt", b"hello", "text/plain"), expires_in_seconds=3600)
    found = await gateway.sdk.files.retrieve_metadata(made.id)
    listed = [file async for file in gateway.sdk.files.list()]
    content = await (await gateway.sdk.files.download(made.id)).read()
    gone = await gateway.sdk.files.delete(made.id)

    assert (made.filename, made.mime_type, made.size_bytes, made.type) == ("notes.txt", "text/plain", 5, "file")
    assert (made.expires_at - made.created_at).total_seconds() == 3600
    assert made.downloadable
    assert found == made
    assert [file.id for file in listed] == [made.id]
    assert content == b"hello"
    assert (gone.id, gone.type) == (made.id, "file_deleted")
    with pytest.raises(anthropic.NotFoundError):
        await gateway.sdk.files.retrieve_metadata(made.id)


async def test_beta_client_does_the_same(gateway: Any) -> None:
    made = await gateway.sdk.beta.files.upload(file=("notes.txt", b"hello"))
    listed = [file async for file in gateway.sdk.beta.files.list()]

    assert [file.id for file in listed] == [made.id]
    assert await (await gateway.sdk.beta.files.download(made.id)).read() == b"hello"


async def test_a_file_over_the_body_limit_is_streamed(gateway: Any) -> None:
    content = os.urandom(1024) * (BIG // 1024)

    made = await gateway.sdk.files.upload(file=("big.bin", content))
    back = await (await gateway.sdk.files.download(made.id)).read()

    assert made.size_bytes == BIG
    assert hashlib.sha256(back).digest() == hashlib.sha256(content).digest()


async def test_a_file_over_its_own_limit_is_refused(serve: Any) -> None:
    async with serve(GatewayOptions(max_file_bytes=100_000)) as gateway:
        told = await gateway.http.post("/v1/files", content=await body(b"x" * 200_000), headers=FORM)

        async def untold() -> AsyncGenerator[bytes, None]:
            yield await body(b"x" * 120_000)

        untold_answer = await gateway.http.post("/v1/files", content=untold(), headers=FORM)
        listed = (await gateway.http.get("/v1/files")).json()["data"]

    assert told.status_code == untold_answer.status_code == 413
    assert untold_answer.json()["error"]["type"] == "request_too_large"
    assert listed == []


LIFE = b'--b\r\ncontent-disposition: form-data; name="expires_in_seconds"\r\n\r\n%s\r\n'


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (LIFE % b"3599", "expires_in_seconds: between 3,600 and 7,776,000 seconds"),
        (LIFE % b"soon", "expires_in_seconds: write a whole number of seconds"),
        (LIFE % (b"1" * 100), "expires_in_seconds: write a whole number of seconds"),
        (b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\nx\r\n', "file: given twice; upload one at a time"),
        (b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nx\r\n', "purpose: unknown field; leave it out"),
    ],
)
async def test_a_wrong_form_is_refused_and_leaves_nothing(gateway: Any, more: bytes, message: str) -> None:
    answer = await gateway.http.post("/v1/files", content=await body(b"x" * 100_000, more=more), headers=FORM)
    store = store_of(gateway.stage.client)

    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)
    assert [path async for path in store.paths(f"files/{gateway.stage.owner.workspace}")] == []


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", FORM),
        (b"--b--\r\n", FORM),
        (b"nothing of the kind", FORM),
        (b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\nx', FORM),
        (b"{}", {"content-type": "application/json"}),
        (b"--b--\r\n", {"content-type": "multipart/form-data"}),
        (b"--b\r\n" + b"x" * 5000 + b": y\r\n\r\n", FORM),
    ],
)
async def test_a_form_without_a_whole_file_is_refused(gateway: Any, content: bytes, headers: Any) -> None:
    answer = await gateway.http.post("/v1/files", content=content, headers=headers)

    assert answer.status_code == 400
    assert (await gateway.http.get("/v1/files")).json()["data"] == []


async def test_the_field_may_come_after_the_file(gateway: Any) -> None:
    made = (await gateway.http.post("/v1/files", content=await body(b"x", more=LIFE % b"7200"), headers=FORM)).json()

    assert made["expires_at"] is not None


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\tmp\\a.txt", "a.txt"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("ä b.txt", "ä b.txt"),
    ],
)
async def test_only_the_last_part_of_a_name_is_kept(gateway: Any, given: str, stored: str) -> None:
    content = await body(b"x", name=given.replace("\\", "\\\\"))
    made = (await gateway.http.post("/v1/files", content=content, headers=FORM)).json()

    assert made["filename"] == stored


async def test_an_upload_whose_client_goes_away_leaves_nothing(gateway: Any) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        yield (await body(b"x" * 1000))[:-10]
        while True:
            yield b"x" * 100_000
            started.set()
            await asyncio.sleep(0)

    upload = asyncio.create_task(gateway.http.post("/v1/files", content=endless(), headers=FORM))
    await asyncio.wait_for(started.wait(), 60)
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)

    assert (await gateway.http.get("/v1/files")).json()["data"] == []


async def test_files_of_another_workspace_do_not_exist(gateway: Any) -> None:
    made = await gateway.sdk.files.upload(file=("a.txt", b"x"))

    async with gateway.client("eve") as eve:
        answers = [
            await eve.get(f"/v1/files/{made.id}"),
            await eve.get(f"/v1/files/{made.id}/content"),
            await eve.delete(f"/v1/files/{made.id}"),
        ]
        listed = [await eve.get("/v1/files"), await eve.get("/v1/files", params={"ids[]": made.id})]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert [answer.json()["data"] for answer in listed] == [[], []]


async def test_a_reader_may_not_upload_or_delete(gateway: Any) -> None:
    made = await gateway.sdk.files.upload(file=("a.txt", b"x"))

    async with gateway.client("reader") as reader:
        answers = [
            await reader.post("/v1/files", content=await body(b"x"), headers=FORM),
            await reader.delete(f"/v1/files/{made.id}"),
            await reader.get(f"/v1/files/{made.id}/content"),
        ]

    assert [answer.status_code for answer in answers] == [403, 403, 200]


async def test_lists_go_on_newest_first_by_cursor_and_by_id(gateway: Any) -> None:
    made = [(await gateway.sdk.files.upload(file=(f"{place}.txt", b"x"))).id for place in range(5)]
    newest_first = made[::-1]

    by_cursor = [file.id async for file in gateway.sdk.files.list(limit=2)]
    first = (await gateway.http.get("/v1/files", params={"limit": 2})).json()
    older = (await gateway.http.get("/v1/files", params={"limit": 2, "after_id": first["last_id"]})).json()
    newer = (await gateway.http.get("/v1/files", params={"limit": 1, "before_id": older["first_id"]})).json()

    assert by_cursor == newest_first
    assert ([file["id"] for file in first["data"]], first["has_more"]) == (newest_first[:2], True)
    assert [file["id"] for file in older["data"]] == newest_first[2:4]
    assert ([file["id"] for file in newer["data"]], newer["has_more"], newer["next_page"]) == (
        newest_first[1:2],
        True,
        None,
    )


async def test_ids_leave_out_what_there_is_not(gateway: Any) -> None:
    made = await gateway.sdk.files.upload(file=("a.txt", b"x"))

    found = await gateway.sdk.files.list(ids=[made.id, "file_nobody", "../../x"])
    both = await gateway.http.get("/v1/files", params={"ids[]": made.id, "limit": 1})
    many = await gateway.http.get("/v1/files", params={"ids[]": [f"file_{place}" for place in range(101)]})

    assert [file.id for file in found.data] == [made.id]
    assert (both.status_code, many.status_code) == (400, 400)


async def test_a_file_that_is_not_downloadable_is_refused(gateway: Any) -> None:
    made = await gateway.stage.runtime.upload_file(b"x", filename="a.txt", downloadable=False)

    with pytest.raises(anthropic.BadRequestError) as error:
        await gateway.sdk.files.download(made.id)

    assert error.value.error_code == "file_not_downloadable"


async def test_content_is_no_page_of_the_gateway(gateway: Any) -> None:
    made = await gateway.sdk.files.upload(file=("a.html", b"<script>alert(1)</script>", "text/html"))

    answer = await gateway.http.get(f"/v1/files/{made.id}/content")

    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_without_a_store_the_way_out_is_told(stage: Any, serve: Any) -> None:
    bare = AgentRuntime(without_store(stage.client), owner=stage.owner, task_queue=stage.task_queue)
    stage.runtime, whole = bare, stage.runtime
    try:
        async with serve() as gateway:
            answer = await gateway.http.get("/v1/files")
    finally:
        stage.runtime = whole
        await bare.close()

    assert answer.status_code == 503
    assert "sojourn setup --store URL" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


def without_store(client: Any) -> Any:
    config = client.config()
    config["data_converter"] = data_converter
    return Client(**config)
