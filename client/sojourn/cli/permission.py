"""`sojourn permissions …`: the rules that hold for all sessions of a workspace, also for those that run."""

from typing import Annotated, cast

import typer

from sojourn.cli.command import Cli, command
from sojourn.types import InvalidRequestError, PermissionPolicy, UpdateSessionInput, WorkspacePolicy
from sojourn.types.permission import Permission

app = typer.Typer(help="Permissions: what agents may do in this workspace.", no_args_is_help=True)

RuleText = Annotated[str, typer.Argument(metavar="RULE", help="Such as bash, 'bash(git *)', 'write(/workspace/**)'.")]
Agent = Annotated[str | None, typer.Option("--agent", metavar="AGENT", help="Only for the sessions of this agent.")]


@command(app, "show")
async def show(cli: Cli) -> None:
    """Show the rules of the workspace."""
    async with cli.runtime() as runtime:
        found = await runtime.get_policy()
    _show(cli, found)


@command(app, "allow")
async def allow(cli: Cli, rule: RuleText, agent: Agent = None) -> None:
    """Allow what the rule names. Running sessions follow within two seconds."""
    await _add(cli, rule, "allow", agent)


@command(app, "ask")
async def ask(cli: Cli, rule: RuleText, agent: Agent = None) -> None:
    """Ask before what the rule names."""
    await _add(cli, rule, "ask", agent)


@command(app, "deny")
async def deny(cli: Cli, rule: RuleText, agent: Agent = None) -> None:
    """Deny what the rule names, whatever agents and sessions allow."""
    await _add(cli, rule, "deny", agent)


@command(app, "remove")
async def remove(cli: Cli, rule: RuleText, agent: Agent = None) -> None:
    """Remove a rule, by its text as `show` prints it."""
    async with cli.runtime() as runtime:
        found = await runtime.remove_rule(rule, agent=agent)
    _show(cli, found)


@command(app, "default")
async def default(
    cli: Cli,
    permission: Annotated[str, typer.Argument(metavar="PERMISSION", help="allow, ask, deny, or none.")],
) -> None:
    """Say what holds where no rule does; none leaves it to agents, sessions and workers."""
    if permission not in ("allow", "ask", "deny", "none"):
        raise InvalidRequestError(f"{permission!r} is no permission; there are allow, ask, deny and none")
    wanted = None if permission == "none" else cast("Permission", permission)
    async with cli.runtime() as runtime:
        now = await runtime.get_policy()
        policy: PermissionPolicy = now.policy.model_copy(update={"default": wanted})
        found = await runtime.set_policy(policy, version=now.version)
    _show(cli, found)


@command(app, "skip")
async def skip(
    cli: Cli,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")],
    off: Annotated[bool, typer.Option("--off", help="Ask again.")] = False,
) -> None:
    """Allow a session everything that workspace and worker do not deny. Its log says so."""
    async with cli.runtime() as runtime:
        await runtime.update_session(session, UpdateSessionInput(skip_permissions=not off))
    said = "asks again" if off else "skips permissions from its next step on"
    cli.out.result({"id": session, "skip_permissions": not off}, f"session {session} {said}")


async def _add(cli: Cli, rule: str, permission: Permission, agent: str | None) -> None:
    async with cli.runtime() as runtime:
        found = await runtime.add_rule(rule, permission, agent=agent)
    _show(cli, found)


def _show(cli: Cli, found: WorkspacePolicy) -> None:
    if cli.out.as_json:
        cli.out.result(found)
        return
    rows = [("all", each.permission, each.rule) for each in found.policy.rules]
    rows += [("all", permission, name) for name, permission in found.policy.tools.items()]
    rows += [(agent_id, each.permission, each.rule) for agent_id, rules in found.agents.items() for each in rules]
    if found.policy.default is not None:
        rows.append(("all", found.policy.default, "(default)"))
    if rows:
        cli.out.table(("for", "permission", "rule"), rows)
    else:
        cli.out.note("no rules in this workspace; agents, sessions and workers have their own")
