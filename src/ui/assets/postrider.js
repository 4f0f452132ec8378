// The module of the pages. Everything works without it.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);

// Times in UTC become local ones.
const today = new Date().toDateString();
const two = (number) => String(number).padStart(2, "0");
function local(root) {
  for (const time of all("time[datetime]", root)) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    time.title = `${time.dateTime.slice(0, 10)} ${time.dateTime.slice(11, 23)} UTC`;
    const { age, precision } = time.dataset;
    if (age !== undefined) continue;
    const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
    const seconds = /min|day/.test(precision) ? "" : `:${two(at.getSeconds())}`;
    const ms = precision === "ms" ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "";
    const isToday = precision !== "day" && (at.toDateString() === today || precision === "min");
    const date = isToday ? "" : `${at.getDate()} ${at.toLocaleString("en", { month: "short" })} `;
    time.textContent = date + clock + seconds + ms;
  }
}
local(document);
const zone = one("[data-zone]");
if (zone) zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone || "Local time";

// A pressed button is disabled.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  setTimeout(() => { if (button) { button.disabled = true; button.ariaBusy = "true"; } }, 0);
});
// A page of the browser's memory is read anew.
onpageshow = (event) => event.persisted && location.reload();

// Keys pass a filter's values one by one, and Filter sends it. Any other choice is sent at once.
let typed;
onkeydown = onpointerdown = ({ type, target }) => { typed = type === "keydown" && target; };
onchange = ({ target }) => target !== typed && target.matches(".filters select") && target.form.requestSubmit();
// A strip may be too wide.
one(".nav [aria-current]")?.scrollIntoView({ block: "nearest" });

// Secrets and ids can be copied.
if (navigator.clipboard) for (const code of all("code[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn small";
  button.textContent = "Copy";
  button.onclick = async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  };
  code.after(" ", button);
}

// A running replay shows its progress.
const again = one("[data-reload]");
if (again) setTimeout(() => document.hidden || location.reload(), Number(again.dataset.reload) * 1000);

// A page older than a minute says so, but for the live one.
const loaded = Date.now();
if (one(".frame") && !one("[data-live]")) {
  const stale = document.createElement("p");
  stale.className = "muted";
  stale.role = "status";
  one("main").append(stale);
  setInterval(() => {
    const minutes = Math.floor((Date.now() - loaded) / 60000);
    if (minutes > 0) stale.textContent = `This page is ${minutes} min old.`;
  }, 15000);
}

// Live: asks for newer rows, and stands still while the list is used.
const live = one("[data-live]");
if (live) {
  const body = live.tBodies[0];
  const said = one("[data-live-state]"), pause = one("[data-live-pause]"), more = one("[data-live-more]");
  let newest = live.dataset.live, isPaused = false, isHeld = false, waiting = [];
  const isStill = () => isPaused || isHeld || live.contains(document.activeElement) || scrollY > 200
    || String(getSelection()).length > 0;
  const show = () => {
    if (waiting.length) one("[data-live-none]")?.remove();
    body.prepend(...waiting);
    waiting = [];
    more.hidden = true;
    while (body.rows.length > 200) body.lastElementChild.remove();
  };
  live.onpointerenter = () => { isHeld = true; };
  live.onpointerleave = () => {
    isHeld = false;
    setTimeout(() => { if (!isStill() && !more.matches(":hover")) show(); }, 1000);
  };
  more.onclick = show;
  pause.hidden = false;
  pause.onclick = () => {
    isPaused = !isPaused;
    pause.ariaPressed = isPaused;
    pause.textContent = isPaused ? "Go on" : "Pause";
    said.textContent = isPaused ? "Paused" : "Following";
    if (!isPaused) show();
  };
  const rest = (ms) => new Promise((next) => setTimeout(next, ms));
  // A page that is left gives up its request.
  let request = new AbortController();
  const seen = () => document.hidden
    ? new Promise((next) => document.addEventListener("visibilitychange", next, { once: true }))
    : null;
  document.onvisibilitychange = () => { if (document.hidden) request.abort(); };
  const look = async () => {
    const query = new URLSearchParams(live.dataset.query);
    query.set("after", newest);
    query.set("wait_s", 25);
    request = new AbortController();
    const answer = await fetch(`live-rows?${query}`, { headers: { accept: "text/html" }, signal: request.signal });
    if (answer.redirected || answer.status === 401) {
      said.textContent = "Logged out: reload to log in again";
      return false;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    newest = answer.headers.get("x-newest") || newest;
    const part = document.createElement("template");
    part.innerHTML = `<table><tbody>${await answer.text()}</tbody></table>`;
    local(part.content);
    waiting = [...all("tr", part.content), ...waiting].slice(0, 200);
    if (isStill()) {
      more.hidden = waiting.length === 0;
      more.textContent = `${waiting.length} newer, show them`;
    } else show();
    said.textContent = isPaused ? "Paused" : answer.headers.get("x-sampled") ? "Following a sample" : "Following";
    return true;
  };
  said.textContent = "Following";
  (async () => {
    for (;;) {
      await seen();
      try {
        if (!await look()) return;
        await rest(1000);
      } catch {
        if (document.hidden) continue;
        said.textContent = "Not reachable, trying again";
        await rest(2000);
      }
    }
  })();
}

// The number of chosen rows.
const choices = () => all("main input[name='id[]']:checked").length;
const chosen = one("[data-chosen]");
const tell = () => { if (chosen) chosen.textContent = choices() ? ` (${choices()})` : ""; };
tell();
document.onchange = tell;

// Keys, outside of fields: the page of `?` lists them.
const isOff = () => localStorage.getItem("keys") === "off";
const onOff = one("[data-keys]");
if (onOff) {
  const say = () => { onOff.textContent = `Switch the keys ${isOff() ? "on" : "off"}`; };
  onOff.hidden = false;
  say();
  onOff.onclick = () => { localStorage.setItem("keys", isOff() ? "on" : "off"); say(); };
}
let isGoing = false;
const pages = { o: "", w: "webhooks", d: "deliveries", e: "events", l: "live", r: "replays" };
document.addEventListener("keydown", (event) => {
  const { key, target, ctrlKey, metaKey, altKey } = event, active = document.activeElement;
  if (key === "Escape") active.blur();
  const isField = target.closest("input:not([type=checkbox]), textarea, select");
  if (isField || ctrlKey || metaKey || altKey || isOff()) return;
  if (isGoing) {
    isGoing = false;
    const to = key in pages && new URL(pages[key], one(".brand").href).href;
    all("nav a").find((link) => link.href === to)?.click();
    return;
  }
  if (key === "g") isGoing = true;
  if (key === "?") one("[data-shortcuts]")?.click();
  if (key === "/") {
    event.preventDefault();
    one(".find input")?.focus();
  }
  if (key === "j" || key === "k") {
    const links = all("main tbody a.key");
    const at = links.indexOf(active.closest("tr")?.querySelector("a.key")) + (key === "j" ? 1 : -1);
    links[Math.max(0, Math.min(links.length - 1, at))]?.focus();
  }
  const box = active.closest("tr")?.querySelector("input[type=checkbox]");
  if (key === "x") box?.click();
  if (key === "r") {
    if (!choices()) box?.click();
    const send = one("main form[action$=retry] button");
    if (send && (chosen ? choices() : confirm(`${send.textContent}?`))) send.click();
  }
  if (key === "[" || key === "]") {
    const row = one("tr.sel");
    (key === "[" ? row?.nextElementSibling : row?.previousElementSibling)?.querySelector("a.key")?.click();
  }
});
