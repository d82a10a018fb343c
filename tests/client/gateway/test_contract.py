"""Requests made from the OpenAPI document, right and wrong ones, against a real gateway: no answer breaks the document.

``SOJOURN_CONTRACT_EXAMPLES`` sets how many requests of each sort an endpoint gets; `make compat` sends more.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sojourn.client import AgentRuntime
from sojourn.gateway import Gateway, serving
from sojourn.gateway.endpoint import Endpoint
from sojourn.gateway.limit import RateLimiter, RateLimits
from sojourn.gateway.openapi import document
from sojourn.gateway.principal import SCOPES, Principal
from sojourn.gateway.route import ENDPOINTS
from sojourn.types import Sealer
from sojourn.worker import EmbeddedServer, SojournWorker, WorkerOptions

EXAMPLES = int(os.environ.get("SOJOURN_CONTRACT_EXAMPLES", "6"))
PATIENCE_SECONDS = 60
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SETTINGS = settings(
    max_examples=EXAMPLES,
    # The same requests in each `make check`: what is found by chance there would stop somebody else's change.
    derandomize="SOJOURN_CONTRACT_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
DOCUMENT = document(ENDPOINTS)


class OneWorkspace:
    """Lets everybody in, as one owner."""

    def __init__(self) -> None:
        self._principal = Principal("key_test", f"test-{uuid.uuid4().hex[:12]}", "default", frozenset(SCOPES))

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        return self._principal


@pytest.fixture(scope="module")
async def url(server: EmbeddedServer) -> AsyncGenerator[str, None]:
    """Where a gateway serves, without limits."""
    options = WorkerOptions(task_queue=f"test-{uuid.uuid4().hex[:12]}", graceful_shutdown=timedelta(0))
    runtime = AgentRuntime(server.client, task_queue=options.task_queue, sealer=Sealer({"test": b"t" * 32}))
    gateway = Gateway(runtime, OneWorkspace(), limiter=RateLimiter(RateLimits(None, None)))
    listener = socket.create_server(("127.0.0.1", 0))
    async with SojournWorker(server.client, options=options), serving(gateway, listener) as url:
        yield url
    await runtime.close()


@pytest.fixture
async def known(url: str) -> dict[str, str]:
    """One of everything, by the names of path variables and fields."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as client:

        async def made(path: str, **body: object) -> str:
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["id"])

        agent = await made("/v1/agents", name="contract", model="scripted:echo")
        environment = await made("/v1/environments", name=f"for {agent}")
        session = await made("/v1/sessions", agent=agent, environment_id=environment)
        vault = await made("/v1/vaults", display_name="contract")
        variable = {"type": "environment_variable", "secret_name": "A", "secret_value": "a"}
        auth = {**variable, "networking": {"type": "unrestricted"}}
        credential = await made(f"/v1/vaults/{vault}/credentials", auth=auth)
        thread = f"sthr_{session.removeprefix('sesn_')}"
        uploaded = await client.post("/v1/files", files={"file": ("a.txt", b"hello")})
        file = str(uploaded.json()["id"])
        resource = await made(f"/v1/sessions/{session}/resources", type="file", file_id=file)
    return {
        "agent": agent,
        "agent_id": agent,
        "environment_id": environment,
        "file_id": file,
        "resource_id": resource,
        "session_id": session,
        "thread_id": thread,
        "vault_id": vault,
        "credential_id": credential,
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.operation)
async def test_answers_are_as_documented(url: str, known: dict[str, str], endpoint: Endpoint) -> None:
    await asyncio.to_thread(_try, url, known, endpoint)


def test_document_is_valid_and_has_every_endpoint() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()

    operations = {
        (path, method.upper(), operation["operationId"])
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert operations == {(each.path, each.method, each.operation) for each in ENDPOINTS}
    assert len({each.operation for each in ENDPOINTS}) == len(ENDPOINTS)


async def test_document_is_served_without_a_key(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/openapi.json")

    assert answer.json() == DOCUMENT


def _try(url: str, known: Mapping[str, str], endpoint: Endpoint) -> None:
    operation = schemathesis.openapi.from_dict(DOCUMENT)[endpoint.path][endpoint.method]
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @SETTINGS
        @given(case=operation.as_strategy(generation_mode=mode), found=st.booleans())
        def request(case: Any, found: bool) -> None:
            if found and endpoint.reply is None:
                # A stream of what exists stays open.
                return
            _aim(case, known if found else {})
            response = case.call(base_url=url, timeout=PATIENCE_SECONDS)
            case.validate_response(response, checks=CHECKS)

        request()


def _aim(case: Any, known: Mapping[str, str]) -> None:
    """Point the request at what exists, in the path and in the body."""
    for place in (case.path_parameters, case.body):
        if isinstance(place, dict):
            place.update({name: id for name, id in known.items() if name in place})
