// Walks all webhook methods of sent.dm's npm SDK, and those of Dfns's that read. Called by vendor_sdks.sh with the daemon's
// URL and a key.

const assert = require('node:assert');
const crypto = require('node:crypto');
const http = require('node:http');
const { Sent } = require('@sentdm/sentdm');
const { DfnsApiClient } = require('@dfns/sdk');

const [url, key] = process.argv.slice(2);

async function sentdm(native) {
    const client = new Sent({ apiKey: key, baseURL: url, maxRetries: 0 });
    // The SDK sends null as an empty value.
    const listed = await client.webhooks.list({ page: 1, page_size: 20, search: null, is_active: null });
    assert.deepStrictEqual(listed.data.webhooks.map((row) => row.id), [native.id]);
    assert.strictEqual((await client.webhooks.retrieve(native.id)).data.endpoint_url, native.url);
    const events = await client.webhooks.listEvents(native.id, { page: 1, page_size: 20, search: null });
    assert.deepStrictEqual(events.data.events, []);
    assert.ok((await client.webhooks.listEventTypes()).data.event_types.length > 0);
}

// The rule of sent.dm's node for n8n: one `v1,` and base64, nothing else.
function sentAccepts(secret, headers, body) {
    const given = /^v1,([A-Za-z0-9+/]+={0,2})$/.exec(headers['x-webhook-signature']);
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
    const signed = `${headers['x-webhook-id']}.${headers['x-webhook-timestamp']}.${body}`;
    const right = crypto.createHmac('sha256', key).update(signed).digest('base64');
    const age = Math.abs(Date.now() / 1000 - Number(headers['x-webhook-timestamp']));
    const event = JSON.parse(body);
    return given?.[1] === right && age <= 300 && headers['x-webhook-event-type'] === event.sub_type;
}

// A receiver that takes everything. `next` is the next request.
async function startReceiver() {
    const came = [];
    const waiting = [];
    const server = http.createServer(async (request, response) => {
        const parts = [];
        for await (const part of request) parts.push(part);
        const taken = { headers: request.headers, body: Buffer.concat(parts).toString() };
        response.end();
        waiting.length > 0 ? waiting.shift()(taken) : came.push(taken);
    });
    await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
    const next = () => (came.length > 0 ? came.shift() : new Promise((resolve) => waiting.push(resolve)));
    return { url: `http://127.0.0.1:${server.address().port}/in`, next };
}

async function publish(type, data) {
    const response = await fetch(`${url}/v1/events`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ type, data }),
    });
    assert.strictEqual(response.status, 202);
}

// The native webhook has another type, so it gets none of these events.
async function sentdmWrites() {
    const { webhooks } = new Sent({ apiKey: key, baseURL: url, maxRetries: 0 });
    const receiver = await startReceiver();
    const fields = {
        display_name: 'n8n',
        endpoint_url: receiver.url,
        event_types: ['message', 'template'],
        event_filters: { message: ['delivered', 'read'] },
        retry_count: 2,
        timeout_seconds: 30,
    };
    const made = (await webhooks.create({ ...fields, 'Idempotency-Key': 'n8n-1' })).data;
    assert.strictEqual((await webhooks.create({ ...fields, 'Idempotency-Key': 'n8n-1' })).data.id, made.id);
    const read = (await webhooks.retrieve(made.id)).data;
    for (const [name, value] of Object.entries(fields)) assert.deepStrictEqual(read[name], value, name);
    const accepted = async (secret) => {
        const { headers, body } = await receiver.next();
        assert.ok(sentAccepts(secret, headers, body), body);
    };
    await publish('message.delivered', { n: 1 });
    await accepted(made.signing_secret);
    const rotated = (await webhooks.rotateSecret(made.id, {})).data.signing_secret;
    await publish('template.approved', { n: 2 });
    await accepted(rotated);
    const tested = (await webhooks.test(made.id, { event_type: 'message.read' })).data;
    assert.strictEqual(tested.success, true);
    await accepted(rotated);
    const changed = (await webhooks.update(made.id, { ...fields, event_filters: null })).data;
    assert.strictEqual(changed.event_filters, null);
    assert.strictEqual((await webhooks.toggleStatus(made.id, { is_active: false })).data.is_active, false);
    await webhooks.delete(made.id);
    await assert.rejects(webhooks.retrieve(made.id), { status: 404 });
}

async function dfns(native) {
    const client = new DfnsApiClient({ baseUrl: url, authToken: key });
    const { items } = await client.webhooks.listWebhooks({ query: { limit: 10 } });
    assert.deepStrictEqual(items.map((row) => row.url), [native.url]);
    const webhookId = items[0].id;
    assert.strictEqual((await client.webhooks.getWebhook({ webhookId })).status, 'Enabled');
    const events = await client.webhooks.listWebhookEvents({ webhookId, query: { deliveryFailed: undefined } });
    assert.deepStrictEqual(events.items, []);
}

async function main() {
    const response = await fetch(`${url}/v1/webhooks`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ url: 'https://example.com/in', event_types: ['unused'] }),
    });
    assert.strictEqual(response.status, 201);
    const native = await response.json();
    let failed = 0;
    for (const walk of [sentdm, sentdmWrites, dfns]) {
        try {
            await walk(native);
            console.log(`${walk.name}: good`);
        } catch (error) {
            console.error(error);
            console.log(`${walk.name}: FAILED`);
            failed = 1;
        }
    }
    return failed;
}

main().then((failed) => process.exit(failed));
