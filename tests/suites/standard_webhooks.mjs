// A receiver with the official npm library: every request that Postrider sends verifies, and encrypted ones open.
//
// Usage: node standard_webhooks.mjs URL KEY. Exits with 1 if anything was not as it should be.

import { createHmac, createPublicKey, verify } from "node:crypto";
import { createServer } from "node:http";
import { compactDecrypt } from "jose";
import { Webhook } from "standardwebhooks";

const [url, key] = process.argv.slice(2);
const PATIENCE_MS = 60_000;
let [passed, failed, made] = [0, 0, 0];

/** The requests by path, the waiting readers, and the next answers. */
const paths = new Map();

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const place = paths.get(request.url.split("?")[0]);
  response.writeHead(place.statuses.shift() ?? 200).end();
  const came = { headers: request.headers, body: Buffer.concat(chunks) };
  const waiting = place.waiting.shift();
  if (waiting) waiting(came);
  else place.came.push(came);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

async function call(method, path, body) {
  const headers = { authorization: `Bearer ${key}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(url + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

/** A webhook of the daemon that points here, for events of its own type. */
async function hook({ statuses = [], ...fields } = {}) {
  made += 1;
  const [path, type] = [`/node/${made}`, `node.n${made}`];
  const place = { statuses, came: [], waiting: [] };
  paths.set(path, place);
  const here = `http://127.0.0.1:${server.address().port}${path}`;
  const webhook = await call("POST", "/v1/webhooks", { url: here, event_types: [type], ...fields });
  const next = () =>
    new Promise((come, fail) => {
      if (place.came.length > 0) return come(place.came.shift());
      const late = setTimeout(() => fail(new Error(`nothing came to ${path}`)), PATIENCE_MS);
      place.waiting.push((request) => (clearTimeout(late), come(request)));
    });
  const send = async (data) => {
    await call("POST", "/v1/events", { type, data });
    return next();
  };
  return { secret: webhook.secret, api: `/v1/webhooks/${webhook.id}`, send, next };
}

function check(what, ok) {
  if (ok) passed += 1;
  else {
    failed += 1;
    console.error(`NOT OK: ${what}`);
  }
}

function verifies(secret, { headers, body }) {
  try {
    new Webhook(secret).verify(body.toString(), headers, { jsonParse: false });
    return true;
  } catch {
    return false;
  }
}

async function payloads() {
  const to = await hook();
  for (const data of [{ id: 42 }, {}, [], null, "", "zażółć gęślą jaźń 🦆", { n: 1.5, deep: [[{ a: null }]] }, "x".repeat(200_000)]) {
    const came = await to.send(data);
    const payload = new Webhook(to.secret).verify(came.body.toString(), came.headers);
    check(`payload ${JSON.stringify(data).slice(0, 40)}`, JSON.stringify(payload.data) === JSON.stringify(data));
    check("a changed body does not verify", !verifies(to.secret, { ...came, body: Buffer.concat([came.body, Buffer.from(" ")]) }));
  }
}

async function shapes() {
  const form = "application/x-www-form-urlencoded";
  const all = [{ method: "put" }, { method: "patch" }, { method: "get" }, { method: "delete" }, { content_type: form }];
  for (const field_set of ["raw", "legacy", "dfns", "sent", "flat"]) all.push({ field_set });
  for (const fields of all) {
    const to = await hook(fields);
    check(JSON.stringify(fields), verifies(to.secret, await to.send({ id: 42, to: "ann@example.com" })));
  }
}

async function retries() {
  const to = await hook({ statuses: [500], retry_schedule_s: [1] });
  const [first, second] = [await to.send(1), await to.next()];
  check("both attempts verify", verifies(to.secret, first) && verifies(to.secret, second));
  check("one id", first.headers["webhook-id"] === second.headers["webhook-id"]);
}

async function rotation() {
  const given = `whsec_${Buffer.alloc(24, 7).toString("base64")}`;
  const to = await hook({ secret: given });
  check("the given secret", verifies(given, await to.send(1)));
  const second = (await call("POST", `${to.api}/rotate-secret`, {})).secret;
  let came = await to.send(2);
  check("old and new verify in the overlap", verifies(given, came) && verifies(second, came));
  const third = (await call("POST", `${to.api}/rotate-secret`, { overlap_s: 0 })).secret;
  came = await to.send(3);
  check("without an overlap only the newest does", verifies(third, came) && !verifies(given, came) && !verifies(second, came));
}

/** RFC 5869 with SHA-256, no salt, one block. */
function hkdf(secret, info) {
  const extracted = createHmac("sha256", Buffer.alloc(32)).update(Buffer.from(secret.slice(6), "base64")).digest();
  return createHmac("sha256", extracted).update(Buffer.concat([Buffer.from(info), Buffer.from([1])])).digest();
}

async function encrypted() {
  const to = await hook({ encrypted: true });
  const came = await to.send({ id: 42, duck: "🦆" });
  check("the signature covers the JWE", verifies(to.secret, came));
  const { plaintext, protectedHeader } = await compactDecrypt(came.body.toString(), hkdf(to.secret, "postrider jwe v1"));
  check("jose opens it", JSON.parse(new TextDecoder().decode(plaintext)).data.duck === "🦆");
  check("its header", protectedHeader.alg === "dir" && protectedHeader.enc === "A256GCM");
}

async function publicKeys() {
  const to = await hook({ signature: ["standard", "ed25519"] });
  const { headers, body } = await to.send({ id: 42 });
  const { keys } = await call("GET", `${to.api}/public-keys`);
  const signed = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`), body]);
  const signature = headers["webhook-signature"].split(" ").find((part) => part.startsWith("v1a,")).slice(4);
  const good = keys.filter((jwk) => verify(null, signed, createPublicKey({ key: jwk, format: "jwk" }), Buffer.from(signature, "base64")));
  check("the served key verifies", keys.length === 1 && good.length === 1);
  check("the library passes over v1a", verifies(to.secret, { headers, body }));
}

try {
  for (const suite of [payloads, shapes, retries, rotation, encrypted, publicKeys]) await suite();
} catch (error) {
  check(error.stack, false);
}
console.log(`node: ${passed} passed, ${failed} failed`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
