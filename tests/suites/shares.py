"""Healthy webhooks beside a tenant or a host that hangs, and beside names that never resolve.

Each kind of load runs in turn with a quiet daemon on the same machine, so that other programs disturb both alike. The time
from a publish to the request at the receiver is measured, of healthy webhooks only. The ratio of the 99th percentiles is judged.
The receiver that hung answers at the end, and its webhooks must be served within one probe interval. Python's standard library only.

shares.py BINARY kind ...     kind: tenant host names
"""

import asyncio
import json
import multiprocessing
import os
import resource
import shutil
import socket
import sys
import tempfile
import time

from kill import Daemon, fail, free_port, percentile

# Webhooks that hang, and names that never resolve.
HANGING = 1100
NAMES = 1200
HEALTHY = 10
# Publishes a second for the healthy webhooks, and seconds between two events for the webhooks that hang.
RATE = 100
BURST_EVERY_S = 4
MEASURED_S = int(os.environ.get("SHARES_SECONDS", "16"))
ROUNDS = int(os.environ.get("SHARES_ROUNDS", "1"))
# The greatest ratio of the 99th percentiles. A difference below the slack is not judged: two shared cores make it by chance.
RATIO_MAX = 1.5
SLACK_S = 0.05
# Seconds within which a webhook is served whose host answers again: the longest wait of its probe, and a margin.
SERVED_WITHIN_S = 65
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Connection(asyncio.Protocol):
    """Answers at once, or never while `told["hangs"]`. Notes the time of each event that came."""

    def __init__(self, told):
        self.told, self.read, self.transport = told, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.read += data
        at = self.read.find(b'"sent":"')
        if at < 0 or self.read.find(b'"', at + 8) < 0:
            return
        key = self.read[at + 8:self.read.find(b'"', at + 8)].decode()
        self.read = b""
        self.told["came"].append((key, time.monotonic()))
        if not self.told["hangs"]:
            self.transport.write(OK)


def serve(listener, questions, hangs):
    told = {"hangs": hangs, "came": []}

    async def live():
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def asked():
            try:
                word = questions.recv()
            except EOFError:
                ended.set()
                return
            if word == "answer":
                told["hangs"] = False
            answer, told["came"] = told["came"], []
            questions.send(answer)

        loop.add_reader(questions.fileno(), asked)
        await loop.create_server(lambda: Connection(told), sock=listener, backlog=4096)
        await ended.wait()

    asyncio.run(live())


class Receiver:
    """A receiver in a process of its own."""

    def __init__(self, hangs):
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = listener.getsockname()[1]
        self.questions, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=serve, args=(listener, theirs, hangs), daemon=True)
        self.process.start()
        listener.close()
        theirs.close()

    def ask(self, word):
        self.questions.send(word)
        return self.questions.recv()


def create(daemon, path, body, connection):
    status, answer = daemon.ask("POST", path, body, connection)
    if status != 201:
        fail("POST %s was answered with %s %s" % (path, status, answer), daemon)
    return answer["id"]


def app(daemon, name, connection):
    return create(daemon, "/v1/apps", {"name": name}, connection)


