"""Kills a real daemon on a real file, again and again, while several producers publish and receivers record.

Nothing that was answered with 202 may be unreadable or undelivered. A delivery may come more than once only if the
receiver broke off or a kill found it in flight. Then the daemon is told to stop under the same load. It must exit with 0,
no delivery may come twice, and the next start must find everything closed. Python's standard library only.

kill.py BINARY KILLS SEED
"""

import asyncio
import http.client
import json
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

PRODUCERS = 8
# Requests in flight, over all webhooks, outcomes that are not durable yet included.
IN_FLIGHT = 64
# Percentage of the requests below /breaking whose connection is closed.
RESETS_PERCENT = 3
STOPS = 5
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
START_S = 30
SILENCE_S = 60
# Events that are read one by one.
READS = 2000
STOP_S = 20


class Connection(asyncio.Protocol):
    """Answers 200 after `delay_s`. Below /breaking it now and then closes the connection instead."""

    def __init__(self, ledger):
        self.ledger, self.read, self.transport = ledger, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.read += data
        while True:
            end = self.read.find(b"\r\n\r\n")
            if end < 0:
                return
            head, length = self.read[:end].lower(), 0
            at = head.find(b"content-length:")
            if at >= 0:
                length = int(head[at + 15:head.find(b"\r", at) if head.find(b"\r", at) >= 0 else end])
            if len(self.read) < end + 4 + length:
                return
            body, self.read = self.read[end + 4:end + 4 + length], self.read[end + 4 + length:]
            if not self.answer(head, body):
                self.transport.abort()
                return

    def answer(self, head, body):
        ledger = self.ledger
        path = head[5:head.find(b" ", 5)].decode()
        delivery, event = header(head, b"postrider-delivery-id"), header(head, b"webhook-id")
        at = body.find(b'"key":"') + 7
        key = body[at:body.find(b'"', at)].decode()
        ledger.requests[delivery] = ledger.requests.get(delivery, 0) + 1
        ledger.events.setdefault(key, set()).add(event)
        if path == "/breaking" and ledger.rng.randrange(100) < ledger.resets_percent:
            ledger.resets += 1
            return False
        ledger.places.add((path, event))
        if ledger.delay_s:
            asyncio.get_running_loop().call_later(ledger.delay_s, self.transport.write, OK)
        else:
            self.transport.write(OK)
        return True


def header(head, name):
    at = head.find(b"\n" + name + b":") + len(name) + 2
    end = head.find(b"\r", at)
    return head[at:end if end >= 0 else len(head)].strip().decode()


class Ledger:
    """The requests that a receiver process has seen, and its behaviour."""

    def __init__(self, seed):
        self.requests = {}  # delivery -> how often it came
        self.events = {}  # key -> ids of events
        self.places = set()  # (webhook, event)
        self.resets, self.resets_percent, self.delay_s = 0, RESETS_PERCENT, 0.0
        self.rng = random.Random(seed)

    def extras(self):
        return sum(count - 1 for count in self.requests.values())


def serve(listener, questions, seed):
    """A process of its own, so that the producers do not wait for it: it answers requests, and questions about them."""
    ledger = Ledger(seed)

    async def live():
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def asked():
            try:
                words = questions.recv()
            except EOFError:
                ended.set()
                return
            if words[0] == "set":
                ledger.resets_percent, ledger.delay_s = words[1:]
                questions.send(None)
            elif words[0] == "count":
                questions.send((len(ledger.places), ledger.extras(), ledger.resets))
            else:
                questions.send((ledger.requests, ledger.events, ledger.places))

        loop.add_reader(questions.fileno(), asked)
        server = await loop.create_server(lambda: Connection(ledger), sock=listener, backlog=1024)
        await ended.wait()
        server.close()

    asyncio.run(live())


class Receiver:
    """The receiver process, as the rest of this program sees it."""

    def __init__(self, seed):
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = listener.getsockname()[1]
        self.questions, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=serve, args=(listener, theirs, seed), daemon=True)
        self.process.start()
        listener.close()
        theirs.close()

    def ask(self, *words):
        self.questions.send(words)
        return self.questions.recv()


