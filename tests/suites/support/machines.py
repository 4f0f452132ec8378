"""Daemons that a suite starts, kills and asks, and the producers that publish to them.

Python's standard library only.
"""

import http.client
import json
import os
import signal
import subprocess
import threading
import time

PATIENCE_S = 90
TIMEOUT_S = 20
NO_ANSWER = (OSError, http.client.HTTPException)


class Machine:
    """A daemon with a data directory of its own. `tls` is the context of its API, `None` for plain HTTP."""

    def __init__(self, binary, folder, port, tls=None, host="127.0.0.1"):
        self.binary, self.folder, self.port, self.tls, self.host = binary, folder, port, tls, host
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.data.chmod(0o700)
        self.process, self.prefix, self.environment = None, [], {}

    def write_settings(self, text):
        (self.folder / "postrider.toml").write_text(text)

    def command(self, *words, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
        environment |= {"POSTRIDER_CONFIG": str(self.folder / "postrider.toml"), "XDG_RUNTIME_DIR": str(self.folder)}
        environment |= self.environment
        with (self.folder / "log").open("ab") as log:
            words = [*self.prefix, self.binary, *words]
            return subprocess.Popen(words, env=environment, **{"stdout": log, "stderr": log, **more})

    def start(self):
        self.process = self.command("serve")

    def said(self):
        return (self.folder / "log").read_text()[-4000:]

    def end(self, how):
        self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE_S)

    def kill(self):
        self.end(signal.SIGKILL)

    def connection(self, timeout=TIMEOUT_S):
        if self.tls:
            return http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=timeout)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def ask(self, method, path, key=None, body=None, connection=None):
        opened = connection or self.connection()
        try:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            if body is not None:
                headers["content-type"] = "application/json"
            opened.request(method, path, body=json.dumps(body) if body is not None else None, headers=headers)
            answer = opened.getresponse()
            return answer.status, answer.read().decode()
        finally:
            if connection is None:
                opened.close()

    def is_ready(self):
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except NO_ANSWER:
            return False

    def metric(self, name):
        try:
            _, text = self.ask("GET", "/metrics")
        except NO_ANSWER:
            return None
        return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " ")), None)

    def is_standing_by(self):
        """Whether it has a whole copy with every commit that it knows of."""
        return (self.metric("postrider_standby_connected") == 1 and self.metric("postrider_standby_whole") == 1
                and self.metric("postrider_standby_behind_commits") == 0)


def until(what, look, explain=lambda: ""):
    """Waits until `look` finds something, and returns that."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"never happened: {what}\n{explain()}")


class Producers:
    """Threads that publish to the machine that takes events, and keep the names of the acknowledged events.

    `machines` gives the machines to try. `pause_s` is the time of a thread between two events.
    """

    def __init__(self, machines, key, count=4, pause_s=0.0):
        self.machines, self.key, self.pause_s, self.acknowledged = machines, key, pause_s, []
        self.is_over, self.lock, self.next = False, threading.Lock(), 0
        self.threads = [threading.Thread(target=self.run, args=(at,), daemon=True) for at in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, at):
        machine, connection = None, None
        while not self.is_over:
            with self.lock:
                self.next += 1
                number = self.next
            name = f"event-{number}"
            body = {"type": "a", "event_id": name, "data": {"n": number}}
            try:
                if connection is None:
                    machines = self.machines()
                    machine = machines[at % len(machines)]
                    connection = machine.connection()
                status, _ = machine.ask("POST", "/v1/events", self.key, body, connection)
            except NO_ANSWER:
                status = 0
            if status in (200, 201, 202):
                with self.lock:
                    self.acknowledged.append(name)
                time.sleep(self.pause_s)
                continue
            if connection:
                connection.close()
            connection, at = None, at + 1
            time.sleep(0.05)

    def taken(self):
        """The names so far, which are not told again."""
        with self.lock:
            names = list(self.acknowledged)
            del self.acknowledged[:]
        return names
