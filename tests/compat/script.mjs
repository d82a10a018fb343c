// The steps of script.py, through the official TypeScript SDK; written from its documentation alone.
//
//     node script.mjs --base-url http://127.0.0.1:8080 --api-key KEY --model scripted:desk
//
// It prints a JSON object for each step.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import Anthropic from '@anthropic-ai/sdk';
import { accumulateManagedAgentsEvent } from '@anthropic-ai/sdk/lib/sessions/accumulate';
import { VERSION } from '@anthropic-ai/sdk/version';

const STEP_SECONDS = 100; // longest time for a step; they take about a second

const { values: given } = parseArgs({
  options: { 'base-url': { type: 'string' }, 'api-key': { type: 'string' }, model: { type: 'string' } },
});
const client = new Anthropic({ baseURL: given['base-url'], apiKey: given['api-key'] });
const other = new Anthropic({ baseURL: given['base-url'], apiKey: 'a wrong key' });
const model = given.model ?? 'scripted:desk';
const { agents, environments, sessions } = client.beta;
const name = `compat-${randomUUID().slice(0, 8)}`;
const began = Date.now();

const LOOKUP = { type: 'function', name: 'lookup_order' };
const REFUND = { type: 'function', name: 'refund_order', permission_policy: { type: 'always_ask' } };
const ASK = {
  type: 'custom',
  name: 'ask_customer',
  description: 'Asks the customer and gives their answer.',
  input_schema: { type: 'object', properties: { question: { type: 'string' } }, required: ['question'] },
};

// What the steps leave for those after them.
let agentId, environmentId, sessionId, secondId;

async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

const message = (text) => ({ type: 'user.message', content: [{ type: 'text', text }] });
const said = (event) => event.content.map((block) => block.text ?? '').join('');
const types = (seen) => seen.map((event) => event.type);
const of = (seen, type) => seen.filter((event) => event.type === type);
const reason = (seen) => seen.at(-1).stop_reason;

function one(seen, type) {
  const found = of(seen, type);
  assert.equal(found.length, 1, `${type} in ${types(seen)}`);
  return found[0];
}

// Opens a stream, sends, and reads to the next idle.
async function turn(...events) {
  const stream = await sessions.events.stream(sessionId);
  await sessions.events.send(sessionId, { events });
  const seen = [];
  for await (const event of stream) {
    seen.push(event);
    if (event.type === 'session.status_idle') return seen;
  }
  throw new Error(`the stream ended: ${types(seen)}`);
}

async function agent() {
  const made = await agents.create({
    name,
    model,
    system: 'You are at the order desk. Do what the message says, with the tool that it names, and tell its answer.',
    description: 'An order desk',
    tools: [LOOKUP, REFUND, ASK],
    metadata: { team: 'orders', shift: 'late' },
  });
  assert.deepEqual([made.type, made.version, made.name, made.model.id], ['agent', 1, name, model]);
  assert.deepEqual(types(made.tools), ['function', 'function', 'custom']);
  assert.equal(made.archived_at, null);
  agentId = made.id;
  assert.deepEqual(await agents.retrieve(agentId), made);
}

async function agentVersions() {
  const change = { description: 'The order desk', metadata: { shift: null } };
  const changed = await agents.update(agentId, { version: 1, ...change });
  assert.deepEqual([changed.version, changed.description, changed.metadata], [2, 'The order desk', { team: 'orders' }]);
  assert.equal((await agents.update(agentId, { version: 2, description: 'The order desk' })).version, 2);
  await assert.rejects(agents.update(agentId, { version: 1, name: 'late' }), Anthropic.ConflictError);
  assert.equal((await agents.retrieve(agentId, { version: 1 })).description, 'An order desk');
  const versions = await all(agents.versions.list(agentId, { limit: 1 }));
  assert.deepEqual(
    versions.map((version) => version.version),
    [2, 1],
  );
  assert.ok((await all(agents.list({ limit: 100 }))).some((found) => found.id === agentId));
}

async function environment() {
  const made = await environments.create({ name, description: 'Where orders are looked up' });
  assert.deepEqual([made.type, made.name, made.config.type], ['environment', name, 'cloud']);
  environmentId = made.id;
  await environments.update(environmentId, { description: 'Elsewhere', metadata: { floor: '2' } });
  const found = await environments.retrieve(environmentId);
  assert.deepEqual([found.description, found.metadata], ['Elsewhere', { floor: '2' }]);
  assert.ok((await all(environments.list({ limit: 100 }))).some((each) => each.id === environmentId));
  await assert.rejects(environments.create({ name }), Anthropic.ConflictError);
}

async function session() {
  const made = await sessions.create({
    agent: agentId,
    environment_id: environmentId,
    title: 'Order 17',
    metadata: { customer: 'ada', channel: 'mail' },
  });
  assert.deepEqual([made.type, made.status, made.title, made.agent.version], ['session', 'idle', 'Order 17', 2]);
  sessionId = made.id;
  await sessions.update(sessionId, { title: 'Order 18', metadata: { channel: null, tier: 'gold' } });
  const found = await sessions.retrieve(sessionId);
  assert.deepEqual([found.title, found.metadata], ['Order 18', { customer: 'ada', tier: 'gold' }]);
}

