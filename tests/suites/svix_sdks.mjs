// Walks the surface of the Svix shape with Svix's npm SDK, 1.x or 2.x. Called by svix_sdks.sh with the daemon's URL and a
// token of an organization, from a folder that has the SDK.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import http from "node:http";

const sdk = await import("svix");
const { Svix, Webhook, ApiException } = sdk.Svix ? sdk : sdk.default;

const [url, token] = process.argv.slice(2);
const ARRIVAL_MS = 30_000;
const svix = new Svix(token, { serverUrl: url });
const uid = `app-${crypto.randomUUID()}`;
const type = `invoice.sent.${crypto.randomBytes(6).toString("hex")}`;
const isSecond = typeof svix.endpoint.upsert === "function";

/** Requests in the order of their arrival. Answers with the next of `statuses`, or 200. */
const arrived = [];
const waiting = [];
const statuses = [];
const receiver = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    response.writeHead(statuses.shift() ?? 200).end("ok");
    const got = { headers: request.headers, body: Buffer.concat(parts).toString() };
    if (waiting.length > 0) waiting.shift()(got);
    else arrived.push(got);
  });
});

async function next() {
  if (arrived.length > 0) return arrived.shift();
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("nothing arrived")), ARRIVAL_MS);
    waiting.push((got) => (clearTimeout(late), resolve(got)));
  });
}

/** The next request, whose signature the SDK verifies. */
async function verified(secret) {
  const { headers, body } = await next();
  new Webhook(secret).verify(body, headers);
  assert.throws(() => new Webhook(secret).verify(`${body} `, headers));
  return { headers, payload: JSON.parse(body) };
}

async function eventually(look) {
  const end = Date.now() + ARRIVAL_MS;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("it never came true");
}

async function refused(status, call) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ApiException, String(error));
    assert.equal(error.code, status);
    const body = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
    assert.ok(status === 422 ? body.detail.length > 0 : body.code && body.detail, JSON.stringify(body));
    return true;
  });
}

/** All items of a list by its iterator, and back by its previous iterator. */
async function pages(ask) {
  const forward = [];
  for (let iterator; ; ) {
    const page = await ask(iterator);
    forward.push(...page.data);
    if (page.done) break;
    iterator = page.iterator;
  }
  const back = [];
  for (let iterator = `-${forward.at(-1).id}`; ; ) {
    const page = await ask(iterator);
    back.unshift(...page.data);
    if (page.done) break;
    iterator = page.prevIterator;
  }
  assert.deepEqual(back.map((item) => item.id), forward.slice(0, -1).map((item) => item.id));
  return forward;
}

let endpoint, secret;

