// Walks the webhook methods of sent.dm's and Dfns's npm SDKs that read. Called by vendor_sdks.sh with the daemon's URL and a
// key.

const assert = require('node:assert');
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
        body: JSON.stringify({ url: 'https://example.com/in' }),
    });
    assert.strictEqual(response.status, 201);
    const native = await response.json();
    let failed = 0;
    for (const walk of [sentdm, dfns]) {
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
