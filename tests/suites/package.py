"""The packaged binary with the packaged configuration, started as systemd starts it: by the unit's own command, under a
notify socket. It says that it is ready and alive, takes an event, delivers it signed, and stops when it is told to.

    package.py ROOT    where ROOT holds an unpacked package

    package.py --scratch ROOT    where ROOT holds the static binary and nothing else. Its lines in journald have their
                                 fields, so that `journalctl REQUEST_ID=...` finds one. It finds a
                                 receiver by name
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import queue
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PATIENCE_S = 60


def unit(root, name):
    """The assignments of a unit file. A repeated key has all of its values."""
    found = {}
    with open(os.path.join(root, "usr/lib/systemd/system", name), encoding="utf-8") as lines:
        for line in lines:
            if "=" in line and not line.startswith("#"):
                key, value = line.rstrip("\n").split("=", 1)
                found.setdefault(key, []).append(value)
    return found


class Notified:
    """A supervisor's notify socket: remembers the states it was told."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.states = []
        self.told = threading.Condition()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            lines = self.socket.recv(4096).decode().splitlines()
            with self.told:
                self.states.extend(lines)
                self.told.notify_all()

    def wait_for(self, state, count=1):
        with self.told:
            if not self.told.wait_for(lambda: self.states.count(state) >= count, PATIENCE_S):
                raise SystemExit(f"never told {state} x{count}: {self.states}")


class Receiver(http.server.BaseHTTPRequestHandler):
    arrived = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Receiver.arrived.put((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def call(url, key, method, path, body=None):
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def serve(root, work, notified):
    service = unit(root, "postrider.service")
    command = shlex.split(service["ExecStart"][-1])
    assert command[0] == "/usr/bin/postrider", command
    assert service["Type"] == ["notify"] and int(service["WatchdogSec"][0]) > 0
    state = os.path.join(work, "state")
    os.mkdir(state, int(service["StateDirectoryMode"][0], 8))
    environment = {
        "NOTIFY_SOCKET": notified.path,
        "WATCHDOG_USEC": "400000",
        "STATE_DIRECTORY": state,
        "POSTRIDER_CONFIG": os.path.join(root, "etc/postrider/postrider.toml"),
        # The two that a test cannot take from the package: a free port, and a receiver on this machine.
        "POSTRIDER_LISTEN": "127.0.0.1:0",
        "POSTRIDER_DELIVERY__ALLOW": "127.0.0.0/8",
    }
    log = open(os.path.join(work, "log"), "wb")
    daemon = subprocess.Popen(
        [root + command[0]] + command[1:], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
    )
    for line in daemon.stdout:
        if line.startswith("postrider: listening on "):
            return daemon, line.split()[-1], state
    raise SystemExit("it ended: " + open(log.name, encoding="utf-8").read())


def main(root):
    with tempfile.TemporaryDirectory() as work:
        notified = Notified(work)
        daemon, url, state = serve(root, work, notified)
        try:
            notified.wait_for("READY=1")
            with open(os.path.join(state, "first-key"), encoding="utf-8") as file:
                key = file.read().strip()
            receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
            threading.Thread(target=receiver.serve_forever, daemon=True).start()
            webhook = call(url, key, "POST", "/v1/webhooks", {"url": f"http://127.0.0.1:{receiver.server_port}/"})
            event = call(url, key, "POST", "/v1/events", {"type": "invoice.paid", "data": {"id": 42}})
            assert event["deliveries"] == 1, event
            headers, body = Receiver.arrived.get(timeout=PATIENCE_S)
            signed = b".".join([event["id"].encode(), headers["webhook-timestamp"].encode(), body])
            secret = base64.b64decode(webhook["secret"].removeprefix("whsec_"))
            expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
            assert headers["webhook-signature"] == f"v1,{expected}", headers
            assert headers["webhook-id"] == event["id"], headers
            print("delivered, and the signature is right")
            ended = time.monotonic() + PATIENCE_S
            while True:
                rows = call(url, key, "GET", f"/v1/events/{event['id']}/deliveries")["data"]
                if rows[0]["status"] == "delivered":
                    break
                assert time.monotonic() < ended, rows
                time.sleep(0.05)
            # More than one sign of life: it is a rhythm.
            notified.wait_for("WATCHDOG=1", 3)
            daemon.send_signal(signal.SIGHUP)
            notified.wait_for("READY=1", 2)
            daemon.send_signal(signal.SIGTERM)
            notified.wait_for("STOPPING=1")
            code = daemon.wait(PATIENCE_S)
            assert code == 0, code
            print("READY=1, WATCHDOG=1 and STOPPING=1 were told; exit 0")
        except BaseException:
            sys.stderr.write(open(os.path.join(work, "log"), encoding="utf-8").read())
            raise
        finally:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()


def entries(data):
    """The fields of one datagram of journald's native protocol: NAME=value, or NAME, a length and the value."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + length], data[8 + length + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def scratch(root):
    folder = os.path.join(root, "run/systemd/journal")
    os.makedirs(folder)
    os.mkdir(os.path.join(root, "etc"))
    with open(os.path.join(root, "etc/hosts"), "w", encoding="utf-8") as hosts:
        hosts.write("127.0.0.1 receiver.example.com\n")
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.bind(os.path.join(folder, "socket"))
    inbox.settimeout(PATIENCE_S)
    environment = {
        "POSTRIDER_DATA_DIR": "/data",
        "POSTRIDER_LISTEN": "127.0.0.1:0",
        "POSTRIDER_MIN_FREE_BYTES": "0",
        "POSTRIDER_LOG__FORMAT": "journald",
        "POSTRIDER_DELIVERY__ALLOW": "127.0.0.0/8",
    }
    daemon = subprocess.Popen(
        ["chroot", root, "/postrider", "serve"], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    try:
        for line in daemon.stdout:
            if line.startswith("postrider: listening on "):
                url = line.split()[-1]
                break
        with open(os.path.join(root, "data/first-key"), encoding="utf-8") as file:
            key = file.read().strip()
        receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        place = f"http://receiver.example.com:{receiver.server_port}/"
        webhook = call(url, key, "POST", "/v1/webhooks", {"url": place})
        while True:
            fields = entries(inbox.recv(65536))
            # The first datagram is empty: it only tests whether journald listens.
            if fields.get("TARGET_ID") == webhook["id"]:
                break
        assert fields["MESSAGE"].startswith("webhook.create request_id="), fields
        assert fields["SYSLOG_IDENTIFIER"] == "postrider" and fields["PRIORITY"] == "6", fields
        assert len(fields["REQUEST_ID"]) == 36, fields
        event = call(url, key, "POST", "/v1/events", {"type": "invoice.paid", "data": {}})
        headers, _ = Receiver.arrived.get(timeout=PATIENCE_S)
        assert headers["webhook-id"] == event["id"], headers
        print("a receiver was found by its name, without a library of the machine")
        print("journald was told, with its fields:", fields["MESSAGE"], fields["REQUEST_ID"])
    finally:
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0


if __name__ == "__main__":
    if sys.argv[1] == "--scratch":
        scratch(sys.argv[2])
    else:
        main(sys.argv[1])
