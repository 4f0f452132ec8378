// The flows of browser.sh in a headless Chromium. The last ones check every page by axe-core, in both colour schemes, in
// forced colours, and at several widths. A console message, a page error or a scroll bar to the side fails a flow.
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_FOLDER}/package.json`);
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { URL_OF_DAEMON: daemon, KEY: key, CHROMIUM: executablePath } = process.env;
const only = process.argv[2] ?? "";
const base = `${daemon}/ui/`;

// A receiver on this machine, whose answer changes.
const answers = { status: 200, headers: {} };
const receiver = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    response.writeHead(request.url === "/broken" ? 503 : answers.status, { "content-type": "application/json", ...answers.headers });
    response.end(JSON.stringify({ said: `</pre><script>alert(${answers.status})</script>` }));
  });
}).listen(0, "127.0.0.1");
await new Promise((ready) => receiver.once("listening", ready));
const receiverUrl = `http://127.0.0.1:${receiver.address().port}/`;

async function api(method, path, body) {
  const answer = await fetch(daemon + path, {
    method,
    headers: { authorization: `Bearer ${key}`, ...(body ? { "content-type": "application/json" } : {}) },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}
const webhook = (name, more = {}) => api("POST", "/v1/webhooks", { name, url: receiverUrl, ...more });
const publish = (type, event_id) => api("POST", "/v1/events", { type, event_id, data: { id: 1, "<b>": "</td>" } });
async function until(what, look) {
  for (let tries = 0; tries < 300; tries += 1) {
    const found = await look();
    if (found) return found;
    await new Promise((next) => setTimeout(next, 100));
  }
  throw new Error(`never happened: ${what}`);
}
const deliveries = async (query) => (await api("GET", `/v1/deliveries?${query}`)).data;

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const problems = [];
async function newPage(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  // A machine with other suites on it may hold a tab up for longer than the usual 30 seconds.
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  // Chromium reports the data that it clears at a logout.
  const allowed = ["Clear-Site-Data", ...(options.allowed ?? [])];
  page.on("console", (message) => {
    if (!allowed.some((text) => message.text().includes(text))) problems.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`${page.url()}: ${error.message}`));
  // Almost every click leads to a page. The next step is for that page.
  const click = page.click.bind(page);
  page.click = async (selector) => {
    const navigated = page.waitForEvent("framenavigated", { timeout: 3000 }).catch(() => {});
    await click(selector);
    await navigated;
    await page.waitForLoadState();
  };
  return page;
}
// The daemon takes ten tries a minute from one address, so the flows share a session of each key and address.
const sessions = new Map();
async function logIn(page, text = key, at = base) {
  const name = `${at} ${text}`;
  if (sessions.has(name)) {
    await page.context().addCookies(sessions.get(name));
    await page.goto(at);
    return;
  }
  await page.goto(`${at}login`);
  await page.fill("#key", text);
  await page.click("button[type=submit]");
  await page.waitForSelector("h1:text-is('Overview')");
  sessions.set(name, await page.context().cookies());
}
// A page that a click has asked for may still be on its way.
const shows = (page, text) => page.locator("main").filter({ hasText: text }).waitFor();
const press = (page, words) => page.click(`main button:text-is("${words}"), main a.btn:text-is("${words}")`);

const app = (uid) => api("POST", "/v1/apps", { name: uid, uid });
const portalLink = (app_id) => api("POST", "/v1/portal-links", { app_id, return_url: "https://app.example/" });
const WIDTHS = [320, 390, 820, 1280];
const COLOURS = [
  { colorScheme: "light", forcedColors: "none" },
  { colorScheme: "dark", forcedColors: "none" },
  { colorScheme: "light", forcedColors: "active" },
];
// The faults that axe-core finds on the page that is shown. Only violations are gathered, which is most of its time.
const faults = (page) => page.evaluate(async () => {
  const runOnly = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const { violations } = await globalThis.axe.run(document, { runOnly, resultTypes: ["violations"] });
  return violations.map((one) => `${one.id} ${one.nodes[0].html.slice(0, 160)}`);
});
// A page at every width in every set of colours. It is loaded once: both are the style sheet's alone.
async function checkPage(page, path) {
  await page.emulateMedia(COLOURS[0]);
  await page.goto(base + path);
  await page.evaluate(axe);
  for (const colours of COLOURS) {
    await page.emulateMedia(colours);
    const name = colours.forcedColors === "active" ? "forced" : colours.colorScheme;
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      if (wide > width) problems.push(`${path} is ${wide} px wide at ${width}, ${name}`);
      problems.push(...(await faults(page)).map((one) => `${path} at ${width}, ${name}: ${one}`));
      if (process.env.PICTURES) {
        const file = path.replace(/[^a-z-]+/g, "_");
        await page.screenshot({ path: `${process.env.PICTURES}/${file}-${width}-${name}.png` });
      }
    }
  }
}
// Every page, in as many tabs as there are processors, after `enter` has let the browser in.
async function checked(paths, enter) {
  const left = [...paths];
  await Promise.all(Array.from({ length: Math.min(4, os.availableParallelism()) }, async () => {
    const page = await newPage({ bypassCSP: true });
    await enter(page);
    for (let path = left.shift(); path !== undefined; path = left.shift()) await checkPage(page, path);
  }));
}

const flows = {
  async "log in with a wrong key, then with the right one, and back to the page that was asked for"() {
    const page = await newPage({ allowed: ["401 (Unauthorized)"] });
    await page.goto(`${base}deliveries?status=failed&last=24h`);
    await page.fill("#key", "pr_wrong");
    await page.click("button[type=submit]");
    await shows(page, "There is no such key");
    await page.fill("#key", key);
    await page.click("button[type=submit]");
    assert.equal(page.url(), `${base}deliveries?status=failed&last=24h`);
  },
  async "after logging out the back button shows nothing"() {
    const page = await newPage();
    await logIn(page);
    await page.goto(`${base}webhooks`);
    await page.click("text=Log out");
    await shows(page, "You are logged out.");
    await page.goBack();
    assert.ok(page.url().includes("login"), page.url());
  },
  async "a link from another site arrives logged in"() {
    const page = await newPage();
    await logIn(page);
    const other = http.createServer((_, response) => {
      response.writeHead(200, { "content-type": "text/html" });
      response.end(`<!doctype html><link rel=icon href="data:,"><a href="${base}webhooks">here</a>`);
    }).listen(0, "127.0.0.1");
    await new Promise((ready) => other.once("listening", ready));
    await page.goto(`http://localhost:${other.address().port}/`);
    await page.click("a");
    await page.waitForSelector("h1:text-is('Webhooks')");
    other.close();
  },
  async "a proxy may add a prefix"() {
    const { port } = new URL(daemon);
    const proxy = http.createServer((request, response) => {
      const path = request.url.replace(/^\/ops\/postrider/, "");
      const onward = http.request({ port, path, method: request.method, headers: request.headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      request.pipe(onward);
    }).listen(0, "127.0.0.1");
    await new Promise((ready) => proxy.once("listening", ready));
    await webhook("under-a-prefix");
    const page = await newPage();
    const under = `http://127.0.0.1:${proxy.address().port}/ops/postrider/ui/`;
    await logIn(page, key, under);
    assert.equal(page.url(), under);
    await page.click("nav >> text=Webhooks");
    await page.click("main tbody a.key");
    assert.ok(page.url().startsWith(`${under}webhooks/`));
    proxy.close();
  },
  async "a failing receiver is found, understood, tested, and its backlog sent in few clicks"() {
    answers.status = 503;
    const { id } = await webhook("night", { event_types: ["night.*"], retry_schedule_s: [3600, 3600] });
    for (let n = 0; n < 4; n += 1) await publish("night.work", `night-${n}`);
    await until("failures", async () => (await deliveries(`webhook_id=${id}&status=retrying`)).length >= 2);
    const page = await newPage();
    await logIn(page);
    await shows(page, "night: 503 Service Unavailable");
    await page.click("main .needs a:text-is('night')");
    await shows(page, "No attempt has succeeded since");
    answers.status = 200;
    await press(page, "Send a test");
    await shows(page, "The test arrived.");
    await page.click("main button:has-text('Send what waits now')");
    await shows(page, "The same deliveries become due at once.");
    await page.click("main button:has-text('Send ')");
    await page.waitForURL(/replays\/[0-9a-f-]{36}/);
    await until("all arrive", async () => (await deliveries(`webhook_id=${id}&status=delivered`)).length === 4);
  },
  async "pause and resume"() {
    const { id } = await webhook("held");
    const page = await newPage();
    await logIn(page);
    await page.goto(`${base}webhooks/${id}`);
    await press(page, "Pause");
    await shows(page, "Paused. What is published waits");
    await page.goto(base);
    await page.click("main .needs button:text-is('Resume')");
    await shows(page, "Resumed.");
    assert.equal((await api("GET", `/v1/webhooks/${id}`)).status, "enabled");
  },
  async "find by event_id and by id"() {
    const { id } = await publish("found.one", "found-4711");
    const page = await newPage();
    await logIn(page);
    await page.keyboard.press("/");
    await page.keyboard.type("found-4711");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${base}events/${id}`);
    await page.fill("input[name=q]", id);
    await page.press("input[name=q]", "Enter");
    await page.waitForURL(`${base}events/${id}`);
  },
  async "filters are in the address, and survive a reload"() {
    const page = await newPage();
    await logIn(page);
    await page.goto(`${base}deliveries`);
    await page.selectOption("select[name=last]", "1h");
    await page.waitForURL(/last=1h/);
    await page.click("main nav >> text=Delivered");
    await page.reload();
    assert.match(page.url(), /last=1h.*status=delivered/);
    assert.equal(await page.getAttribute("main nav a[aria-current]", "href"), "?last=1h&status=delivered");
    await page.goBack();
    assert.doesNotMatch(page.url(), /status/);
  },
  async "chosen deliveries and all of a filter are sent again"() {
    answers.status = 422;
    const { id } = await webhook("again", { event_types: ["again.*"], retry_schedule_s: [] });
    for (let n = 0; n < 3; n += 1) await publish("again.work", `again-${n}`);
    await until("failures", async () => (await deliveries(`webhook_id=${id}&status=failed`)).length === 3);
    answers.status = 200;
    const page = await newPage();
    await logIn(page);
    await page.goto(`${base}deliveries?status=failed&webhook=${id}`);
    await page.check("tbody tr:first-child input[type=checkbox]");
    await shows(page, "Send the chosen again (1)…");
    await press(page, "Send the chosen again");
    await shows(page, "Nothing has been sent yet");
    assert.equal((await deliveries(`webhook_id=${id}`)).length, 3, "a question sends nothing");
    await press(page, "Send 1 delivery again");
    await shows(page, "The chosen deliveries are due now.");
    await until("one arrives", async () => (await deliveries(`webhook_id=${id}&status=delivered`)).length === 1);
    await page.goto(`${base}deliveries?status=failed&webhook=${id}`);
    await page.click("main a.btn:text-matches('^Send all [0-9]+ again…$')");
    await page.fill("#rate", "");
    await press(page, "Count first");
    await shows(page, "Nothing has been sent yet");
    await page.click("main button:has-text('Send ')");
    await page.waitForURL(/replays\/[0-9a-f-]{36}/);
    await until("all arrive", async () => (await deliveries(`webhook_id=${id}&status=delivered`)).length >= 3);
  },
  async "a webhook is made with mistakes, then right; its secret is rotated and revealed"() {
    const page = await newPage({ allowed: ["422 (Unprocessable"] });
    await logIn(page);
    await page.goto(`${base}webhooks/new`);
    await page.fill("#url", "ftp://nowhere");
    await press(page, "Save");
    await shows(page, "Nothing was saved: 1 value is wrong.");
    await page.fill("#url", receiverUrl);
    await page.fill("#name", "made-here");
    await press(page, "Save");
    await shows(page, "made-here is made");
    await press(page, "Open");
    await page.click("text=Rotate…");
    await press(page, "Rotate");
    await shows(page, "Old");
    await press(page, "Back");
    await press(page, "Reveal");
    await shows(page, "whsec_");
    await page.goto(`${base}audit?action=webhook.read_secret`);
    await shows(page, "webhook.read_secret");
  },
  async "live goes on, and stands still under the pointer"() {
    await webhook("live-one", { event_types: ["live.*"] });
    const page = await newPage();
    await logIn(page);
    await page.goto(`${base}live`);
    await publish("live.first");
    await page.waitForSelector("tbody >> text=live.first");
    await page.hover("table");
    await publish("live.second");
    await page.waitForSelector("[data-live-more]:visible");
    assert.equal(await page.locator("tbody >> text=live.second").count(), 0);
    await page.locator("[data-live-more]").click();
    await page.waitForSelector("tbody >> text=live.second");
  },
  async "by the keyboard alone"() {
    const page = await newPage();
    await logIn(page);
    for (const [letter, heading] of [["d", "Deliveries"], ["w", "Webhooks"], ["e", "Events"], ["o", "Overview"]]) {
      await page.keyboard.press("g");
      await page.keyboard.press(letter);
      await page.waitForSelector(`h1:text-is('${heading}')`);
    }
    await page.goto(`${base}deliveries`);
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.waitForURL(/deliveries\/[0-9a-f-]{36}/);
  },
  async "the keys are listed, send again after a question, and can be switched off"() {
    answers.status = 422;
    const { id } = await webhook("by-key", { event_types: ["key.*"], retry_schedule_s: [] });
    await publish("key.work", "by-key-1");
    await until("a failure", async () => (await deliveries(`webhook_id=${id}&status=failed`)).length === 1);
    answers.status = 200;
    const page = await newPage();
    await logIn(page);
    await page.goto(`${base}deliveries?status=failed&webhook=${id}`);
    await page.keyboard.press("j");
    await page.keyboard.press("x");
    await shows(page, "Send the chosen again (1)");
    await page.keyboard.press("r");
    await shows(page, "Nothing has been sent yet");
    assert.equal((await deliveries(`webhook_id=${id}`)).length, 1, "a question sends nothing");
    await press(page, "Send 1 delivery again");
    await shows(page, "The chosen deliveries are due now.");
    await until("it arrives", async () => (await deliveries(`webhook_id=${id}&status=delivered`)).length === 1);
    await page.keyboard.press("?");
    await page.waitForSelector("h1:text-is('Keys')");
    await page.locator("button:text-is('Switch the keys off')").click();
    await page.keyboard.press("g");
    await page.keyboard.press("d");
    await page.locator("button:text-is('Switch the keys on')").click();
    await page.keyboard.press("g");
    await page.keyboard.press("d");
    await page.waitForSelector("h1:text-is('Deliveries')");
  },
  async "without scripts"() {
    const { id } = await webhook("scriptless");
    const page = await newPage({ javaScriptEnabled: false });
    await logIn(page);
    await page.goto(`${base}deliveries`);
    await page.selectOption("select[name=outcome]", "2xx");
    await press(page, "Filter");
    assert.match(page.url(), /outcome=2xx/);
    await page.click("tbody a.key >> nth=0");
    await press(page, "Send again");
    await shows(page, "It is due now.");
    await page.goto(`${base}webhooks/${id}`);
    await press(page, "Pause");
    await shows(page, "Paused.");
    await page.click("text=Log out");
  },
  async "a key that only reads sees nothing to press"() {
    const made = await api("POST", "/v1/keys", { name: "reader", scopes: ["events:read", "webhooks:read"] });
    const page = await newPage();
    await logIn(page, made.key);
    for (const path of ["", "webhooks", "deliveries", "events"]) {
      await page.goto(base + path);
      assert.equal(await page.locator("main form[method=post]").count(), 0, path);
    }
    await api("DELETE", `/v1/keys/${made.id}`);
    await page.goto(base);
    assert.ok(page.url().includes("login"), "a revoked key ends its sessions");
  },
  async "live goes on after the server was not reachable"() {
    await webhook("live-two", { event_types: ["live.again", "live.back"] });
    const page = await newPage({ allowed: ["net::ERR"] });
    await logIn(page);
    await page.goto(`${base}live`);
    await page.context().setOffline(true);
    // The request that waits at the server is let through, so something has to end it.
    await publish("live.again", "live-offline");
    await page.waitForSelector("[data-live-state]:text-is('Not reachable, trying again')");
    await page.context().setOffline(false);
    await publish("live.back");
    await page.waitForSelector("tbody >> text=live.back");
  },
  async "a tenant enters the portal by a link, makes a webhook, and sends again"() {
    const { id, uid } = await app("portal-one");
    const foreign = await webhook("of-others");
    await publish("of.others");
    const [other] = await until("a delivery of others", async () => {
      const rows = await deliveries("status=delivered");
      return rows.length > 0 && rows;
    });
    const page = await newPage({ allowed: ["404 (Not Found)", "422 (Unprocessable"] });
    await page.goto((await portalLink(uid)).url);
    await page.waitForURL(`${base}portal/`);
    await page.click("text=Add a webhook");
    await page.fill("#url", "ftp://nowhere");
    await press(page, "Save");
    await shows(page, "Nothing was saved: 1 value is wrong.");
    await page.fill("#url", receiverUrl);
    await page.fill("#name", "of-tenant");
    await press(page, "Save");
    await shows(page, "of-tenant is made");
    await api("POST", "/v1/events", { type: "portal.one", app_id: id, data: {} });
    const [own] = await until("a delivery", async () => {
      const rows = await deliveries("type=portal.one&status=delivered");
      return rows.length > 0 && rows;
    });
    await page.goto(`${base}portal/deliveries/${own.id}`);
    await press(page, "Send again");
    await shows(page, "It is due now.");
    for (const path of [`webhooks/${foreign.id}`, `deliveries/${other.id}`, "audit", "system"]) {
      assert.equal((await page.goto(`${base}portal/${path}`)).status(), 404, path);
    }
    await page.goto(`${base}portal/`);
    await page.click("text=Leave");
    await shows(page, "You have left the portal");
  },
  async "a portal link that was revoked opens nothing, and ends what it began"() {
    const { uid } = await app("portal-two");
    const link = await portalLink(uid);
    const page = await newPage({ allowed: ["403 (Forbidden)", "401 (Unauthorized)"] });
    await page.goto(link.url);
    await page.waitForURL(`${base}portal/`);
    await api("DELETE", `/v1/portal-links/${link.id}`);
    await page.reload();
    await shows(page, "your access has ended");
    await page.goto(link.url);
    await shows(page, "This link does not open the portal any more");
  },
  async "the portal has no fault that axe-core finds, and nothing scrolls sideways"() {
    const { id, uid } = await app("portal-three");
    const hook = await webhook("portal-hook", { app_id: id });
    await api("POST", "/v1/events", { type: "portal.three", app_id: id, data: {} });
    const [own] = await until("a delivery", async () => {
      const rows = await deliveries("type=portal.three&status=delivered");
      return rows.length > 0 && rows;
    });
    const paths = ["", "webhooks", "webhooks/new", `webhooks/${hook.id}`, `webhooks/${hook.id}/edit`, "deliveries",
      `deliveries/${own.id}`, "event-types", "help", "shortcuts", "replays", `replays/new?webhook=${hook.id}&status=waiting`];
    await checked(paths.map((path) => `portal/${path}`), async (page) => {
      // A link opens the portal for five minutes only, and a busy machine needs longer for the first colours.
      await page.goto((await portalLink(uid)).url);
      await page.waitForURL(`${base}portal/`);
    });
  },
  async "axe-core finds nothing, and nothing scrolls sideways"() {
    const rows = (await api("GET", "/v1/webhooks")).data;
    const [delivery] = await deliveries("status=delivered");
    const [event] = (await api("GET", "/v1/events")).data;
    const paths = ["", "webhooks", "webhooks/new", `webhooks/${rows[0].id}`, `webhooks/${rows[0].id}/edit`,
      `webhooks/${rows[0].id}/delete`, "deliveries", "deliveries?status=failed", `deliveries/${delivery.id}`, "events",
      "events/new", `events/${event.id}`, "live", "replays", "replays/new", "find?q=a", "apps",
      `apps/${rows[0].app_id}`, "keys", "audit", "system", "shortcuts", "deliveries?status=failed&search=no-such&last=1h", "?last=1h", "?last=31d", `webhooks/${rows[0].id}?last=7d`];
    await checked(paths, logIn);
  },
  async "pictures of the readme"() {
    const folder = process.env.PICTURES_OF_README;
    if (!folder) return;
    const types = ["order.paid", "order.shipped", "invoice.created", "customer.updated"];
    for (const name of ["crm", "billing", "warehouse-eu"]) await webhook(name, { event_types: ["order.*", "invoice.*"] });
    const more = { url: `${receiverUrl}broken`, event_types: ["order.*"], retry_schedule_s: [60, 300, 1800] };
    const erp = await webhook("erp-invoices", more);
    for (let n = 0; n < 40; n += 1) await publish(types[n % types.length], `order-${4711 + n}`);
    await until("failures", async () => (await deliveries(`webhook_id=${erp.id}&status=retrying`)).length >= 5);
    await until("the others", async () => (await deliveries("status=delivered&limit=50")).length >= 50);
    for (const colorScheme of ["light", "dark"]) {
      const page = await newPage({ colorScheme, viewport: { width: 1280, height: 800 }, timezoneId: "UTC" });
      await logIn(page);
      for (const [name, path] of [["overview", "?last=1h"], ["webhook", `webhooks/${erp.id}?last=1h`]]) {
        await page.goto(base + path);
        await page.screenshot({ path: `${folder}/pages-${name}-${colorScheme}.png` });
      }
    }
  },
};

let failed = 0;
for (const [name, flow] of Object.entries(flows)) {
  if (!name.includes(only)) continue;
  problems.length = 0;
  answers.status = 200;
  try {
    await flow();
    assert.deepEqual(problems, []);
    console.log(`ok: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}\n  ${error.message}`);
  }
  for (const context of browser.contexts()) await context.close();
}
await browser.close();
receiver.close();
process.exit(failed === 0 ? 0 : 1);