async function streamWithDeltas() {
  const stream = await sessions.events.stream(sessionId, { event_deltas: ['agent.message'] });
  const sent = await sessions.events.send(sessionId, { events: [message('Say hello.')] });
  const seen = [];
  let snapshot;
  for await (const event of stream) {
    seen.push(event);
    const before = snapshot;
    snapshot = accumulateManagedAgentsEvent(snapshot, event);
    if (event.type === 'agent.message' && before?.id === event.id) assert.ok(said(event).startsWith(said(before)));
    if (event.type === 'session.status_idle') break;
  }
  assert.equal(reason(seen).type, 'end_turn');
  assert.deepEqual(new Set(of(seen, 'user.message').map((event) => event.id)), new Set([sent.data[0].id]));
  assert.ok(said(one(seen, 'agent.message')));
  assert.deepEqual(types(seen).slice(-2), ['session.usage', 'session.status_idle']);
  assert.ok((await sessions.retrieve(sessionId)).usage.input_tokens > 0);
}

async function toolThatIsAllowed() {
  const seen = await turn(message('Use lookup_order for number 17.'));
  const use = one(seen, 'agent.tool_use');
  assert.deepEqual([use.name, use.input, use.evaluated_permission], ['lookup_order', { number: 17 }, 'allow']);
  assert.match(said(one(seen, 'agent.tool_result')), /shipped/);
  assert.equal(reason(seen).type, 'end_turn');
}

async function approval() {
  const asked = await turn(message('Use refund_order for number 17.'));
  const use = one(asked, 'agent.tool_use');
  assert.deepEqual([use.name, use.evaluated_permission], ['refund_order', 'ask']);
  assert.deepEqual([reason(asked).type, reason(asked).event_ids], ['requires_action', [use.id]]);
  const seen = await turn({ type: 'user.tool_confirmation', tool_use_id: use.id, result: 'allow' });
  assert.match(said(one(seen, 'agent.tool_result')), /refunded/);
  assert.equal(reason(seen).type, 'end_turn');
}

async function denial() {
  const use = one(await turn(message('Use refund_order for number 18.')), 'agent.tool_use');
  const answer = { type: 'user.tool_confirmation', tool_use_id: use.id, result: 'deny', deny_message: 'not today' };
  const seen = await turn(answer);
  const result = one(seen, 'agent.tool_result');
  assert.ok(result.is_error);
  // What the model was told, which it repeats.
  assert.match(of(seen, 'agent.message').map(said).join(' '), /not today/);
  assert.equal(reason(seen).type, 'end_turn');
}

async function customTool() {
  const asked = await turn(message('Use ask_customer for their size.'));
  const use = one(asked, 'agent.custom_tool_use');
  assert.deepEqual([reason(asked).type, reason(asked).event_ids], ['requires_action', [use.id]]);
  const content = [{ type: 'text', text: 'size 42' }];
  const seen = await turn({ type: 'user.custom_tool_result', custom_tool_use_id: use.id, content });
  assert.match(of(seen, 'agent.message').map(said).join(' '), /42/);
  assert.equal(reason(seen).type, 'end_turn');
}

async function interrupt() {
  const stream = await sessions.events.stream(sessionId, { event_deltas: ['agent.message'] });
  await sessions.events.send(sessionId, { events: [message('Tell a very long story.')] });
  const seen = [];
  let sent;
  for await (const event of stream) {
    seen.push(event);
    if (event.type === 'event_delta' && event.delta.content.text && !sent) {
      assert.equal((await sessions.retrieve(sessionId)).status, 'running');
      sent = await sessions.events.send(sessionId, { events: [{ type: 'user.interrupt' }] });
    }
    if (event.type === 'session.status_idle') break;
  }
  assert.ok(of(seen, 'user.interrupt').some((event) => event.id === sent.data[0].id));
  assert.ok(types(seen).indexOf('event_start') < types(seen).indexOf('event_delta'));
  assert.equal(reason(seen).type, 'end_turn');
  assert.equal((await sessions.retrieve(sessionId)).status, 'idle');
}

async function eventList() {
  const ids = (await all(sessions.events.list(sessionId))).map((event) => event.id);
  assert.equal(new Set(ids).size, ids.length);
  const paged = await all(sessions.events.list(sessionId, { limit: 5 }));
  assert.deepEqual(
    paged.map((event) => event.id),
    ids,
  );
  const backwards = await all(sessions.events.list(sessionId, { limit: 7, order: 'desc' }));
  assert.deepEqual(
    backwards.map((event) => event.id),
    ids.toReversed(),
  );
  const chosen = await all(sessions.events.list(sessionId, { types: ['user.message', 'agent.message'] }));
  assert.deepEqual(new Set(types(chosen)), new Set(['user.message', 'agent.message']));
}

