"""What the gateway serves as the console, without a browser."""

import re
from importlib.resources import files
from typing import Any

import pytest

PAGE = files("sojourn.gateway.console") / "page"
PARTS = sorted(file.name for file in PAGE.iterdir() if file.name != "index.html")


@pytest.mark.parametrize("path", ["/", *(f"/console/{name}" for name in PARTS)])
async def test_every_part_is_served_with_a_strict_policy_and_no_key(gateway: Any, path: str) -> None:
    async with gateway.client("") as anyone:
        response = await anyone.get(path)

        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        again = await anyone.get(path, headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_what_the_page_must_know_needs_a_key(gateway: Any) -> None:
    async with gateway.client("nobody") as anyone, gateway.client("reader") as reader:
        refused = await anyone.get("/console/config")
        told = await reader.get("/console/config")

    assert refused.status_code == 401
    assert told.json() == {
        "workspace": gateway.stage.owner.workspace,
        "user": gateway.stage.owner.user,
        "scopes": ["read"],
        "namespace": gateway.stage.client.namespace,
        "ui_url": None,
    }


async def test_nothing_else_of_the_package_is_served(gateway: Any) -> None:
    for path in ("/console/", "/console/index.html", "/console/__init__.py", "/console/../app.py", "/console/x.js"):
        assert (await gateway.http.get(path)).status_code == 404


def test_no_part_refers_to_anything_outside_or_parses_markup() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|@import|url\("
    )
    outside = re.compile(r"https?://(?!www\.w3\.org/2000/svg)")

    for name in [*PARTS, "index.html"]:
        text = (PAGE / name).read_text()
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))
        assert not forbidden.search(code), name
        assert not outside.search(code), name
        assert " style=" not in code, name
        assert not re.search(r"\son\w+=", code) or not name.endswith(".html"), name