class Daemon:
    def __init__(self, binary, folder, address, data=None, settings=(), prepare=None):
        """`settings` are further variables. `prepare` is called in the process before it becomes the daemon."""
        self.binary, self.folder, self.address = binary, folder, address
        self.data = data or os.path.join(folder, "data")
        self.settings, self.prepare = dict(settings), prepare
        self.key = None
        self.process = None
        self.log = open(os.path.join(folder, "log"), "a", encoding="utf-8")

    def start(self):
        """Starts the daemon. Returns the seconds until it was ready."""
        env = {
            "PATH": os.environ.get("PATH", ""),
            "POSTRIDER_DELIVERY__ALLOW": "127.0.0.0/8",
            "POSTRIDER_DELIVERY__MAX_IN_FLIGHT": str(IN_FLIGHT),
            "POSTRIDER_MIN_FREE_BYTES": "0",
            "POSTRIDER_PARTITION_MAX_BYTES": "16MiB",
        }
        env.update(self.settings)
        began = time.monotonic()
        self.process = subprocess.Popen(
            [self.binary, "serve", "--data-dir", self.data, "--listen", "%s:%d" % self.address],
            stdout=subprocess.DEVNULL, stderr=self.log, env=env, preexec_fn=self.prepare)
        while True:
            try:
                if self.ask("GET", "/readyz", once=True)[0] == 200:
                    break
            except (OSError, http.client.HTTPException):
                pass
            if self.process.poll() is not None or time.monotonic() - began > START_S:
                fail("the daemon does not start", self)
            time.sleep(0.001)
        took = time.monotonic() - began
        if self.key is None:
            with open(os.path.join(self.data, "first-key"), encoding="utf-8") as file:
                self.key = file.read().strip()
        return took

    def connect(self):
        return http.client.HTTPConnection(*self.address, timeout=10)

    def ask(self, method, path, body=None, connection=None, once=False):
        connection = connection or self.connect()
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = "Bearer " + self.key
        connection.request(method, path, None if body is None else json.dumps(body, separators=(",", ":")), headers)
        answer = connection.getresponse()
        content = answer.read()
        if once:
            connection.close()
        return answer.status, json.loads(content) if content else None


class Producer(threading.Thread):
    """Publishes one event after the other. An event without an answer is published again under the same `event_id`."""

    def __init__(self, number, daemon):
        super().__init__(daemon=True)
        self.number, self.server = number, daemon
        self.accepted = {}  # key -> id
        self.stops = threading.Event()
        self.wrong = None

    def run(self):
        count, connection = 0, None
        while not self.stops.is_set():
            key = "%d-%d" % (self.number, count)
            event = {"type": "load.made", "event_id": key, "data": {"key": key, "fill": "x" * (count * 37 % 2000)}}
            try:
                connection = connection or self.server.connect()
                status, answer = self.server.ask("POST", "/v1/events", event, connection)
            except (OSError, http.client.HTTPException, ValueError):
                connection = None
                time.sleep(0.005)
                continue
            if status == 202:
                self.accepted[key] = answer["id"]
                count += 1
            elif status in (429, 503, 507):
                time.sleep(0.01)
            else:
                self.wrong = "%s %s" % (status, answer)
                return


def fail(words, daemon=None):
    print("FAILED: " + words)
    if daemon is not None:
        with open(daemon.log.name, encoding="utf-8") as log:
            print("".join(log.readlines()[-30:]))
    sys.exit(1)


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def produce(daemon, first):
    producers = [Producer(first + number, daemon) for number in range(PRODUCERS)]
    for producer in producers:
        producer.start()
    return producers


def end(producers):
    accepted = {}
    for producer in producers:
        producer.stops.set()
    for producer in producers:
        producer.join(30)
        if producer.wrong:
            fail("a publish was answered with " + producer.wrong)
        accepted.update(producer.accepted)
    return accepted


def drain(daemon, receiver, paths, accepted):
    """Waits until everything that was accepted has come everywhere, and nothing is left to do."""
    until, most = time.monotonic() + SILENCE_S, -1
    wanted = len(paths) * len(accepted)
    while time.monotonic() < until:
        stats = daemon.ask("GET", "/v1/stats", once=True)[1]
        came = receiver.ask("count")[0]
        if came > most:
            # As long as something comes, there is nothing to complain of.
            until, most = time.monotonic() + SILENCE_S, came
        if came >= wanted and stats["pending_deliveries"] == 0:
            break
        time.sleep(0.1)
    places = receiver.ask("all")[2]
    missing = [(path, event) for path in paths for event in accepted.values() if (path, event) not in places]
    if missing or stats["pending_deliveries"]:
        fail("%d of %d are undelivered, %s pending" % (len(missing), wanted, stats["pending_deliveries"]), daemon)


