// Walks every webhook method of Dfns's npm SDK with its key signer, and checks each delivery by the vendor's rule. Called by
// vendor_sdks.sh with the daemon's URL and a key. The daemon lists the credential `cr-postrider` in dialects.dfns_credentials.

const assert = require('node:assert');
const crypto = require('node:crypto');
const http = require('node:http');
const { DfnsApiClient, DfnsDelegatedApiClient } = require('@dfns/sdk');
const { AsymmetricKeySigner } = require('@dfns/sdk-keysigner');

const [url, key] = process.argv.slice(2);

// A receiver that hands over its requests one by one.
async function receiver() {
    const seen = [];
    const waiting = [];
    const server = http.createServer((request, response) => {
        const parts = [];
        request.on('data', (part) => parts.push(part));
        request.on('end', () => {
            const found = { headers: request.headers, body: Buffer.concat(parts) };
            waiting.length > 0 ? waiting.shift()(found) : seen.push(found);
            response.end();
        });
    });
    await new Promise((listens) => server.listen(0, '127.0.0.1', listens));
    const next = () => (seen.length > 0 ? Promise.resolve(seen.shift()) : new Promise((comes) => waiting.push(comes)));
    return { url: `http://127.0.0.1:${server.address().port}/in`, next, close: () => server.close() };
}

// The rule of the vendor's page "Webhooks": HMAC-SHA256 over the body, with the text of the secret as the key.
function verify({ headers, body }, secret) {
    const expected = `sha256=${crypto.createHmac('sha256', secret).update(body).digest('hex')}`;
    assert.ok(crypto.timingSafeEqual(Buffer.from(headers['x-dfns-webhook-signature']), Buffer.from(expected)));
    return JSON.parse(body);
}

async function publish(type) {
    const response = await fetch(`${url}/v1/events`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ type, data: { n: 1 } }),
    });
    assert.strictEqual(response.status, 202);
}

async function dfns(hooks, target) {
    const body = { url: target.url, events: ['wallet.created'], description: 'books', status: 'Enabled' };
    const made = await hooks.createWebhook({ body });
    const webhookId = made.id;
    assert.deepStrictEqual([made.url, made.events, made.description], [target.url, ['wallet.created'], 'books']);
    await publish('wallet.created');
    assert.strictEqual(verify(await target.next(), made.secret).kind, 'wallet.created');
    assert.deepStrictEqual(await hooks.pingWebhook({ webhookId }), { status: '200' });
    verify(await target.next(), made.secret);
    const changed = await hooks.updateWebhook({ webhookId, body: { events: ['*'], status: 'Disabled' } });
    assert.deepStrictEqual([changed.events, changed.status, changed.description], [['*'], 'Disabled', 'books']);
    assert.strictEqual(changed.secret, undefined);
    assert.deepStrictEqual(await hooks.getWebhook({ webhookId }), changed);
    const { items } = await hooks.listWebhooks({ query: { limit: 10 } });
    assert.ok(items.some((row) => row.id === webhookId));
    const events = await hooks.listWebhookEvents({ webhookId, query: { kind: 'wallet.created' } });
    assert.strictEqual(events.items.length, 1);
    const webhookEventId = events.items[0].id;
    assert.strictEqual((await hooks.getWebhookEvent({ webhookId, webhookEventId })).deliveryFailed, false);
    assert.deepStrictEqual(await hooks.deleteWebhook({ webhookId }), { deleted: true });
    await assert.rejects(hooks.getWebhook({ webhookId }), /webhook not found/);
}

// The methods in two halves, for a signature elsewhere.
async function delegated(hooks, signer, target) {
    const both = async (name, request) => {
        const challenge = await hooks[`${name}Init`](request);
        const signedChallenge = { challengeIdentifier: challenge.challengeIdentifier, firstFactor: await signer.sign(challenge) };
        return hooks[`${name}Complete`](request, signedChallenge);
    };
    const made = await both('createWebhook', { body: { url: target.url, events: ['*'] } });
    const webhookId = made.id;
    const changed = await both('updateWebhook', { webhookId, body: { description: 'ledger' } });
    assert.strictEqual(changed.description, 'ledger');
    assert.strictEqual((await both('pingWebhook', { webhookId })).status, '200');
    verify(await target.next(), made.secret);
    assert.deepStrictEqual(await both('deleteWebhook', { webhookId }), { deleted: true });
}

async function main() {
    const { privateKey } = crypto.generateKeyPairSync('ed25519', {
        privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
        publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    const signer = new AsymmetricKeySigner({ credId: 'cr-postrider', privateKey });
    const options = { baseUrl: url, authToken: key };
    const target = await receiver();
    const walks = {
        dfns_writes: () => dfns(new DfnsApiClient({ ...options, signer }).webhooks, target),
        dfns_delegated_writes: () => delegated(new DfnsDelegatedApiClient(options).webhooks, signer, target),
    };
    let failed = 0;
    for (const [name, walk] of Object.entries(walks)) {
        try {
            await walk();
            console.log(`${name}: good`);
        } catch (error) {
            console.error(error);
            console.log(`${name}: FAILED`);
            failed = 1;
        }
    }
    target.close();
    return failed;
}

main().then((failed) => process.exit(failed));
