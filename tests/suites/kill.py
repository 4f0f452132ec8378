"""Kills a real daemon on a real file, again and again, while several producers publish and receivers record.

Nothing that was answered with 202 may be unreadable or undelivered; a delivery may come more than once only where the
receiver broke off or a kill found it under way. Then the daemon is told to stop, under the same load: it must exit with 0,
nothing may come twice, and the next start must find everything closed. Python's standard library only.

kill.py BINARY KILLS SEED
"""

import http.client
import http.server
import json
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
# Requests under way, over all webhooks, outcomes that are not durable yet included.
IN_FLIGHT = 64
# Of requests to the receiver that breaks off.
RESETS_PERCENT = 3
STOPS = 5
START_S = 30
SILENCE_S = 60
STOP_S = 20


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers 200 after `delay_s`; below /breaking it now and then closes the connection instead."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    requests = {}  # delivery -> how often it came
    events = {}  # key -> ids of events
    places = set()  # (webhook, event)
    resets = 0
    delay_s = 0.0
    rng = random.Random(0)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        cls = type(self)
        with cls.lock:
            delivery = self.headers["postrider-delivery-id"]
            cls.requests[delivery] = cls.requests.get(delivery, 0) + 1
            cls.events.setdefault(body["data"]["key"], set()).add(self.headers["webhook-id"])
            breaks = self.path == "/breaking" and cls.rng.randrange(100) < RESETS_PERCENT
            cls.resets += breaks
            if not breaks:
                cls.places.add((self.path, self.headers["webhook-id"]))
        if breaks:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if cls.delay_s:
            time.sleep(cls.delay_s)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass

    @classmethod
    def extras(cls):
        with cls.lock:
            return sum(count - 1 for count in cls.requests.values())


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, *_):
        pass  # A killed daemon breaks its connections.


class Daemon:
    def __init__(self, binary, folder, address):
        self.binary, self.folder, self.address = binary, folder, address
        self.key = None
        self.process = None
        self.log = open(os.path.join(folder, "log"), "a", encoding="utf-8")

    def start(self):
        """Starts it; returns the seconds until it was ready."""
        env = {
            "PATH": os.environ.get("PATH", ""),
            "POSTRIDER_DELIVERY__ALLOW": "127.0.0.0/8",
            "POSTRIDER_DELIVERY__MAX_IN_FLIGHT": str(IN_FLIGHT),
            "POSTRIDER_MIN_FREE_BYTES": "0",
            "POSTRIDER_PARTITION_MAX_BYTES": "16MiB",
        }
        data = os.path.join(self.folder, "data")
        began = time.monotonic()
        self.process = subprocess.Popen(
            [self.binary, "serve", "--data-dir", data, "--listen", "%s:%d" % self.address],
            stdout=subprocess.DEVNULL, stderr=self.log, env=env)
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
            with open(os.path.join(data, "first-key"), encoding="utf-8") as file:
                self.key = file.read().strip()
        return took

    def connect(self):
        return http.client.HTTPConnection(*self.address, timeout=10)

    def ask(self, method, path, body=None, connection=None, once=False):
        connection = connection or self.connect()
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = "Bearer " + self.key
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        if once:
            connection.close()
        return answer.status, json.loads(content) if content else None


class Producer(threading.Thread):
    """Publishes one event after the other; what was not answered is published again under the same `event_id`."""

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


def drain(daemon, paths, accepted):
    """Waits until everything that was accepted has come everywhere, and nothing is left to do."""
    until, least = time.monotonic() + SILENCE_S, None
    wanted = {(path, event) for path in paths for event in accepted.values()}
    while time.monotonic() < until:
        stats = daemon.ask("GET", "/v1/stats", once=True)[1]
        with Receiver.lock:
            missing = len(wanted - Receiver.places)
        if least is None or missing < least:
            # This receiver is slower than the producers: as long as something comes, there is nothing to complain of.
            until, least = time.monotonic() + SILENCE_S, missing
        if missing == 0 and stats["pending_deliveries"] == 0:
            return
        time.sleep(0.2)
    fail("%d of %d are undelivered, %s pending" % (missing, len(wanted), stats["pending_deliveries"]), daemon)


def read_all(daemon, accepted):
    connection = daemon.connect()
    for key, event in accepted.items():
        status, answer = daemon.ask("GET", "/v1/events/" + event, connection=connection)
        if status != 200 or answer["data"]["key"] != key:
            fail("%s was accepted as %s and reads as %s %s" % (key, event, status, answer), daemon)


def kill_again_and_again(daemon, paths, kills, rng):
    producers, starts = produce(daemon, 0), []
    for _ in range(kills):
        time.sleep(rng.uniform(0.05, 1.2))
        daemon.process.kill()
        daemon.process.wait()
        starts.append(daemon.start())
    time.sleep(0.5)
    accepted = end(producers)
    drain(daemon, paths, accepted)
    read_all(daemon, accepted)
    twice = [key for key, ids in Receiver.events.items() if len(ids) > 1]
    if twice:
        fail("%d keys became more than one event: %s" % (len(twice), twice[:5]), daemon)
    extras, bound = Receiver.extras(), Receiver.resets + kills * IN_FLIGHT
    print("%d kills: %d events accepted, %d requests, %d came again (%d broken off by the receiver; bound %d)" % (
        kills, len(accepted), sum(Receiver.requests.values()), extras, Receiver.resets, bound))
    print("ready again after a kill: p50 %.0f ms, p99 %.0f ms, most %.0f ms" % (
        percentile(starts, 50) * 1000, percentile(starts, 99) * 1000, max(starts) * 1000))
    if extras > bound:
        fail("%d came again, more than %d" % (extras, bound), daemon)


def stop_again_and_again(daemon, paths, rng):
    """A stop under load: whoever answers in time gets nothing twice."""
    global RESETS_PERCENT
    RESETS_PERCENT = 0
    Receiver.delay_s = 0.05
    before, accepted, starts = Receiver.extras(), {}, []
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
        if os.path.exists(os.path.join(daemon.folder, "data", "state.redb")) is False:
            fail("state.redb is gone")
        starts.append(daemon.start())
        accepted.update(end(producers))
    drain(daemon, paths, accepted)
    read_all(daemon, accepted)
    extras = Receiver.extras() - before
    print("%d stops: %d events accepted, %d came again, exit 0, the last took %.1f s; ready again: most %.0f ms" % (
        STOPS, len(accepted), extras, took, max(starts) * 1000))
    if extras:
        fail("%d came twice although nobody was killed" % extras, daemon)


def main():
    binary, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    Receiver.rng = random.Random(seed + 1)
    print("seed %d, %s" % (seed, binary), flush=True)
    server = Server(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tempfile.mkdtemp(prefix="postrider-kill-")
    daemon = Daemon(binary, folder, ("127.0.0.1", free_port()))
    try:
        daemon.start()
        paths = ["/steady", "/breaking"]
        for path in paths:
            url = "http://127.0.0.1:%d%s" % (server.server_port, path)
            fields = {"url": url, "retry_schedule_s": [1, 1, 2, 2, 5, 5, 5, 5], "disable_after_s": 0}
            if daemon.ask("POST", "/v1/webhooks", fields, once=True)[0] != 201:
                fail("the webhook is refused", daemon)
        kill_again_and_again(daemon, paths, kills, rng)
        stop_again_and_again(daemon, paths, rng)
        daemon.process.terminate()
        if daemon.process.wait(STOP_S) != 0:
            fail("it does not exit with 0", daemon)
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


main()
