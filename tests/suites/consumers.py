"""A Prometheus that scrapes two daemons and a standby, and Python's parsers: the targets are up, and every packaged query has its series.

Usage: consumers.py PROMETHEUS API KEY LISTENER STANDBY. API is a daemon that serves /metrics itself, LISTENER the listener
for metrics of another one, and STANDBY a standby of the first. Exits with 1 if anything is not as it should be.
"""

import http.server
import json
import re
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

PROMETHEUS, API, KEY, LISTENER, STANDBY = sys.argv[1:6]
PATIENCE_S = 120
RULES = "packaging/prometheus/postrider.rules.yml"
DASHBOARD = "packaging/grafana/postrider.json"
#: Values that Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".*"}
SELECTOR = re.compile(r"(?:postrider|process)_\w+(?:\{[^}]*\})?")
TEXT, OPEN_METRICS = "text/plain", "application/openmetrics-text"
#: `Accept`, and the expected media type.
ACCEPTED = [
    (None, TEXT),
    ("*/*", TEXT),
    ("text/plain", TEXT),
    ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", TEXT),
    ("application/json", TEXT),
    ("application/openmetrics-text;q=0", TEXT),
    ("application/openmetrics-text", OPEN_METRICS),
    ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPEN_METRICS),
    # Prometheus 2.42, 2.55 and 3.4, with and without protobuf.
    ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
     "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPEN_METRICS),
    ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
     "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
     "text/plain;version=0.0.4;q=0.2,*/*;q=0.1", OPEN_METRICS),
    ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
     "text/plain;version=0.0.4;q=0.3", TEXT),
]
passed, failed = 0, 0


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"NOT OK: {what} {detail}", file=sys.stderr)


def until(what, ask):
    """Asks until the answer is true, and gives it back."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > ends:
            raise SystemExit(f"NOT OK: never came: {what}")
        time.sleep(0.5)


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(API + path, data, method=method)
    request.add_header("authorization", f"Bearer {KEY}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def prometheus(path, **query):
    """The data of an answer. An error of Prometheus is a result, too: a text."""
    url = f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except urllib.error.URLError:
        return None


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers 200, and 500 below /failing."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500 if self.path.startswith("/failing") else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def traffic():
    """Deliveries that arrive and deliveries that fail, for as long as this runs."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for path in ("/", "/failing"):
        call("POST", "/v1/webhooks", {"url": f"http://127.0.0.1:{server.server_port}{path}", "retry_schedule_s": [1]})

    def publish():
        while True:
            call("POST", "/v1/events", {"type": "invoice.paid", "data": {"id": 42}})
            time.sleep(0.2)

    threading.Thread(target=publish, daemon=True).start()


def pages():
    """All listeners under every Accept, by the parser of the format that the answer names."""
    for place in (API, LISTENER, STANDBY):
        for accept, expected in ACCEPTED:
            what = f"{place} with Accept {accept}"
            request = urllib.request.Request(f"{place}/metrics")
            if accept is not None:
                request.add_header("accept", accept)
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                media_type, page = answer.headers["content-type"], answer.read().decode()
            check(what, media_type.split(";")[0] == expected, media_type)
            parse = parse_open_metrics if media_type.startswith(OPEN_METRICS) else parse_text
            try:
                families = {family.name: family for family in parse(page)}
            except ValueError as error:
                check(what, False, f"{error}")
                continue
            untyped = [name for name, family in families.items() if family.type in ("unknown", "untyped")]
            if place == STANDBY:
                check(what, not untyped and families["postrider_standby"].type == "gauge", untyped)
                continue
            check(what, not untyped and len(families) > 30, untyped)
            check(what, families["postrider_events"].type == "counter", families["postrider_events"].type)
            check(what, families["postrider_commit_seconds"].type == "histogram")


def targets():
    def up():
        data = prometheus("targets", state="active")
        active = data["activeTargets"] if isinstance(data, dict) else []
        return active if active and all(target["health"] != "unknown" for target in active) else None

    active = until("all targets scraped", up)
    check("three targets", len(active) == 3)
    for target in active:
        check(f"up: {target['scrapeUrl']}", target["health"] == "up", target["lastError"])


def rules():
    """The rules as Prometheus reports them, once it has evaluated each."""

    def evaluated():
        data = prometheus("rules")
        found = [rule for group in data["groups"] for rule in group["rules"]] if isinstance(data, dict) else []
        return found if found and all(rule["health"] != "unknown" for rule in found) else None

    found = until("the rules evaluated", evaluated)
    for rule in found:
        check(f"rule {rule['name']}", rule["health"] == "ok", rule.get("lastError"))
    with open(RULES, encoding="utf-8") as file:
        written = [rule["expr"] for group in yaml.safe_load(file)["groups"] for rule in group["rules"]]
    check("every rule is loaded", len(written) == len(found), f"{len(written)} written, {len(found)} loaded")
    return written


def panels():
    """The expressions of the dashboard, with Grafana's variables filled in."""

    def collect(part):
        if isinstance(part, dict):
            own = [part["expr"]] if "expr" in part else []
            return own + [expr for member in part.values() for expr in collect(member)]
        return [expr for entry in part for expr in collect(entry)] if isinstance(part, list) else []

    with open(DASHBOARD, encoding="utf-8") as file:
        found = collect(json.load(file))
    for name, value in VARIABLES.items():
        found = [expr.replace(name, value) for expr in found]
    check("no variable is left", not [expr for expr in found if "$" in expr])
    return found


def queries(expressions, has_series):
    """Checks that every expression has no error. With `has_series` it has a series, otherwise each of its selectors has one."""
    for expression in expressions:
        answer = prometheus("query", query=expression)
        check(f"query {expression}", isinstance(answer, dict), answer)
        wanted = [expression] if has_series else SELECTOR.findall(expression)
        check(f"selectors of {expression}", wanted)
        for query in wanted:
            ends = time.monotonic() + PATIENCE_S
            while isinstance(answer := prometheus("query", query=query), dict) and not answer["result"]:
                if time.monotonic() > ends:
                    break
                time.sleep(0.5)
            check(f"series of {query}", isinstance(answer, dict) and answer["result"], answer)


traffic()
pages()
targets()
queries(rules(), has_series=False)
queries(panels(), has_series=True)
print(f"consumers: {passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
