"""What sessions mount, over HTTP: with the official SDK and by hand."""

import os
from typing import Any

import anthropic
import pytest
from tests.conftest import PlayedModel, eventually

from sojourn.activities.conversation import ToolResults, UserTurn
from sojourn.testing import ScriptedTurn
from sojourn.types import SessionId
from sojourn.types.content import Base64Source, DocumentBlock, ImageBlock, PlainTextSource, TextBlock
from sojourn.types.id import ResourceId
from sojourn.types.payload import store_of
from sojourn.types.resource import FileMount, token_context, token_path
from sojourn.types.seal import KEYS_VARIABLE, Sealer, new_keys_line
from sojourn.types.session import RollOver

URL = "https://github.com/acme/app.git"
TOKEN = "gho_very_secret"
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 20


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> str:
    line = new_keys_line("k")
    monkeypatch.setenv(KEYS_VARIABLE, line)
    return line


@pytest.fixture
async def agent(gateway: Any) -> str:
    await gateway.stage.work()
    return str((await gateway.stage.agent(model="scripted:echo")).id)


async def upload(gateway: Any, name: str = "a.txt", content: bytes = b"hello") -> str:
    return str((await gateway.sdk.files.upload(file=(name, content))).id)


async def everything(gateway: Any, folder: str = "sessions") -> list[str]:
    store = store_of(gateway.stage.client)
    assert store is not None
    return [path async for path in store.paths(f"{folder}/{gateway.stage.owner.workspace}")]


async def test_resources_are_mounted_at_creation_shown_and_changed(gateway: Any, agent: str, keys: str) -> None:
    sessions, file = gateway.sdk.beta.sessions, await upload(gateway)
    session = await sessions.create(
        agent=agent,
        environment_id=gateway.environment,
        resources=[
            {"type": "file", "file_id": file},
            {
                "type": "github_repository",
                "url": URL,
                "authorization_token": TOKEN,
                "checkout": {"type": "branch", "name": "main"},
            },
        ],
    )
    mounted, repository = session.resources
    added = await sessions.resources.add(session.id, type="file", file_id=file, mount_path="/workspace/data/a.txt")
    rotated = await sessions.resources.update(repository.id, session_id=session.id, authorization_token="gho_other")
    listed = [each async for each in sessions.resources.list(session.id)]
    paged = [each async for each in sessions.resources.list(session.id, limit=2)]
    one = await sessions.resources.retrieve(added.id, session_id=session.id)
    gone = await sessions.resources.delete(added.id, session_id=session.id)
    after = (await sessions.retrieve(session.id)).resources

    assert mounted.file_id != file
    assert mounted.mount_path == f"/mnt/session/uploads/{mounted.file_id}"
    assert (repository.mount_path, repository.url, repository.checkout.name) == ("/workspace/app", URL, "main")
    assert "gho_" not in session.model_dump_json()
    assert rotated.updated_at > repository.updated_at
    assert [each.id for each in listed] == [each.id for each in paged] == [mounted.id, repository.id, added.id]
    assert one == added
    assert (gone.id, gone.type) == (added.id, "session_resource_deleted")
    assert [each.id for each in after] == [mounted.id, repository.id]


async def test_copies_are_files_of_the_session_and_go_with_it(gateway: Any, agent: str, keys: str) -> None:
    file = await upload(gateway)
    repository = {"type": "github_repository", "url": URL, "authorization_token": TOKEN}
    session = await gateway.sdk.beta.sessions.create(
        agent=agent, environment_id=gateway.environment, resources=[{"type": "file", "file_id": file}, repository]
    )
    copy = session.resources[0].file_id
    found = [each async for each in gateway.sdk.beta.files.list(scope_id=session.id)]
    content = await (await gateway.sdk.beta.files.download(copy)).read()
    async with gateway.client("bob") as bob:
        other_user = await bob.get(f"/v1/files/{copy}")
        upload_of_the_workspace = await bob.get(f"/v1/files/{file}")
        other_list = await bob.get("/v1/files", params={"scope_id": session.id})
    await gateway.sdk.beta.sessions.delete(session.id)
    left = [each async for each in gateway.sdk.files.list()]

    assert [each.id for each in found] == [copy]
    assert (found[0].scope.type, found[0].scope.id, content) == ("session", session.id, b"hello")
    assert (other_user.status_code, upload_of_the_workspace.status_code, other_list.status_code) == (404, 200, 404)
    assert [each.id for each in left] == [file]
    assert await everything(gateway) == []
    assert {path.split("/")[2] for path in await everything(gateway, "files")} == {file}