def read_all(daemon, accepted, rng):
    """Everything in the list, and some one by one."""
    connection, listed, path = daemon.connect(), {}, "/v1/events?limit=250"
    while path:
        status, page = daemon.ask("GET", path, connection=connection)
        if status != 200:
            fail("GET %s: %s %s" % (path, status, page), daemon)
        listed.update((row["id"], row["event_id"]) for row in page["data"])
        cursor = page["next_cursor"]
        path = cursor and "/v1/events?limit=250&cursor=" + cursor
    for key, event in accepted.items():
        if listed.get(event) != key:
            fail("%s was accepted as %s and is listed as %s" % (key, event, listed.get(event)), daemon)
    for key in rng.sample(sorted(accepted), min(READS, len(accepted))):
        status, answer = daemon.ask("GET", "/v1/events/" + accepted[key], connection=connection)
        if status != 200 or answer["data"]["key"] != key:
            fail("%s was accepted as %s and reads as %s %s" % (key, accepted[key], status, answer), daemon)


def kill_again_and_again(daemon, receiver, paths, kills, rng):
    producers, starts = produce(daemon, 0), []
    for _ in range(kills):
        time.sleep(rng.uniform(0.05, 1.2))
        daemon.process.kill()
        daemon.process.wait()
        starts.append(daemon.start())
    time.sleep(0.5)
    accepted = end(producers)
    began = time.monotonic()
    drain(daemon, receiver, paths, accepted)
    drained = time.monotonic() - began
    read_all(daemon, accepted, rng)
    requests, events, _ = receiver.ask("all")
    twice = [key for key, ids in events.items() if len(ids) > 1]
    if twice:
        fail("%d keys became more than one event: %s" % (len(twice), twice[:5]), daemon)
    (_, extras, resets), bound = receiver.ask("count"), kills * IN_FLIGHT
    print("%d kills: %d events accepted, %d requests, %d came again (%d broken off by the receiver; bound %d), "
          "all delivered %.1f s after the last publish" % (
              kills, len(accepted), sum(requests.values()), extras, resets, resets + bound, drained))
    print("ready again after a kill: p50 %.0f ms, p99 %.0f ms, most %.0f ms" % (
        percentile(starts, 50) * 1000, percentile(starts, 99) * 1000, max(starts) * 1000))
    if extras > resets + bound:
        fail("%d came again, more than %d" % (extras, resets + bound), daemon)


def stop_again_and_again(daemon, receiver, paths, rng):
    """A stop under load. A receiver that answers in time gets no delivery twice."""
    receiver.ask("set", 0, 0.05)
    before, accepted, starts = receiver.ask("count")[1], {}, []
    for turn in range(STOPS):
        producers = produce(daemon, 1000 * (turn + 1))
        time.sleep(rng.uniform(0.5, 1.5))
        began = time.monotonic()
        daemon.process.terminate()
        try:
            code = daemon.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            fail("a stop takes longer than %d s" % STOP_S, daemon)
        if code != 0:
            fail("it exits with %d" % code, daemon)
        took = time.monotonic() - began
        if not os.path.exists(os.path.join(daemon.data, "state.redb")):
            fail("state.redb is gone")
        starts.append(daemon.start())
        accepted.update(end(producers))
    drain(daemon, receiver, paths, accepted)
    read_all(daemon, accepted, rng)
    extras = receiver.ask("count")[1] - before
    print("%d stops: %d events accepted, %d came again, exit 0, the last took %.1f s; ready again: most %.0f ms" % (
        STOPS, len(accepted), extras, took, max(starts) * 1000))
    if extras:
        fail("%d came twice although no daemon was killed" % extras, daemon)


def main():
    binary, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    print("seed %d, %s" % (seed, binary), flush=True)
    receiver = Receiver(seed + 1)
    folder = tempfile.mkdtemp(prefix="postrider-kill-")
    daemon = Daemon(binary, folder, ("127.0.0.1", free_port()))
    try:
        daemon.start()
        paths = ["/steady", "/breaking"]
        for path in paths:
            url = "http://127.0.0.1:%d%s" % (receiver.port, path)
            fields = {"url": url, "retry_schedule_s": [1, 1, 2, 2, 5, 5, 5, 5], "disable_after_s": 0}
            if daemon.ask("POST", "/v1/webhooks", fields, once=True)[0] != 201:
                fail("the webhook is refused", daemon)
        kill_again_and_again(daemon, receiver, paths, kills, rng)
        stop_again_and_again(daemon, receiver, paths, rng)
        daemon.process.terminate()
        if daemon.process.wait(STOP_S) != 0:
            fail("it does not exit with 0", daemon)
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