async function initialEvents() {
  const made = await sessions.create({
    agent: { type: 'agent', id: agentId, version: 1 },
    environment_id: environmentId,
    initial_events: [message('Say hello.')],
  });
  assert.deepEqual([made.agent.version, made.status], [1, 'running']);
  secondId = made.id;
  while ((await sessions.retrieve(secondId)).status !== 'idle') await delay(100);
  const chosen = await all(sessions.events.list(secondId, { types: ['user.message', 'agent.message'] }));
  assert.deepEqual(types(chosen), ['user.message', 'agent.message']);
}

async function overrides() {
  const made = await sessions.create({
    agent: { type: 'agent_with_overrides', id: agentId, system: 'Be brief.', tools: [ASK] },
    environment_id: environmentId,
  });
  assert.equal(made.agent.system, 'Be brief.');
  assert.equal((await sessions.delete(made.id)).type, 'session_deleted');
}

async function sessionList() {
  const listed = async (filters) =>
    (await all(sessions.list({ agent_id: agentId, limit: 1, ...filters }))).map((found) => found.id);
  // What was just made or changed shows in lists a moment later.
  const both = async (filters) => {
    for (;;) {
      const found = await listed(filters);
      if (found.length === 2 && found.includes(sessionId) && found.includes(secondId)) return found;
      await delay(100);
    }
  };
  assert.deepEqual(await both({}), [secondId, sessionId]);
  assert.deepEqual(await both({ order: 'asc' }), [sessionId, secondId]);
  const since = new Date(began - 300_000).toISOString();
  await both({ statuses: ['idle', 'running'], 'created_at[gte]': since });
  assert.deepEqual(await listed({ 'created_at[lt]': since }), []);
}

async function threads() {
  const [primary, ...rest] = await all(sessions.threads.list(sessionId));
  assert.deepEqual([primary.type, primary.parent_thread_id, rest.length], ['session_thread', null, 0]);
  const found = await sessions.threads.retrieve(primary.id, { session_id: sessionId });
  assert.equal(found.status, 'idle');
  assert.ok((await all(sessions.threads.events.list(primary.id, { session_id: sessionId }))).length > 0);
}

async function refusals() {
  await assert.rejects(sessions.retrieve(`sesn_${randomUUID().replaceAll('-', '')}`), (error) => {
    assert.ok(error instanceof Anthropic.NotFoundError);
    assert.equal(error.error.error.type, 'not_found_error');
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(agents.create({ name: '', model }), Anthropic.BadRequestError);
  await assert.rejects(other.beta.sessions.retrieve(sessionId), Anthropic.AuthenticationError);
}

async function models() {
  for (const found of await all(client.models.list())) assert.equal(found.type, 'model');
}

async function archive() {
  const ended = await sessions.archive(sessionId);
  assert.equal(ended.status, 'terminated');
  assert.ok(ended.archived_at);
  const late = { events: [message('Are you there?')] };
  await assert.rejects(sessions.events.send(sessionId, late), Anthropic.BadRequestError);
}

async function remove() {
  for (const id of [sessionId, secondId]) {
    assert.deepEqual(await sessions.delete(id).then((gone) => [gone.id, gone.type]), [id, 'session_deleted']);
    await assert.rejects(sessions.retrieve(id), Anthropic.NotFoundError);
  }
}

async function farewell() {
  assert.ok((await environments.archive(environmentId)).archived_at);
  assert.ok((await agents.archive(agentId)).archived_at);
  const start = { agent: agentId, environment_id: environmentId };
  await assert.rejects(sessions.create(start), Anthropic.BadRequestError);
  assert.equal((await environments.delete(environmentId)).type, 'environment_deleted');
  await assert.rejects(environments.retrieve(environmentId), Anthropic.NotFoundError);
}

const STEPS = {
  agent,
  'agent versions': agentVersions,
  environment,
  session,
  'stream with deltas': streamWithDeltas,
  'tool that is allowed': toolThatIsAllowed,
  approval,
  denial,
  'custom tool': customTool,
  interrupt,
  'event list': eventList,
  'initial events': initialEvents,
  overrides,
  'session list': sessionList,
  threads,
  refusals,
  models,
  archive,
  delete: remove,
  farewell,
};

const tell = (facts) => console.log(JSON.stringify(facts));
tell({ sdk: VERSION, client: 'Anthropic', steps: Object.keys(STEPS).length });
for (const [step, take] of Object.entries(STEPS)) {
  const start = performance.now();
  try {
    const late = delay(STEP_SECONDS * 1000, undefined, { ref: false }).then(() => {
      throw new Error(`not done after ${STEP_SECONDS} s`);
    });
    await Promise.race([take(), late]);
  } catch (error) {
    console.error(error);
    tell({ step, ok: false, error: `${error.name}: ${error.message}`.slice(0, 500) });
    process.exit(1);
  }
  tell({ step, ok: true, seconds: Math.round(performance.now() - start) / 1000 });
}
process.exit(0);
