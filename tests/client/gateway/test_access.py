import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sojourn.gateway.access import AccessLog


async def fine(request: Request) -> Response:
    return Response("fine", headers={"request-id": "req_1"})


async def broken(request: Request) -> Response:
    raise RuntimeError("broken")


APP = AccessLog(Starlette(routes=[Route("/fine", fine), Route("/broken", broken)]))


async def test_request_is_one_line_with_its_id_and_without_its_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sojourn.gateway.access")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://gateway") as client:
        await client.get("/fine?token=secret")

    (record,) = [each for each in caplog.records if each.name == "sojourn.gateway.access"]
    facts = vars(record)
    assert (facts["method"], facts["path"], facts["status"], facts["request_id"]) == ("GET", "/fine", 200, "req_1")
    assert record.getMessage().startswith("GET /fine 200 ")
    assert "secret" not in caplog.text


async def test_broken_request_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sojourn.gateway.access")
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        await client.get("/broken")

    (record,) = [each for each in caplog.records if each.name == "sojourn.gateway.access"]
    assert vars(record)["status"] == 500
