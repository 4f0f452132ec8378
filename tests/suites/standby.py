"""Kills the owner of a pair of daemons under load, promotes its standby, and looks for every acknowledged event.

Python's standard library only.

standby.py BINARY FOLDER PORT PORT SECONDS
"""

import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time

PRODUCERS = 4
LOAD_S = (1.0, 4.0)
PATIENCE_S = 60
OVERTAKEN = 76
TIMEOUT_S = 15


class Machine:
    def __init__(self, binary, folder, port):
        self.binary, self.folder, self.port = binary, folder, port
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.data.chmod(0o700)
        self.process = None
        self.tls = ssl.create_default_context(cafile=str(folder.parent / "ca.pem"))

    def settings(self, other=None, required=False):
        top = self.folder.parent
        text = (f'data_dir = "{self.data}"\nlisten = "127.0.0.1:{self.port}"\nmin_free_bytes = 0\n'
                f'[server]\ntls_cert = "{top}/server.pem"\ntls_key = "{top}/server.key"\n')
        if other:
            text += (f'[standby]\nof = "https://localhost:{other.port}"\nkey_file = "{top}/standby.key"\n'
                     f'ca_file = "{top}/ca.pem"\nrequired = {str(required).lower()}\n')
        (self.folder / "postrider.toml").write_text(text)

    def command(self, *words):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
        environment["POSTRIDER_CONFIG"] = str(self.folder / "postrider.toml")
        environment["XDG_RUNTIME_DIR"] = str(self.folder)
        log = (self.folder / "log").open("ab")
        return subprocess.Popen([self.binary, *words], env=environment, stdout=log, stderr=log)

    def start(self):
        self.process = self.command("serve")

    def said(self):
        return (self.folder / "log").read_text()[-3000:]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, method, path, key=None, body=None):
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.tls, timeout=TIMEOUT_S)
        try:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            if body is not None:
                headers["content-type"] = "application/json"
            connection.request(method, path, body=json.dumps(body) if body is not None else None, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name):
        try:
            _, text = self.ask("GET", "/metrics")
        except OSError:
            return None
        for line in text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None

    def is_ready(self):
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def is_in_step(self):
        return (self.metric("postrider_standby_connected") == 1 and self.metric("postrider_standby_whole") == 1
                and self.metric("postrider_standby_behind_commits") == 0)

    def give_up_store(self):
        """Moves the data directory away, and keeps the master key."""
        old = self.folder / f"data.{time.monotonic_ns()}"
        self.data.rename(old)
        self.data.mkdir()
        self.data.chmod(0o700)
        shutil.copy(old / "master.key", self.data / "master.key")
        shutil.rmtree(old)


def until(what, look):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if look():
            return
        time.sleep(0.05)
    raise SystemExit(f"never happened: {what}")


class Producers:
    """Threads that publish to the current owner, and keep the names of what was acknowledged."""

    def __init__(self, owner, key):
        self.owner, self.key, self.acknowledged = owner, key, []
        self.is_over, self.lock, self.next = False, threading.Lock(), 0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(PRODUCERS)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.is_over:
            with self.lock:
                self.next += 1
                name = f"event-{self.next}"
            body = {"type": "a", "event_id": name, "data": {"n": self.next}}
            try:
                status, _ = self.owner.ask("POST", "/v1/events", self.key, body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            if status in (200, 201, 202):
                with self.lock:
                    self.acknowledged.append(name)
            else:
                time.sleep(0.05)


def main():
    binary, folder, *ports = sys.argv[1:5]
    seconds, folder = float(sys.argv[5]), pathlib.Path(folder)
    owner, standby = (Machine(binary, folder / name, int(port)) for name, port in zip("ab", ports))
    owner.settings()
    owner.start()
    until("the first owner is ready", owner.is_ready)
    key = (owner.data / "first-key").read_text().strip()
    status, made = owner.ask("POST", "/v1/keys", key, {"name": "standby", "scopes": ["replicate"]})
    assert status == 201, made
    (folder / "standby.key").write_text(json.loads(made)["key"])
    (folder / "standby.key").chmod(0o600)
    shutil.copy(owner.data / "master.key", standby.data / "master.key")
    standby.settings(owner)
    standby.start()
    until("the standby has a copy", standby.is_in_step)
    owner.settings(standby, required=True)
    standby.settings(owner, required=True)
    owner.process.send_signal(signal.SIGHUP)
    until("it is required", lambda: owner.metric("postrider_standby_required") == 1)
    standby.kill()
    standby.start()
    until("the standby resumes", standby.is_in_step)
    producers = Producers(owner, key)
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        time.sleep(random.uniform(*LOAD_S))
        before = time.monotonic()
        owner.kill()
        promoted = standby.command("promote").wait()
        assert promoted == 0, standby.said()
        until("the promoted one is ready", standby.is_ready)
        took = time.monotonic() - before
        owner.start()
        code = owner.process.wait(timeout=PATIENCE_S)
        assert code == OVERTAKEN, f"the former owner ended with {code}: {owner.said()}"
        with producers.lock:
            names = list(producers.acknowledged)
        missing = [name for name in names if standby.ask("GET", f"/v1/events/{name}", key)[0] != 200]
        assert not missing, f"acknowledged and gone: {missing[:10]} and {len(missing)} in all"
        owner.give_up_store()
        owner.start()
        until("the former owner is in step", owner.is_in_step)
        with producers.lock:
            del producers.acknowledged[:]
        owner, standby = standby, owner
        producers.owner = owner
        rounds += 1
        print(f"round {rounds}: ready after {took:.2f} s, {len(names)} acknowledged, none missing", flush=True)
    producers.is_over = True
    for machine in (owner, standby):
        machine.process.send_signal(signal.SIGTERM)
        machine.process.wait(timeout=PATIENCE_S)
    assert rounds > 0
    print(f"{rounds} owners killed, nothing acknowledged was lost")


main()