async def test_a_token_is_sealed_and_never_in_history(gateway: Any, agent: str, keys: str) -> None:
    repository = {"type": "github_repository", "url": URL, "authorization_token": TOKEN}
    session = await gateway.sdk.beta.sessions.create(
        agent=agent, environment_id=gateway.environment, resources=[repository]
    )
    await gateway.sdk.beta.sessions.resources.update(
        session.resources[0].id, session_id=session.id, authorization_token=f"{TOKEN}_2"
    )
    owned_by = f"{gateway.stage.owner.workspace}/{session.id}"
    id = ResourceId(session.resources[0].id)
    sealed = await store_of(gateway.stage.client).get(token_path(owned_by, id))  # type: ignore[union-attr]
    assert sealed is not None
    history = await gateway.stage.client.get_workflow_handle(owned_by).fetch_history()

    assert TOKEN not in history.to_json()
    assert TOKEN.encode() not in sealed
    assert Sealer.read(keys).open(sealed.decode(), context=token_context(owned_by, id)) == f"{TOKEN}_2"


async def test_without_a_key_a_token_is_refused(gateway: Any, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    body = {
        "agent": agent,
        "environment_id": gateway.environment,
        "resources": [{"type": "github_repository", "url": URL, "authorization_token": TOKEN}],
    }
    answer = await gateway.http.post("/v1/sessions", json=body)

    assert answer.status_code == 400
    assert KEYS_VARIABLE in answer.json()["error"]["message"]
    assert await everything(gateway) == []


def repository(**fields: object) -> dict[str, object]:
    return {"type": "github_repository", "url": URL, **fields}


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ([{"type": "file", "file_id": "file_nothing"}], "resources.0.file_id"),
        ([{"type": "file"}], "resources.0.file_id"),
        ([{"type": "memory_store", "memory_store_id": "memstore_1"}], "resources.0"),
        ([{"type": "disk"}], "resources.0.type"),
        *(
            ([{"type": "file", "file_id": "FILE", "mount_path": wrong}], "resources.0.mount_path")
            for wrong in (
                "a.txt",
                "/etc/passwd",
                "/workspace",
                "/workspace/",
                "/workspace/../etc/passwd",
                "/workspace/a//b",
                "/workspace/./a",
                "/workspace/a/",
                "/workspace/a\nb",
                "/workspacex/a",
                "/mnt/session/outputs/a",
                "/workspace/" + "a" * 256,
            )
        ),
        (
            [
                {"type": "file", "file_id": "FILE", "mount_path": "/workspace/a"},
                {"type": "file", "file_id": "FILE", "mount_path": "/workspace/a"},
            ],
            "resources.1.mount_path",
        ),
        (
            [repository(), {"type": "file", "file_id": "FILE", "mount_path": "/workspace/app/x"}],
            "resources.1.mount_path",
        ),
        *(
            ([repository(url=wrong)], "resources.0.url")
            for wrong in (
                "github.com/acme/app",
                "ssh://git@github.com/acme/app",
                "file:///etc",
                "https://",
                "https://github.com",
                "https://ada:secret@github.com/acme/app",
                "https://github.com/acme/app?x=1",
                "https://github.com/acme/a pp",
                "--upload-pack=x",
                "ext::sh -c id",
            )
        ),
        ([repository(mount_path="/mnt/session/uploads/app")], "resources.0.mount_path"),
        ([repository(url="https://github.com/acme/..")], "resources.0.mount_path"),
        ([repository(authorization_token="a\nb")], "resources.0.authorization_token"),
        *(
            ([repository(checkout={"type": "branch", "name": wrong})], "resources.0.checkout.name")
            for wrong in ("-x", "", "a..b", "a b", "a~1", "a.lock", "/a", "a/", "a:b")
        ),
        ([repository(checkout={"type": "commit", "sha": "HEAD"})], "resources.0.checkout.sha"),
        ([repository(checkout={"type": "tag", "name": "v1"})], "resources.0.checkout.type"),
    ],
)
async def test_what_cannot_be_mounted_is_refused_and_leaves_nothing(
    gateway: Any, agent: str, resources: list[dict[str, object]], path: str
) -> None:
    file = await upload(gateway)
    body = {
        "agent": agent,
        "environment_id": gateway.environment,
        "resources": [{**each, **({"file_id": file} if each.get("file_id") == "FILE" else {})} for each in resources],
    }
    answer = await gateway.http.post("/v1/sessions", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{path}:"), answer.text
    assert "secret" not in answer.text
    assert len([each async for each in gateway.sdk.files.list()]) == 1
    assert await everything(gateway) == []


async def test_add_takes_files_only_and_keeps_places_apart(gateway: Any, agent: str) -> None:
    file = await upload(gateway)
    session = await gateway.sdk.beta.sessions.create(agent=agent, environment_id=gateway.environment)
    at = f"/v1/sessions/{session.id}/resources"
    mount = {"type": "file", "file_id": file, "mount_path": "/workspace/a"}
    answers = [
        await gateway.http.post(at, json=mount),
        await gateway.http.post(at, json=mount),
        await gateway.http.post(at, json=repository()),
        await gateway.http.post(at, json={"type": "file", "file_id": "file_nothing"}),
        await gateway.http.post(f"{at}/{ResourceId('sesrsc_nothing')}", json={"authorization_token": "x"}),
        await gateway.http.delete(f"{at}/sesrsc_nothing"),
    ]
    id = answers[0].json()["id"]
    rotated = await gateway.http.post(f"{at}/{id}", json={"authorization_token": "x"})

    assert [answer.status_code for answer in answers] == [200, 400, 400, 400, 404, 404]
    assert answers[1].json()["error"]["message"].startswith("mount_path:")
    assert rotated.status_code == 400
    # The copy of what was refused is gone again.
    assert len([each async for each in gateway.sdk.beta.files.list(scope_id=session.id)]) == 1


async def test_a_session_that_has_ended_mounts_nothing(gateway: Any, agent: str) -> None:
    file = await upload(gateway)
    session = await gateway.sdk.beta.sessions.create(
        agent=agent, environment_id=gateway.environment, resources=[{"type": "file", "file_id": file}]
    )
    await gateway.sdk.beta.sessions.archive(session.id)

    with pytest.raises(anthropic.BadRequestError):
        await gateway.sdk.beta.sessions.resources.add(session.id, type="file", file_id=file)
    assert len((await gateway.sdk.beta.sessions.retrieve(session.id)).resources) == 1


async def test_resources_of_another_user_do_not_exist(gateway: Any, agent: str) -> None:
    file = await upload(gateway)
    session = await gateway.sdk.beta.sessions.create(
        agent=agent, environment_id=gateway.environment, resources=[{"type": "file", "file_id": file}]
    )
    at = f"/v1/sessions/{session.id}/resources"
    async with gateway.client("bob") as bob:
        answers = [
            await bob.get(at),
            await bob.get(f"{at}/{session.resources[0].id}"),
            await bob.post(at, json={"type": "file", "file_id": file}),
            await bob.delete(f"{at}/{session.resources[0].id}"),
        ]

    assert {answer.status_code for answer in answers} == {404}


async def test_resources_survive_continue_as_new(stage: Any) -> None:
    file = await stage.runtime.upload_file(b"x", filename="a.txt")
    probe = await stage.session(
        ScriptedTurn(text="hi"),
        roll_over=RollOver(max_events=20),
        resources=[FileMount(file_id=file.id, mount_path="/workspace/a")],
    )
    added = await stage.runtime.add_resource(probe.session, FileMount(file_id=file.id, mount_path="/workspace/b"))
    for number in range(1, 5):
        await probe.session.send("hi")
        await probe.idle(number)

    async def rolled() -> bool:
        return bool(await probe.runs() > 1)

    await eventually(rolled, "a second run")
    paths = [each.mount_path for each in await stage.runtime.list_resources(probe.session)]
    removed = await stage.runtime.remove_resource(probe.session, added.id)
    left = [each.mount_path for each in await stage.runtime.list_resources(probe.session)]

    assert paths == ["/workspace/a", "/workspace/b"]
    assert (removed, left) == (None, ["/workspace/a"])


async def test_a_taken_id_copies_nothing(stage: Any) -> None:
    file = await stage.runtime.upload_file(b"x", filename="a.txt")
    await stage.work()
    agent = await stage.agent(model="scripted:echo")
    mounts = [FileMount(file_id=file.id)]
    await stage.open(agent, session_id="sesn_mine", resources=mounts)

    with pytest.raises(Exception, match="exists already"):
        await stage.runtime.start_session(agent, session_id=SessionId("sesn_mine"), resources=mounts)
    assert len((await stage.runtime.list_files()).data) == 2


# --- files in messages ---------------------------------------------------------------------------------------------


async def test_files_in_messages_are_shown_to_the_model(stage: Any, serve: Any) -> None:
    model = PlayedModel(ScriptedTurn(text="seen"))
    await stage.work(model)
    agent = await stage.agent()
    async with serve() as gateway:
        image, text = await upload(gateway, "a.png", PNG), await upload(gateway, "notes.md", "schön".encode())
        pdf = await upload(gateway, "a.pdf", b"%PDF-1.7")
        session = await gateway.sdk.beta.sessions.create(agent=agent.id, environment_id=gateway.environment)
        probe = stage.watch(stage.runtime.session(session.id))
        content = [
            {"type": "image", "source": {"type": "file", "file_id": image}},
            {"type": "document", "source": {"type": "file", "file_id": text}},
            {"type": "document", "source": {"type": "file", "file_id": pdf}, "title": "Paper"},
        ]
        send = gateway.sdk.beta.sessions.events.send
        await send(session.id, events=[{"type": "user.message", "content": content}])
        await probe.idle()
        await gateway.sdk.files.delete(text)
        await send(session.id, events=[{"type": "user.message", "content": [{"type": "text", "text": "again"}]}])
        await probe.idle(2)

    first, again = model.requests[0].messages[0], model.requests[1].messages[0]
    assert isinstance(first, UserTurn)
    assert isinstance(again, UserTurn)
    shown, document, paper = first.content
    assert isinstance(shown, ImageBlock)
    assert isinstance(document, DocumentBlock)
    assert isinstance(paper, DocumentBlock)
    assert isinstance(shown.source, Base64Source)
    assert shown.source.media_type == "image/png"
    assert (document.source, document.title) == (PlainTextSource(data="schön"), "notes.md")
    assert (paper.source, paper.title) == (
        Base64Source(media_type="application/pdf", data="JVBERi0xLjc="),
        "Paper",
    )
    assert again.content[1] == TextBlock(text=f"[the uploaded file {text!r} is no longer available]")
    assert again.content[0] == shown
    assert not any(isinstance(message, ToolResults) for message in model.requests[0].messages)


@pytest.mark.parametrize(
    ("block", "content", "message"),
    [
        ("image", None, "not found"),
        ("image", (b"text", "a.txt"), "cannot be shown as image"),
        ("document", (PNG, "a.png"), "cannot be shown as document"),
        ("document", (os.urandom(64) * 350_000, "a.pdf"), "which no model is shown"),
    ],
)
async def test_a_file_that_no_model_could_be_shown_is_refused(
    gateway: Any, agent: str, block: str, content: tuple[bytes, str] | None, message: str
) -> None:
    file = await upload(gateway, content[1], content[0]) if content else "file_nothing"
    session = await gateway.sdk.beta.sessions.create(agent=agent, environment_id=gateway.environment)
    source = {"type": "file", "file_id": file}
    event = {"type": "user.message", "content": [{"type": "text", "text": "see"}, {"type": block, "source": source}]}
    sent = await gateway.http.post(f"/v1/sessions/{session.id}/events", json={"events": [event]})
    body = {"agent": agent, "environment_id": gateway.environment, "initial_events": [event]}
    started = await gateway.http.post("/v1/sessions", json=body)

    assert (sent.status_code, started.status_code) == (400, 400)
    assert sent.json()["error"]["message"].startswith("events.0.content.1.source.file_id:")
    assert started.json()["error"]["message"].startswith("initial_events.0.content.1.source.file_id:")
    assert message in sent.json()["error"]["message"]