const steps = {
  async applications() {
    const made = await svix.application.create({ name: "Acme", uid, metadata: { plan: "pro" } });
    assert.deepEqual([made.uid, made.metadata], [uid, { plan: "pro" }]);
    assert.equal((await svix.application.get(uid)).id, made.id);
    assert.equal((await svix.application.getOrCreate({ name: "x", uid })).id, made.id);
    assert.equal((await svix.application.patch(uid, { name: "Acme 2" })).name, "Acme 2");
    await refused(409, () => svix.application.create({ name: "x", uid }));
    await refused(404, () => svix.application.get("no-such-app"));
    await refused(422, () => svix.application.create({ name: "x", uid: "a b" }));
    await refused(401, () => new Svix("pr_nobody", { serverUrl: url }).application.get(uid));
    const other = await svix.application.create({ name: "other" });
    const listed = await pages((iterator) => svix.application.list({ limit: 2, iterator }));
    assert.ok(listed.some((app) => app.id === other.id));
    await svix.application.delete(other.id);
  },
  async eventTypes() {
    const schemas = { 1: { type: "object", examples: [{ id: 7 }] } };
    const made = await svix.eventType.create({ name: type, description: "An invoice was sent", schemas });
    assert.deepEqual([made.name, made.archived], [type, false]);
    assert.deepEqual((await svix.eventType.get(type)).schemas, schemas);
    assert.equal((await svix.eventType.patch(type, { description: "Sent" })).description, "Sent");
    assert.ok((await svix.eventType.list({ limit: 250 })).data.some((item) => item.name === type));
    await refused(409, () => svix.eventType.create({ name: type, description: "" }));
  },
  async endpoints() {
    const target = `http://127.0.0.1:${receiver.address().port}/in`;
    const types = isSecond ? { eventTypes: [type] } : { filterTypes: [type] };
    const made = await svix.endpoint.create(uid, { url: target, uid: "ep-1", ...types });
    endpoint = made.id;
    assert.equal((await svix.endpoint.get(uid, "ep-1")).id, endpoint);
    assert.deepEqual(isSecond ? made.eventTypes : made.filterTypes, [type]);
    const replace = (isSecond ? svix.endpoint.upsert : svix.endpoint.update).bind(svix.endpoint);
    assert.equal((await replace(uid, endpoint, { url: target, uid: "ep-1", description: "d", ...types })).description, "d");
    assert.equal((await svix.endpoint.patch(uid, endpoint, { description: "e" })).description, "e");
    const setHeaders = (isSecond ? svix.endpoint.setHeaders : svix.endpoint.updateHeaders).bind(svix.endpoint);
    await setHeaders(uid, endpoint, { headers: { "X-One": "1", Authorization: "x" } });
    const headers = await svix.endpoint.getHeaders(uid, endpoint);
    assert.deepEqual([headers.headers, headers.sensitive], [{ "X-One": "1" }, ["Authorization"]]);
    await svix.endpoint.patchHeaders(uid, endpoint, { headers: { "X-Two": "2" } });
    await svix.endpoint.rotateSecret(uid, endpoint, {});
    secret = (await svix.endpoint.getSecret(uid, endpoint)).key;
    const second = await svix.endpoint.create(uid, { url: target, channels: ["nowhere"] });
    await pages((iterator) => svix.endpoint.list(uid, { limit: 1, iterator }));
    await svix.endpoint.delete(uid, second.id);
    await refused(404, () => svix.endpoint.get(uid, second.id));
    await refused(422, () => svix.endpoint.create(uid, { url: "ftp://example.com" }));
  },
  async messages() {
    const sent = { eventType: type, eventId: "e-1", payload: { n: 1 }, channels: ["eu"] };
    const made = await svix.message.create(uid, sent);
    const { headers, payload } = await verified(secret);
    assert.deepEqual([payload, headers["svix-id"], headers["x-one"]], [{ n: 1 }, made.id, "1"]);
    await refused(409, () => svix.message.create(uid, sent));
    assert.equal((await svix.message.get(uid, "e-1")).id, made.id);
    for (let n = 0; n < 4; n += 1) {
      await svix.message.create(uid, { eventType: type, payload: { n } });
      await verified(secret);
    }
    assert.equal((await pages((iterator) => svix.message.list(uid, { limit: 2, iterator }))).length, 5);
    const after = new Date(Date.now() - 3_600_000);
    assert.equal((await svix.message.list(uid, { after, eventTypes: [type] })).data.length, 5);
    const whole = await svix.message.list(uid, { channel: "eu", withContent: true });
    assert.deepEqual(whole.data[0].payload, { n: 1 });
    await svix.message.expungeContent(uid, made.id);
  },
  async attempts() {
    statuses.push(500);
    const made = await svix.message.create(uid, { eventType: type, payload: { n: "fails" } });
    await verified(secret);
    const ofMessage = async () => (await svix.messageAttempt.listByMsg(uid, made.id)).data;
    const failed = await eventually(async () => (await ofMessage())[0]);
    assert.deepEqual([failed.status, failed.responseStatusCode, failed.endpointId], [2, 500, endpoint]);
    assert.equal((await svix.messageAttempt.get(uid, made.id, failed.id)).id, failed.id);
    const byEndpoint = await svix.messageAttempt.listByEndpoint(uid, endpoint, { status: 2 });
    assert.deepEqual(byEndpoint.data.map((attempt) => attempt.id), [failed.id]);
    const row = (await svix.messageAttempt.listAttemptedMessages(uid, endpoint)).data.find((one) => one.id === made.id);
    assert.equal(row.status, 3);
    const destinations = await svix.messageAttempt.listAttemptedDestinations(uid, made.id);
    assert.deepEqual(destinations.data.map((one) => one.id), [endpoint]);
    await svix.messageAttempt.resend(uid, made.id, endpoint);
    assert.deepEqual((await verified(secret)).payload, { n: "fails" });
    const resent = await eventually(async () => (await ofMessage()).find((attempt) => attempt.status === 0));
    assert.equal(resent.triggerType, 1);
    await svix.messageAttempt.expungeContent(uid, made.id, failed.id);
    const stats = await svix.endpoint.getStats(uid, endpoint);
    assert.ok(stats.success >= 6 && stats.fail === 1, JSON.stringify(stats));
  },
  async acting() {
    const example = await svix.endpoint.sendExample(uid, endpoint, { eventType: type });
    const { headers, payload } = await verified(secret);
    assert.deepEqual([payload, headers["svix-id"]], [{ id: 7 }, example.id]);
    const task = await svix.endpoint.recover(uid, endpoint, { since: new Date(Date.now() - 3_600_000) });
    assert.equal(task.status, "running");
    const since = new Date(Date.now() - 3_600_000);
    const missing = await svix.endpoint.replayMissing(uid, endpoint, { since });
    await eventually(async () => (await svix.backgroundTask.get(missing.id)).status === "finished");
    assert.equal((await svix.message.precheck(uid, { eventType: type })).active, true);
    const poller = svix.message.poller;
    const page = await poller.consumerPoll(uid, endpoint, "one");
    assert.ok(page.data.some((one) => one.id === example.id));
    const { iterator } = page;
    assert.deepEqual((await poller.consumerPoll(uid, endpoint, "one", { iterator })).data, []);
    const sought = await poller.consumerSeek(uid, endpoint, "one", { after: since });
    const again = await poller.consumerPoll(uid, endpoint, "one", { iterator: sought.iterator });
    assert.equal(again.data.length, page.data.length);
    const erased = await svix.application.create({ name: "erased" });
    const purge = await svix.message.expungeAllContents(erased.id);
    assert.equal(purge.task, "application.purge_content");
    await eventually(async () => (await svix.backgroundTask.get(purge.id)).status === "finished");
    await svix.application.delete(erased.id);
  },
  async portal() {
    const { token } = await svix.authentication.appPortalAccess(uid, {});
    const portal = new Svix(token, { serverUrl: url });
    assert.equal((await portal.application.get(uid)).uid, uid);
    await refused(403, () => portal.application.list());
    await refused(403, () => portal.message.create(uid, { eventType: type, payload: {} }));
    await portal.authentication.logout();
    await refused(401, () => portal.application.get(uid));
  },
  async operational() {
    const target = `http://127.0.0.1:${receiver.address().port}/in`;
    const api = svix.operationalWebhook.endpoint;
    const types = { [isSecond ? "eventTypes" : "filterTypes"]: ["endpoint.created"] };
    const made = await api.create({ url: target, uid: "ops-npm", ...types });
    assert.deepEqual(isSecond ? made.eventTypes : made.filterTypes, ["endpoint.created"]);
    assert.equal((await api.get("ops-npm")).id, made.id);
    assert.ok((await api.list()).data.some((one) => one.id === made.id));
    await api.rotateSecret(made.id, {});
    const { key } = await api.getSecret(made.id);
    const told = await svix.endpoint.create(uid, { url: target, channels: ["nowhere"] });
    const { payload } = await verified(key);
    assert.deepEqual([payload.type, payload.data.endpointId], ["endpoint.created", told.id]);
    await svix.endpoint.delete(uid, told.id);
    await api.delete(made.id);
    await refused(404, () => api.get(made.id));
  },
  async end() {
    await svix.health.get();
    await svix.application.delete(uid);
    await refused(404, () => svix.endpoint.list(uid));
  },
};

async function main() {
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  let failed = false;
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
      console.log(`ok      ${name}`);
    } catch (error) {
      failed = true;
      console.log(`FAILED  ${name}`);
      console.error(error);
    }
  }
  process.exit(failed ? 1 : 0);
}

await main();
