"""Kills and stops the owner of a cluster of two daemons under load, restarts its PostgreSQL, and looks for every
acknowledged event.

Python's standard library only.

cluster.py BINARY FOLDER DATABASE_PORT DATABASE_COMMAND PORT PORT SECONDS
"""

import http.client
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

PRODUCERS = 4
LOAD_S = (1.0, 3.0)
PATIENCE_S = 60
# Time until another node is ready, after a kill and after a stop.
KILLED_S_MAX, STOPPED_S_MAX = 15, 3
STEPPED_DOWN = 75
TIMEOUT_S = 20
# Events of each round that are asked for: the last ones, and some of all.
ASKED_LAST, ASKED_OTHERS = 2000, 500
# The sanctioned ends of a node, after which a supervisor starts it again.
ENDS = (0, STEPPED_DOWN, -signal.SIGKILL)


class Node:
    def __init__(self, binary, folder, port, database):
        self.binary, self.folder, self.port, self.database = binary, folder, port, database
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.data.chmod(0o700)
        self.process = None

    def settings(self, in_cluster):
        text = f'data_dir = "{self.data}"\nlisten = "127.0.0.1:{self.port}"\nmin_free_bytes = 0\n'
        if in_cluster:
            text += (f'[cluster]\nlog = "postgres://postgres@127.0.0.1:{self.database}/postgres"\n'
                     f'url = "http://127.0.0.1:{self.port}"\nnode = "{self.folder.name}"\n'
                     f'key_file = "{self.folder.parent}/replicate.key"\n')
        (self.folder / "postrider.toml").write_text(text)

    def command(self, *words, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
        environment["POSTRIDER_CONFIG"] = str(self.folder / "postrider.toml")
        environment["XDG_RUNTIME_DIR"] = str(self.folder)
        log = (self.folder / "log").open("ab")
        return subprocess.Popen([self.binary, *words], env=environment, **{"stdout": log, "stderr": log, **more})

    def start(self):
        self.process = self.command("serve")

    def said(self):
        return (self.folder / "log").read_text()[-4000:]

    def end(self, how):
        self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE_S)

    def ask(self, method, path, key=None, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            if body is not None:
                headers["content-type"] = "application/json"
            connection.request(method, path, body=json.dumps(body) if body is not None else None, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_ready(self):
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def metric(self, name):
        try:
            _, text = self.ask("GET", "/metrics")
        except (OSError, http.client.HTTPException):
            return None
        return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " ")), None)

    def is_standing_by(self):
        return self.metric("postrider_standby_whole") == 1 and self.metric("postrider_standby_behind_commits") == 0


class Cluster:
    """The nodes, with a supervisor that starts each again once it has ended by itself."""

    def __init__(self, nodes):
        self.nodes, self.paused, self.is_over, self.fault = nodes, set(), False, None
        threading.Thread(target=self.supervise, daemon=True).start()

    def supervise(self):
        while not self.is_over:
            for node in self.nodes:
                if node in self.paused or node.process is None or node.process.poll() is None:
                    continue
                if node.process.returncode not in ENDS:
                    self.fault = f"{node.folder.name} ended with {node.process.returncode}: {node.said()}"
                    return
                node.start()
            time.sleep(0.1)

    def owner(self):
        return next((node for node in self.nodes if node not in self.paused and node.is_ready()), None)

    def until(self, what, look):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.fault:
                raise SystemExit(self.fault)
            found = look()
            if found:
                return found
            time.sleep(0.05)
        raise SystemExit(f"never happened: {what}\n" + "\n".join(node.said() for node in self.nodes))


class Producers:
    """Threads that publish to the node that takes events, and keep the names of what was acknowledged."""

    def __init__(self, cluster, key):
        self.cluster, self.key, self.acknowledged = cluster, key, []
        self.is_over, self.lock, self.next = False, threading.Lock(), 0
        for number in range(PRODUCERS):
            threading.Thread(target=self.run, args=(number,), daemon=True).start()

    def run(self, at):
        while not self.is_over:
            with self.lock:
                self.next += 1
                name = f"event-{self.next}"
            body = {"type": "a", "event_id": name, "data": {"n": self.next}}
            nodes = self.cluster.nodes
            try:
                status, _ = nodes[at % len(nodes)].ask("POST", "/v1/events", self.key, body)
            except (OSError, http.client.HTTPException):
                status = 0
            if status in (200, 201, 202):
                with self.lock:
                    self.acknowledged.append(name)
            else:
                at += 1
                time.sleep(0.05)


