"""What becomes of the tool calls of one answer: rules first, then hooks, then whether anybody can be asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from sojourn.activities.catalogue import Catalogue, Entry
from sojourn.activities.conversation import Conversation
from sojourn.activities.hook_chain import HookChain, Verdict
from sojourn.activities.model import AnswerToolCall
from sojourn.types.agent import AskUserTool, CustomTool
from sojourn.types.error import InvalidRequestError
from sojourn.types.id import EventId
from sojourn.types.permission import Permission, PermissionPolicy, enforced, evaluate
from sojourn.types.policy import WorkspacePolicy
from sojourn.types.question import read_questions
from sojourn.types.record import ToolCallPart
from sojourn.types.rule import HOME, WORKING_DIR, Rule, ToolUse, exact_rule
from sojourn.types.session import SessionInput

_NOBODY = "The call needs a permission, and in this session nobody can be asked. The tool did not run."
_NOBODY_TO_ASK = "Nobody can be asked in this session. Decide yourself, and say what you have decided."
_DENIED = "The call was not permitted. The tool did not run."
_NOT_PLAIN = (
    "Rules allow its commands alone and not this line: it has a redirection to a file, a here document, an assignment"
    " or a keyword of the shell. Leave that out, and write files with a tool for files."
)
_DOUBTED = "A rule restricts shell commands, and it cannot be told which this line runs: {}."


@dataclass(frozen=True)
class Judge:
    """Decides the calls of one answer."""

    start: SessionInput
    conversation: Conversation
    tools: Catalogue
    entries: Mapping[str, Entry]
    worker: PermissionPolicy
    workspace: WorkspacePolicy
    hooks: HookChain
    skips: bool
    """Whether the session skips permissions."""

    async def part(self, id: EventId, call: AnswerToolCall) -> ToolCallPart:
        """The call as it goes into the log."""
        entry = self.entries.get(call.name)
        tool = entry.tool if entry else self.tools.tools.get(call.name)
        declared = entry.declared if entry else tool.permission if tool else None

        def ruled(input: Mapping[str, JsonValue]) -> Permission:
            return self.permission(call.name, input, entry, declared)

        verdict = Verdict(call.input, ruled(call.input))
        if entry is not None:
            verdict = await self.hooks.before_tool(call.name, call.input, ruled)
        permission, refusal = self._refused(entry, verdict)
        if permission == "deny" and verdict.is_ruled and (reason := self._reason(call.name, verdict.input, ruled)):
            refusal = f"{refusal or _DENIED} {reason}"
        timeout = tool.timeout if tool else None
        return ToolCallPart(
            id=id,
            call_id=call.call_id,
            name=call.name,
            input=verdict.input,
            kind=entry.kind if entry else "unknown",
            permission=permission,
            place=entry.place if entry else None,
            mcp_server_name=entry.mcp_server_name if entry else "",
            mcp_tool_name=entry.mcp.name if entry and entry.mcp else "",
            idempotent=bool(entry and entry.idempotent),
            timeout=entry.config.timeout if entry and isinstance(entry.config, CustomTool) else timeout,
            state=call.state,
            refusal=refusal,
        )

    def permission(
        self, name: str, input: Mapping[str, JsonValue], entry: Entry | None, declared: Permission | None
    ) -> Permission:
        """What the rules say."""
        use = self._use(name, input)
        if self.skips:
            return enforced(use, declared=declared, worker=self.worker, everywhere=self.workspace.policy)
        agent = self.start.agent
        remembered = [rule for part in self.conversation.approved if (rule := self._remembered(part)) is not None]
        return evaluate(
            use,
            configured=entry.configured if entry else None,
            declared=declared,
            session=self.start.permissions.with_rules(remembered),
            agent=agent.definition.permission_policy.with_rules(self.workspace.of_agent(agent.id)),
            worker=self.worker,
            everywhere=self.workspace.policy,
        )

    def _remembered(self, part: ToolCallPart) -> Rule | None:
        return exact_rule(self._use(part.name, part.input))

    def _use(self, name: str, input: Mapping[str, JsonValue]) -> ToolUse:
        return ToolUse(name, input, cwd=self.start.environment.working_dir or WORKING_DIR, home=HOME)

    def _refused(self, entry: Entry | None, verdict: Verdict) -> tuple[Permission, str]:
        """The permission at last, and what the model is told of a call that does not run."""
        if not verdict.is_ruled:
            return "deny", f"{_DENIED} Reason given: {verdict.reason}" if verdict.reason else _DENIED
        if entry is not None and isinstance(entry.config, AskUserTool):
            return "allow", self._unaskable(verdict.input)
        if verdict.permission == "ask" and not self.start.interactive:
            return "deny", _NOBODY
        return verdict.permission, ""

    def _reason(
        self, name: str, input: Mapping[str, JsonValue], ruled: Callable[[Mapping[str, JsonValue]], Permission]
    ) -> str:
        """Why rules restrict a line of shell whose commands they do not, and the way out; empty for any other call."""
        use = self._use(name, input)
        # A line without commands is held by the rules about the tool, and by none about commands.
        if use.doubt and ruled(input) != ruled({**input, "command": ""}):
            return _DOUBTED.format(use.doubt)
        if use.parts and all(ruled({**input, "command": each}) == "allow" for each in use.parts):
            return _NOT_PLAIN
        return ""

    def _unaskable(self, input: Mapping[str, JsonValue]) -> str:
        if not self.start.interactive:
            return _NOBODY_TO_ASK
        try:
            read_questions(input)
        except InvalidRequestError as error:
            return f"Invalid arguments. {error}"
        return ""
