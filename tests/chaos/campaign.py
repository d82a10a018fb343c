"""The supervisor: keeps the processes alive and the kills coming, then collects the evidence and judges it."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.exceptions import TemporalError
from temporalio.service import RPCError
from tests.chaos.check import Evidence, faults
from tests.chaos.client import agent_file
from tests.chaos.fault import Armory
from tests.chaos.journal import Attempt, Death, Effect, Outage, Seen, Sent, read
from tests.chaos.plan import Blow, SessionPlan, Setting, session
from tests.chaos.process import Child, Nursery, OurChild, ServerChild
from tests.chaos.script import definition
from tests.chaos.shell import SHELL
from tests.chaos.stray import Process, left_behind, left_lying, left_running, left_stored, sandboxed

from sojourn.activities.workspace_folder import folder_name
from sojourn.client import AgentRuntime, connect_client
from sojourn.types import Owner, SessionStatus, SojournError
from sojourn.types.name import AGENT_STATE_QUERY
from sojourn.types.session import AgentState, SessionResult
from sojourn.types.store import Store
from sojourn.worker.port import free_port
from sojourn.worker.server import prepare_namespace

READERS = ("one", "two")
PATIENCE = timedelta(seconds=120)
"""How long sessions may take to come to their end when the kills are over; longer is stuck."""
TIDYING = timedelta(seconds=20)
"""How long workers may take to tidy up after sessions that are over."""

TELLING = 5
"""Commands of which at least one must have been seen to run."""


@dataclass(frozen=True)
class Size:
    """How much is done."""

    kills: int
    seconds: float
    """Longest time of killing; the rest is given up."""
    shell: float
    """Share of sessions that use the shell in the sandbox, from 0 to 1."""
    workers: int = 2
    clients: int = 2
    in_flight: int = 10
    """Sessions at the same time, per client."""
    armed: int = 4
    """Steps that wait for a worker to come to them, at the same time."""
    stale: float = 6.0
    """Seconds after which a step that nobody came to is taken back; another may be luckier."""
    insists: bool = False
    """Whether every step is armed again until it has had its kill; a worker that took one may die of another first."""


@dataclass(frozen=True)
class Finding:
    """A broken promise."""

    session: str
    text: str


@dataclass
class Outcome:
    """What came of a campaign."""

    seed: int
    folder: Path
    evidence: list[Evidence] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    seconds: float = 0.0
    shell: bool = False
    """Whether there was a sandbox."""
    sandboxed: int = 0
    """Most processes in sandboxes that were seen at the same time."""


class Campaign:
    """One run: a server, workers, clients, readers, all in processes of their own, and their deaths."""

    def __init__(self, seed: int, size: Size, folder: Path, *, say: Callable[[str], None]) -> None:
        self._seed = seed
        self._size = size
        self._folder = folder
        self._say = say
        self._chance = random.Random(f"{seed}/supervisor")
        self._armory = Armory(folder)
        self._number = 0
        port = free_port()
        self._most_sandboxed = 0
        for name in ("server", "begun", "done", "store", "tmp", "workspaces"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._server = ServerChild(folder, port)
        self._nursery = Nursery(folder)
        self._setting = Setting(
            *(seed, self._server.address, "chaos", "chaos", size.in_flight, size.clients, size.shell),
            marker=f"{os.getpid():07d}",
        )
        self._setting.save(folder)
        self._workers = [OurChild("worker", str(number), self._nursery) for number in range(size.workers)]
        self._clients = [OurChild("client", str(number), self._nursery) for number in range(size.clients)]
        self._readers = [OurChild("reader", name, self._nursery) for name in READERS]

    async def run(self, blows: Iterator[Blow]) -> Outcome:
        """Kill as planned, let everything come to its end, and judge."""
        began = time.monotonic()
        children: list[Child] = [self._server, *self._workers, *self._clients, *self._readers]
        counting = asyncio.create_task(self._count_sandboxed())
        try:
            await self._server.start()
            client = await self._server.ready()
            await prepare_namespace(client, Store.open(str(self._folder / "store")))
            await self._make_agents()
            await self._nursery.start()
            for child in children[1:]:
                await child.start()
            await self._kill(blows, until=time.monotonic() + self._size.seconds)
            await self._wind_up()
            outcome = await self._judge(await self._server.ready(), time.monotonic() - began)
        finally:
            counting.cancel()
            await asyncio.gather(*(child.stop() for child in reversed(children)))
            await self._nursery.stop()
            self._say("all processes have ended")
        await self._hold(outcome, lambda: left_behind(self._sandboxed()))
        return outcome

    @property
    def kills(self) -> int:
        """Processes killed so far; a second signal to one that is stopping does not count."""
        return len({death.pid for death in read(self._folder / "deaths.jsonl", Death)})

    def progress(self) -> str:
        """One line on how far it is."""
        begun, done = (len(list((self._folder / name).iterdir())) for name in ("begun", "done"))
        return f"{self.kills}/{self._size.kills} kills, {done} of {begun} sessions done"

    # --- killing ---------------------------------------------------------------------------------------------------

    async def _kill(self, blows: Iterator[Blow], *, until: float) -> None:
        await self._warm(until)
        struck: list[Blow] = []
        for blow in blows:
            await asyncio.sleep(blow.pause)
            await self._room(until, most=self._size.armed)
            if time.monotonic() > until or self.kills >= self._size.kills:
                break
            await self._strike(blow)
            self._say(self.progress())
            struck += [blow] * (blow.victim == "step")
        await self._room(until, most=0)
        while self._size.insists and time.monotonic() < until and (missed := self._missed(struck)):
            await self._strike(missed[0])
            await self._room(until, most=0)
            await asyncio.sleep(1)

    def _missed(self, struck: list[Blow]) -> list[Blow]:
        done = {death.point for death in read(self._folder / "deaths.jsonl", Death)}
        return [blow for blow in struck if blow.point not in done]

    async def _warm(self, until: float) -> None:
        """Nothing can be killed before there is something going on."""
        while time.monotonic() < until and not list((self._folder / "attempts").glob("*")):  # noqa: ASYNC110 (files of other processes)
            await asyncio.sleep(0.05)

    async def _room(self, until: float, *, most: int) -> None:
        """Wait until so few steps are armed that workers get to live for a while."""
        while time.monotonic() < until and len(self._armory.armed()) > most:
            await asyncio.sleep(0.05)
            for name in self._armory.armed():
                armed = self._folder / "armed" / name
                if _age(armed) > self._size.stale:
                    self._armory.disarm(name)

    async def _strike(self, blow: Blow) -> None:
        match blow.victim:
            case "step":
                self._number += 1
                self._armory.arm(self._number, blow.point, blow.signal)
            case "server":
                self._note(self._server, blow)
                await self._server.bounce(blow.signal, away=blow.away)
            case "workers":
                for child in self._workers:
                    self._note(child, blow)
                    child.kill(blow.signal)
            case _:
                group = {"worker": self._workers, "client": self._clients, "reader": self._readers}[blow.victim]
                child = group[int(blow.choice * len(group))]
                if child.alive:
                    self._note(child, blow)
                    if blow.victim == "worker":
                        child.kill(blow.signal, away=blow.away)
                    else:
                        child.kill("KILL")

    def _note(self, child: Child, blow: Blow) -> None:
        by = blow.signal if child.role in ("worker", "server") else "KILL"
        self._armory.note(Death(role=child.role, point="", signal=by, pid=child.pid, at=time.time()))

    async def _wind_up(self) -> None:
        """No new sessions; those that run may come to their end in peace."""
        for name in self._armory.armed():
            self._armory.disarm(name)
        (self._folder / "stop").touch()
        end = time.monotonic() + PATIENCE.total_seconds()
        while time.monotonic() < end and not self._over():
            self._say(f"{self.progress()}; winding up")
            await asyncio.sleep(0.3)

    def _over(self) -> bool:
        return all((self._folder / f"client-{number}.finished").exists() for number in range(self._size.clients))

    # --- judging ---------------------------------------------------------------------------------------------------

    async def _judge(self, client: Client, seconds: float) -> Outcome:
        outcome = Outcome(self._seed, self._folder, seconds=seconds, shell=self._size.shell > 0)
        outcome.deaths, outcome.outages = read(self._folder / "deaths.jsonl", Death), self._server.outages
        if not any((self._folder / "done").iterdir()):
            outcome.findings.append(Finding("", "no session came to its end, so nothing was shown"))
        begun = sorted((self._folder / "begun").iterdir(), key=lambda path: path.stat().st_mtime)
        collector = Collector(client, self._setting, self._folder, outcome)
        for place, path in enumerate(begun):
            self._say(f"looking at session {place + 1} of {len(begun)}")
            await self._judge_one(collector, session(self._seed, _place(path), shell=self._size.shell), outcome)
        await self._judge_machine(outcome)
        for child in (*self._workers, *self._clients, *self._readers, self._server):
            for code in child.surprises:
                outcome.findings.append(Finding("", f"{child.role} {child.name} ended by itself with exit code {code}"))
        return outcome

    async def _judge_one(self, collector: "Collector", plan: SessionPlan, outcome: Outcome) -> None:
        try:
            async with asyncio.timeout(60):
                evidence = await collector.evidence(plan)
        except (SojournError, RPCError, TemporalError, TimeoutError) as error:
            outcome.findings.append(Finding(plan.id, f"it cannot be read: {type(error).__name__}: {error}"))
            return
        outcome.evidence.append(evidence)
        if found := faults(evidence):
            outcome.findings += [Finding(plan.id, text) for text in found]
            await collector.keep(plan)

    async def _judge_machine(self, outcome: Outcome) -> None:
        """Nothing of a session that is over may stay with the workers, which live on."""
        ids = [each.plan.id for each in outcome.evidence if each.status.is_terminal]
        deleted = await self._delete_the_rest(outcome)
        over = {folder_name(f"{self._setting.workspace}/{id}") for id in (*ids, *deleted)}
        await self._hold(outcome, lambda: left_running(self._sandboxed(), over))
        places, store = self._folder / "workspaces", self._folder / "store"
        await self._hold(outcome, lambda: left_lying([path.name for path in places.glob("*/*/*")], over))
        await self._hold(outcome, lambda: left_stored([str(path) for path in store.rglob("*.*")], deleted))
        outcome.sandboxed = self._most_sandboxed
        sent = sum(effect.tool == SHELL for each in outcome.evidence for effect in each.effects)
        if sent >= TELLING and not outcome.sandboxed:
            outcome.findings.append(Finding("", "no process of a sandbox was ever seen, so nothing was shown of them"))

    async def _delete_the_rest(self, outcome: Outcome) -> list[str]:
        """Delete what nobody has archived, unless somebody will want to look at it."""
        faulty = {finding.session for finding in outcome.findings}
        open = [each.plan.id for each in outcome.evidence if not each.status.is_terminal and each.plan.id not in faulty]
        runtime = await self._runtime()
        for id in open:
            await runtime.delete_session(id)
        return open

    async def _hold(self, outcome: Outcome, left: Callable[[], Iterator[str]]) -> None:
        """Whatever is still left after a while is a finding."""
        end = time.monotonic() + TIDYING.total_seconds()
        while (found := list(left())) and time.monotonic() < end:  # noqa: ASYNC110 (processes and files of others)
            await asyncio.sleep(0.2)
        outcome.findings += [Finding("", text) for text in found]

    async def _count_sandboxed(self) -> None:
        while self._size.shell > 0:
            found = await asyncio.to_thread(self._sandboxed)
            self._most_sandboxed = max(self._most_sandboxed, len(found))
            await asyncio.sleep(1)

    def _sandboxed(self) -> list[Process]:
        return sandboxed(self._folder, self._setting.marker) if self._size.shell > 0 else []

    async def _runtime(self) -> AgentRuntime:
        client = await connect_client(self._setting.address)
        return AgentRuntime(client, owner=Owner(self._setting.workspace, "ada"), task_queue=self._setting.queue)

    async def _make_agents(self) -> None:
        runtime = await self._runtime()
        for shell in (False, True):
            agent = await runtime.create(definition(shell=shell))
            agent_file(self._folder, shell=shell).write_text(agent.id)


class Collector:
    """Gathers what is known of each session."""

    def __init__(self, client: Client, setting: Setting, folder: Path, outcome: Outcome) -> None:
        self._client = client
        self._setting = setting
        self._folder = folder
        self._outcome = outcome
        owner = Owner(setting.workspace, "ada")
        self._runtime = AgentRuntime(client, owner=owner, task_queue=setting.queue)
        self._effects = read(folder / "ledger.jsonl", Effect)
        paths = sorted((folder / "attempts").glob("*.jsonl"))
        self._attempts = [attempt for path in paths for attempt in read(path, Attempt)]

    async def evidence(self, plan: SessionPlan) -> Evidence:
        """Everything about one session.

        Raises:
            SojournError: It cannot be read.
            TimeoutError: A reader is still behind; or no worker answers.
        """
        sent = self._folder / "sent" / f"{plan.id}.jsonl"
        log = await self._runtime.list_events(plan.id)
        info = await self._runtime.get_session(plan.id)
        return Evidence(
            plan=plan,
            log=log,
            counted=await self._count(plan, info.status),
            status=info.status,
            finished=(self._folder / "done" / plan.id).exists(),
            sent=read(sent, Sent),
            effects=[effect for effect in self._effects if effect.session == plan.id],
            seen={name: await self._seen(name, plan, len(log)) for name in READERS},
            attempts=[attempt for attempt in self._attempts if attempt.session == plan.id],
            deaths=self._outcome.deaths,
            outages=self._outcome.outages,
        )

    async def _count(self, plan: SessionPlan, status: SessionStatus) -> int:
        id = f"{self._setting.workspace}/{plan.id}"
        async with asyncio.timeout(60):
            if status.is_terminal:
                handle = self._client.get_workflow_handle(id, result_type=SessionResult)
                result: SessionResult = await handle.result()
                return result.seq
            state: AgentState = await self._client.get_workflow_handle(id).query(
                AGENT_STATE_QUERY, result_type=AgentState
            )
            return state.seq

    async def _seen(self, name: str, plan: SessionPlan, length: int) -> list[Seen]:
        """What a reader saw; one that is a moment behind is waited for."""
        path = self._folder / "seen" / name / f"{plan.id}.jsonl"
        end = time.monotonic() + 60
        while len(found := read(path, Seen)) < length and time.monotonic() < end:  # noqa: ASYNC110 (the file of another process)
            await asyncio.sleep(0.2)
        return found

    async def keep(self, plan: SessionPlan) -> None:
        """Store the histories of a session beside the other evidence."""
        id, run_id, number = f"{self._setting.workspace}/{plan.id}", None, 0
        folder = self._folder / "history"
        folder.mkdir(exist_ok=True)
        (folder / f"{plan.id}.plan.json").write_text(plan.model_dump_json(indent=1))
        log = await self._runtime.list_events(plan.id)
        (folder / f"{plan.id}.log.jsonl").write_text("".join(f"{event.model_dump_json()}\n" for event in log))
        while run_id != "":
            number += 1
            history = await self._client.get_workflow_handle(id, run_id=run_id).fetch_history()
            (folder / f"{plan.id}.run-{number}-from-the-end.json").write_text(history.to_json())
            started = history.events[0].workflow_execution_started_event_attributes
            run_id = started.continued_execution_run_id


def _place(path: Path) -> int:
    return int(path.read_text())


def _age(path: Path) -> float:
    """Seconds since the file was written; 0 once it is gone, because a worker took it meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0