def begin(binary, folder, database, ports):
    """A cluster of two nodes, and the key of its store."""
    first, second = (Node(binary, folder / name, int(port), database) for name, port in zip("ab", ports))
    first.settings(False)
    first.start()
    waiting = Cluster([first])
    waiting.paused.add(first)
    waiting.until("the store is made", first.is_ready)
    key = (first.data / "first-key").read_text().strip()
    status, made = first.ask("POST", "/v1/keys", key, {"name": "nodes", "scopes": ["replicate"]})
    assert status == 201, made
    (folder / "replicate.key").write_text(json.loads(made)["key"])
    (folder / "replicate.key").chmod(0o600)
    assert first.end(signal.SIGTERM) == 0, first.said()
    waiting.is_over = True
    first.settings(True)
    assert first.command("cluster", "init").wait() == 0, first.said()
    assert first.command("cluster", "init").wait() != 0, "a cluster is begun once"
    shutil.copy(first.data / "master.key", second.data / "master.key")
    second.settings(True)
    first.start()
    second.start()
    cluster = Cluster([first, second])
    cluster.until("the first node owns the store", first.is_ready)
    cluster.until("the second node stands by", second.is_standing_by)
    return cluster, key


def misfortune(cluster, database, kind):
    """Lets something fail. Returns the time until a node is ready again."""
    owner = cluster.until("there is an owner", cluster.owner)
    other = next(node for node in cluster.nodes if node is not owner)
    cluster.until("the other stands by", other.is_standing_by)
    before = time.monotonic()
    if kind == "database":
        subprocess.run([*database, "-m", "immediate", "restart"], check=True, stdout=subprocess.DEVNULL)
        cluster.until("a node takes events again", cluster.owner)
        return time.monotonic() - before
    cluster.paused.add(owner)
    code = owner.end(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
    assert code in ENDS, f"{code}: {owner.said()}"
    stopped = before if kind == "kill" else time.monotonic()
    cluster.until("the other node owns the store", other.is_ready)
    took = time.monotonic() - stopped
    limit = KILLED_S_MAX if kind == "kill" else STOPPED_S_MAX
    assert took <= limit, f"ready {took:.1f} s after a {kind}: {other.said()}"
    owner.start()
    cluster.paused.discard(owner)
    return took


def main():
    binary, folder, database_port, database, *ports = sys.argv[1:7]
    seconds, folder, database = float(sys.argv[7]), pathlib.Path(folder), shlex.split(database)
    cluster, key = begin(binary, folder, int(database_port), ports)
    producers = Producers(cluster, key)
    end, rounds, times = time.monotonic() + seconds, 0, {}
    kinds = ["kill", "database", "stop"]
    while time.monotonic() < end or rounds < len(kinds):
        time.sleep(random.uniform(*LOAD_S))
        kind = kinds[rounds % len(kinds)]
        took = misfortune(cluster, database, kind)
        times.setdefault(kind, []).append(took)
        owner = cluster.until("there is an owner", cluster.owner)
        with producers.lock:
            names = list(producers.acknowledged)
            del producers.acknowledged[:]
        # Those of the last moments are the ones that a fault could lose.
        asked = names[-ASKED_LAST:] + random.sample(names, min(len(names), ASKED_OTHERS))
        missing = [name for name in asked if cluster.until(
            "an answer", lambda: ask_status(cluster, key, name)) != 200]
        assert not missing, f"acknowledged and gone: {missing[:10]} and {len(missing)} in all"
        rounds += 1
        print(f"round {rounds}, {kind}: ready after {took:.2f} s, {len(names)} acknowledged, none of {len(asked)} missing", flush=True)
    producers.is_over = True
    shown = cluster.nodes[0].command("cluster", "status", "-o", "json", stdout=subprocess.PIPE).communicate()[0]
    nodes = json.loads(shown)["nodes"]
    assert [node["node"] for node in nodes] == ["a", "b"] and sum(node["owner"] for node in nodes) == 1, shown
    cluster.is_over = True
    time.sleep(0.3)
    leave(cluster, key, names[-100:])
    for kind, took in times.items():
        print(f"{kind}: {len(took)} times, ready after {min(took):.2f} to {max(took):.2f} s")
    print(f"{rounds} faults, nothing acknowledged was lost")


def leave(cluster, key, names):
    """Ends the cluster with one of its nodes, which serves by itself afterwards with every event."""
    first, second = cluster.nodes
    assert first.command("cluster", "leave").wait() != 0, "a store that runs leaves no cluster"
    first.end(signal.SIGTERM)
    assert first.command("cluster", "leave").wait() != 0, "the other node lives"
    second.end(signal.SIGTERM)
    # A node counts as alive for ten seconds.
    cluster.until("the store leaves", lambda: first.command("cluster", "leave").wait() == 0)
    first.settings(False)
    first.start()
    cluster.until("the store serves by itself", first.is_ready)
    missing = [name for name in names if first.ask("GET", f"/v1/events/{name}", key)[0] != 200]
    assert not missing, f"gone after leaving: {missing[:10]}"
    second.start()
    cluster.until("the other node waits", second.is_standing_by)
    time.sleep(5)
    assert second.is_standing_by(), second.said()
    for node in cluster.nodes:
        node.end(signal.SIGTERM)


def ask_status(cluster, key, name):
    """The status of an event at the owner. None while there is no owner."""
    for node in cluster.nodes:
        try:
            status, _ = node.ask("GET", f"/v1/events/{name}", key)
        except (OSError, http.client.HTTPException):
            continue
        if status in (200, 404):
            return status
    return None


main()