def webhooks(daemon, kind, hanging, connection):
    """Makes the webhooks of a kind. Returns the apps to publish to."""
    if kind == "host":
        apps = [app(daemon, "many %d" % number, connection) for number in range(HANGING // 10)]
    else:
        apps = [app(daemon, "one", connection)]
    for number in range(NAMES if kind == "names" else HANGING):
        url = "http://127.0.0.1:%d/%d" % (hanging.port, number)
        if kind == "names":
            url = "http://no-answer-%d.example/" % number
        body = {"app_id": apps[number % len(apps)], "url": url, "disable_after_s": 0, "retry_schedule_s": [5] * 20}
        create(daemon, "/v1/webhooks", body, connection)
    return apps


def measure(daemon, apps, burdened, receiver, seconds):
    """Publishes to the healthy apps at a steady rate, and to the burdened ones in bursts. Returns the delays in seconds."""
    connection, others = daemon.connect(), daemon.connect()
    receiver.ask("came")
    sent, began, next_burst = {}, time.monotonic(), 0.0
    number = 0
    while time.monotonic() - began < seconds:
        due = began + number / RATE
        time.sleep(max(0.0, due - time.monotonic()))
        if burdened and time.monotonic() - began >= next_burst:
            next_burst += BURST_EVERY_S
            for of in burdened:
                daemon.ask("POST", "/v1/events", {"type": "a.b", "app_id": of, "data": {"sent": "burst"}}, others)
        key = "%d" % time.monotonic_ns()
        event = {"type": "a.b", "app_id": apps[number % len(apps)], "data": {"sent": key}}
        sent[key] = time.monotonic()
        status, answer = daemon.ask("POST", "/v1/events", event, connection)
        if status != 202:
            fail("a publish was answered with %s %s" % (status, answer), daemon)
        number += 1
    until = time.monotonic() + 30
    came = {}
    while len(came) < len(sent) and time.monotonic() < until:
        for key, at in receiver.ask("came"):
            came.setdefault(key, at)
        time.sleep(0.05)
    missing = len(sent) - len(came)
    if missing:
        fail("%d of %d events of healthy webhooks did not come within 30 s" % (missing, len(sent)), daemon)
    return [came[key] - at for key, at in sent.items()]


def again(daemon, burdened, hanging, connection):
    """Seconds until a webhook of the host gets a request after it answers again."""
    hanging.ask("answer")
    began = time.monotonic()
    for of in burdened[:5]:
        daemon.ask("POST", "/v1/events", {"type": "a.b", "app_id": of, "data": {"sent": "again"}}, connection)
    while time.monotonic() - began < SERVED_WITHIN_S:
        if hanging.ask("came"):
            return time.monotonic() - began
        time.sleep(0.1)
    fail("the host answers again, and none of its webhooks was served within %d s" % SERVED_WITHIN_S, daemon)


def run(binary, kind, is_burdened):
    folder = tempfile.mkdtemp(prefix="postrider-shares-")
    healthy, hanging = Receiver(False), Receiver(True)
    settings = {"POSTRIDER_DELIVERY__MAX_IN_FLIGHT": "1000"}
    daemon = Daemon(binary, folder, ("127.0.0.1", free_port()), settings=settings)
    served = None
    try:
        daemon.start()
        connection = daemon.connect()
        apps = [app(daemon, "healthy %d" % number, connection) for number in range(HEALTHY)]
        for number, of in enumerate(apps):
            url = "http://127.0.0.1:%d/%d" % (healthy.port, number)
            create(daemon, "/v1/webhooks", {"app_id": of, "url": url}, connection)
        burdened = webhooks(daemon, kind, hanging, connection) if is_burdened else []
        measure(daemon, apps, [], healthy, 2)
        delays = measure(daemon, apps, burdened, healthy, MEASURED_S)
        if is_burdened and kind != "names":
            served = again(daemon, burdened, hanging, connection)
        circuits = [daemon.ask("GET", "/v1/webhooks?app_id=" + of, connection=connection)[1]["data"] for of in apps]
        wrong = [row["id"] for rows in circuits for row in rows if row["circuit"] != "closed"]
        if wrong:
            fail("circuits of healthy webhooks are not closed: %s" % wrong, daemon)
        return delays, served
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        healthy.process.kill()
        hanging.process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    binary = os.path.abspath(sys.argv[1])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wrong = []
    # The name server of the kind `names`, which never answers.
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if "names" in sys.argv[2:]:
        silent.bind(("127.0.0.53", 53))
    for kind in sys.argv[2:]:
        quiet, burdened, served = [], [], []
        for _ in range(ROUNDS):
            quiet += run(binary, kind, False)[0]
            delays, after = run(binary, kind, True)
            burdened += delays
            served += [after] if after is not None else []
        before, after = percentile(quiet, 99), percentile(burdened, 99)
        print("%s: p50 %.1f ms, p99 %.1f ms, most %.1f ms; quiet %.1f, %.1f, %.1f: ratio of p99 %.2f%s" % (
            kind, percentile(burdened, 50) * 1e3, after * 1e3, max(burdened) * 1e3,
            percentile(quiet, 50) * 1e3, before * 1e3, max(quiet) * 1e3, after / before,
            "; served again after %.1f s" % max(served) if served else ""), flush=True)
        if after > before * RATIO_MAX and after - before > SLACK_S:
            wrong.append(kind)
    if wrong:
        fail("healthy webhooks are slowed by: %s" % ", ".join(wrong))


if __name__ == "__main__":
    main()
