"""How a command is made: an async function of a `Cli` and its own parameters; the shared options are added here."""

import asyncio
import inspect
import os
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer
from temporalio.client import Plugin
from temporalio.runtime import Runtime

from sojourn.cli.failure import ExitCode
from sojourn.cli.output import Output
from sojourn.client import AgentRuntime
from sojourn.types import Owner, parse
from sojourn.types.name import TASK_QUEUE

P = ParamSpec("P")

_PANEL = "Connection"


def _option(name: str, help: str, *, envvar: str | None = None) -> Any:
    return typer.Option(name, help=help, envvar=envvar, rich_help_panel=_PANEL, metavar="TEXT")


Json = Annotated[bool, typer.Option("--json", help="Print JSON: one object per line for streams, one document else.")]


@dataclass(frozen=True)
class Connection:
    """Where the server is and on whose behalf the command acts."""

    address: Annotated[str | None, _option("--address", "Temporal server; otherwise TEMPORAL_ADDRESS.")] = None
    namespace: Annotated[str | None, _option("--namespace", "Namespace; otherwise TEMPORAL_NAMESPACE.")] = None
    profile: Annotated[str | None, _option("--profile", "Profile in Temporal's configuration file.")] = None
    store: Annotated[
        str | None, _option("--store", "URL of the object store; otherwise SOJOURN_STORE_URL, or what `setup` noted.")
    ] = None
    task_queue: Annotated[str, _option("--task-queue", "Where the workers are.", envvar="SOJOURN_TASK_QUEUE")] = (
        TASK_QUEUE
    )
    workspace: Annotated[str, _option("--workspace", "Whose agents and sessions.", envvar="SOJOURN_WORKSPACE")] = (
        "default"
    )
    user: Annotated[str, _option("--user", "Whose sessions in the workspace.", envvar="SOJOURN_USER")] = "default"

    @property
    def owner(self) -> Owner:
        """To whom things belong.

        Raises:
            InvalidRequestError: No such names are possible.
        """
        return parse(Owner, {"workspace": self.workspace, "user": self.user})


@dataclass(frozen=True)
class Cli:
    """What every command gets."""

    out: Output
    connection: Connection

    @asynccontextmanager
    async def runtime(
        self, *, plugins: Sequence[Plugin] = (), sdk_runtime: Runtime | None = None, long_polls: int = 300
    ) -> AsyncGenerator[AgentRuntime, None]:
        """The runtime that the connection options name."""
        at = self.connection
        async with AgentRuntime.connect(
            at.address,
            namespace=at.namespace,
            profile=at.profile,
            store=at.store,
            owner=at.owner,
            task_queue=at.task_queue,
            plugins=plugins,
            sdk_runtime=sdk_runtime,
            long_polls=long_polls,
        ) as runtime:
            yield runtime


Command = Callable[Concatenate[Cli, P], Coroutine[Any, Any, int | None]]


def command(app: typer.Typer, name: str, *, connects: bool = True) -> Callable[[Command[P]], Command[P]]:
    """Register an async function as a command, with ``--json`` and, if it connects, the connection options.

    What the function returns is the exit code; ``None`` is success.
    """

    def register(function: Command[P]) -> Command[P]:
        app.command(name, help=inspect.getdoc(function))(_with_options(function, connects=connects))
        return function

    return register


def _with_options(function: Command[P], *, connects: bool) -> Callable[..., int | None]:
    own = _parameters(function)[1:]
    shared = _parameters(Connection) if connects else []
    json_flag = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)

    def run(**values: Any) -> int | None:
        connection = Connection(**{each.name: values.pop(each.name) for each in shared})
        cli = Cli(Output(as_json=values.pop("as_json")), connection)
        try:
            return asyncio.run(function(cli, **values))  # type: ignore[call-arg]
        except BrokenPipeError:
            # Nobody reads any more; without this Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.BROKEN_PIPE

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *shared)]
    # Typer reads a command's options from its signature.
    run.__signature__ = inspect.Signature([*parameters, json_flag])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*parameters, json_flag)}
    return run


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    hints = get_type_hints(function, include_extras=True)
    return [
        each.replace(annotation=hints.get(each.name, each.annotation))
        for each in inspect.signature(function).parameters.values()
    ]
