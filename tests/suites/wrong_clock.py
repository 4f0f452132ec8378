"""Runs a real daemon under a wall clock that steps and comes back, and checks what the step has changed.

The clock is libfaketime's: an offset in a file, read at every call. The monotonic clock stays the machine's.
Python's standard library only.

wrong_clock.py BINARY LIBFAKETIME
"""

import concurrent.futures
import datetime
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

WRONG_S = 8
RETRY_S = 15
PATIENCE_S = 60
HOUR_S = 3600
DAY_S = 24 * HOUR_S
STEPS_S = [40 * DAY_S, 25 * HOUR_S, 8 * HOUR_S, -HOUR_S, -20000 * DAY_S]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers 500 to the first request for an event below /flaky, and 200 else. Records when each request came."""

    requests = []
    lock = threading.Lock()

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        event = self.headers["webhook-id"]
        with Receiver.lock:
            first = all(seen != (self.path, event) for seen, _ in Receiver.requests)
            Receiver.requests.append(((self.path, event), time.monotonic()))
        self.send_response(500 if first and self.path == "/flaky" else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Daemon:
    def __init__(self, binary, library, folder):
        self.binary, self.library, self.folder = binary, library, folder
        self.offset = folder / "offset"
        self.step(0)
        self.process = None

    def step(self, seconds):
        """Sets the wall clock off by `seconds`, in one write."""
        new = self.folder / "offset.new"
        new.write_text(f"{seconds:+d}s\n" if seconds else "+0\n")
        new.rename(self.offset)

    def start(self):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")},
            "LD_PRELOAD": self.library,
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "POSTRIDER_CONFIG": "/dev/null",
            "POSTRIDER_DELIVERY__ALLOW": "127.0.0.0/8",
            "POSTRIDER_MIN_FREE_BYTES": "0",
        }
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--data-dir", str(self.folder / "data"), "--listen", "127.0.0.1:0"],
            env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        for line in self.process.stdout:
            if line.startswith("postrider: listening on "):
                self.url = line.split()[-1]
                break
        else:
            raise SystemExit("the daemon did not start:\n" + (self.folder / "log").read_text())
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.key = (self.folder / "data" / "first-key").read_text().strip()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(30) == 0, "the daemon did not stop well"

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.key}", "content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def publish(self, **fields):
        return self.ask("POST", "/v1/events", {"type": "a.b", "data": {}, **fields})

    def delivery(self, event):
        rows = self.ask("GET", f"/v1/deliveries?event_id={event['id']}")["data"]
        return [row for row in rows if row["event_id"] == event["id"]][0]


def until(words, ready):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if ready():
            return
        time.sleep(0.1)
    raise SystemExit(f"never: {words}")


def rfc3339(seconds_from_now):
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds_from_now)).isoformat()


def age_s(text):
    return abs((datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(text)).total_seconds())


def times_of(path, event):
    with Receiver.lock:
        return [at for seen, at in Receiver.requests if seen == (path, event["id"])]


def run(daemon, receiver, step_s, at_start):
    where = f"a step of {step_s} s" + (" at the start" if at_start else "")
    fields = {"url": f"{receiver}/flaky", "retry_schedule_s": [RETRY_S, RETRY_S], "disable_after_s": 5 * DAY_S}
    webhook = daemon.ask("POST", "/v1/webhooks", fields)
    name = f"known {step_s} {at_start}"
    retried = daemon.publish(event_id=name)
    later = daemon.publish(deliver_at=rfc3339(20 * DAY_S), expires_at=rfc3339(21 * DAY_S))
    until("the first attempt", lambda: times_of("/flaky", retried))
    if at_start:
        daemon.stop()
    daemon.step(step_s)
    if at_start:
        daemon.start()
    wrong_since = time.monotonic()
    again = daemon.publish(event_id=name)
    assert again["duplicate"] and again["id"] == retried["id"], f"{where}: a known event_id was taken as new"
    meanwhile = daemon.publish()
    if not at_start:
        assert age_s(meanwhile["received_at"]) < 60, f"{where}: received_at is {meanwhile['received_at']}"
    assert daemon.ask("GET", "/readyz")["warnings"], f"{where}: no warning"
    until("the first attempt meanwhile", lambda: times_of("/flaky", meanwhile))
    time.sleep(max(0.0, wrong_since + WRONG_S - time.monotonic()))
    daemon.step(0)
    for event in (retried, meanwhile):
        until("a delivery", lambda event=event: daemon.delivery(event)["status"] == "delivered")
        first, second, *more = times_of("/flaky", event)
        waited = second - first
        assert not more and RETRY_S - 1 <= waited <= RETRY_S * 1.1 + 4, f"{where}: {waited:.1f} s, then {len(more)} more"
    assert daemon.delivery(later)["status"] == "pending", f"{where}: {daemon.delivery(later)}"
    state = daemon.ask("GET", f"/v1/webhooks/{webhook['id']}")["status"]
    assert state == "enabled", f"{where}: the webhook is {state}"
    after = daemon.publish()
    assert age_s(after["received_at"]) < 60, f"{where}: received_at stays at {after['received_at']}"
    daemon.ask("POST", f"/v1/events/{later['id']}/cancel", {})
    request = urllib.request.Request(f"{daemon.url}/v1/webhooks/{webhook['id']}", method="DELETE",
                                     headers={"authorization": f"Bearer {daemon.key}"})
    urllib.request.urlopen(request, timeout=30).read()
    print(f"{where}: nothing ended, doubled or delayed", flush=True)


def run_alone(binary, library, receiver, step_s, at_start):
    """Runs one step with a daemon and a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(binary, library, pathlib.Path(folder))
        daemon.start()
        try:
            run(daemon, receiver, step_s, at_start)
            daemon.stop()
        except BaseException:
            print((pathlib.Path(folder) / "log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            daemon.process.kill()


def main():
    binary, library = sys.argv[1:]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    receiver = f"http://127.0.0.1:{server.server_port}"
    steps = [(step_s, False) for step_s in STEPS_S]
    steps += [(step_s, True) for step_s in (40 * DAY_S, -HOUR_S, -20000 * DAY_S)]
    # All at once: they wait most of the time.
    with concurrent.futures.ThreadPoolExecutor(len(steps)) as pool:
        runs = [pool.submit(run_alone, os.path.abspath(binary), library, receiver, *step) for step in steps]
    for one in runs:
        one.result()


main()
