"""Lets the owners and the databases of several clusters fail side by side under load, and looks for every acknowledged event.

Python's standard library only.

cluster.py BINARY FOLDER POSTGRES_TOOLS POSTGRES_USER_COMMAND POSTGRES_FOLDER CLUSTERS FAULTS
"""

import json
import multiprocessing
import pathlib
import random
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
from machines import NO_ANSWER, PATIENCE_S, Machine, Producers, until
from namespaces import Namespaces
from postgres import Postgres
from sink import Sink

# 20 events a second for each cluster.
PRODUCERS, PAUSE_S = 4, 0.2
LOAD_S = (0.3, 1.2)
# Time until another node is ready, by the median of the times after a kill and after a stop. A single one may wait for the
# machine, which runs other suites.
MEDIAN_S_MAX = {"kill": 15, "cut": 15, "still": 15, "stop": 3}
SLOWNESS = 3
JUDGED_MIN = 5
LEASE_S, STILL_S = 10, 12
STEPPED_DOWN = 75
# The sanctioned ends of a node, after which a supervisor starts it again.
ENDS = (0, STEPPED_DOWN, -signal.SIGKILL)
CYCLE = ["kill", "fall", "stop", "crash", "fall", "kill", "crash"]
# Events for PostgreSQL's time and bytes per event.
MEASURED, BATCH = 5000, 100
IDLE_S = 10
# Time without a delivery after which all have come.
STILL_DELIVERIES_S = 6


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Node(Machine):
    """A node of a cluster. `engine` has the host and the port of its database, and parameters of the URL."""

    def settings(self, engine=None, name=None):
        text = (f'data_dir = "{self.data}"\nlisten = "{self.host}:{self.port}"\nmin_free_bytes = 0\n'
                '[delivery]\nallow = ["127.0.0.1", "10.0.0.0/8"]\n')
        if engine:
            host, port, parameters = engine
            text += (f'[cluster]\nlog = "postgres://postgres@{host}:{port}/postgres{parameters}"\n'
                     f'url = "http://{self.host}:{self.port}"\nnode = "{name or self.folder.name}"\n'
                     f'key_file = "{self.folder.parent}/replicate.key"\n')
        self.write_settings(text)

    def finish(self, *words):
        """Runs a verb. Returns its exit code and its output."""
        done = self.command(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = done.communicate(timeout=PATIENCE_S)[0].decode()
        return done.returncode, said


class Cluster:
    """Two nodes with a database, a receiver, and a supervisor that starts each node again once it has ended by itself."""

    def __init__(self, number, binary, folder, tools, prefix, databases):
        self.folder, self.name = folder / str(number), f"cluster {number}"
        self.databases, self.paused, self.is_over, self.fault = databases, set(), False, None
        self.space, self.times, self.faults, self.asked = None, {}, 0, 0
        self.has_tls = number == 0
        hosts, addresses, engine = ["127.0.0.1"] * 2, "127.0.0.1", "127.0.0.1"
        if number == 2:
            self.space = Namespaces()
            if self.space.make():
                hosts, addresses, engine = self.space.addresses, f"127.0.0.1,{self.space.engine}", self.space.engine
            else:
                self.say("this machine permits no network namespaces: the owner is not cut off")
                self.space.remove()
                self.space = None
        tls = databases / "server" if self.has_tls else None
        self.database = Postgres(tools, prefix, databases, f"data-{number}", free_port(), addresses, tls)
        self.engine = (engine, self.database.port, "?sslmode=require" if self.has_tls else "")
        self.nodes = [Node(binary, self.folder / name, free_port(), None, host) for name, host in zip("ab", hosts)]
        for node, name in zip(self.nodes, self.space.names if self.space else []):
            node.prefix = ["ip", "netns", "exec", name]
        for node in self.nodes if self.has_tls else []:
            node.environment = {"SSL_CERT_FILE": str(folder / "ca.pem")}
        self.sink = Sink(self.space.host if self.space else "127.0.0.1", self.pids)

    def say(self, words):
        print(f"{self.name}: {words}", flush=True)

    def pids(self):
        return [node.process.pid for node in self.nodes if node.process]

    def begin(self):
        self.database.make()
        first, second = self.nodes
        first.settings()
        first.start()
        self.until("the store is made", first.is_ready)
        self.key = (first.data / "first-key").read_text().strip()
        status, made = first.ask("POST", "/v1/keys", self.key, {"name": "nodes", "scopes": ["replicate"]})
        assert status == 201, made
        (self.folder / "replicate.key").write_text(json.loads(made)["key"])
        (self.folder / "replicate.key").chmod(0o600)
        status, made = first.ask("POST", "/v1/webhooks", self.key, {"url": self.sink.url})
        assert status == 201, made
        assert first.end(signal.SIGTERM) == 0, first.said()
        first.settings(self.engine)
        if self.has_tls:
            self.refuse_other_authority(first)
        self.says(first, "init", 0, "this store begins the cluster, with every commit up to ", "start it with postrider serve")
        self.says(first, "init", 1, "only an owner's store begins a cluster")
        shutil.copy(first.data / "master.key", second.data / "master.key")
        second.settings(self.engine)
        first.start()
        self.until("the first node owns the store", first.is_ready)
        self.refuse_second(first, second)
        second.start()
        threading.Thread(target=self.supervise, daemon=True).start()
        self.until("the second node stands by", second.is_standing_by)
        self.producers = Producers(lambda: self.nodes, self.key, PRODUCERS, PAUSE_S)

    def says(self, node, verb, code, *words):
        """Runs `postrider cluster VERB`, which ends with a code and says some words."""
        ended, said = node.finish("cluster", verb)
        assert ended == code and all(word in said for word in words), f"{verb} ended with {ended}: {said}"

    def refuse_second(self, first, second):
        """A second machine with the name of a node that lives does not start, and takes nothing from it."""
        second.settings(self.engine, first.folder.name)
        code, said = second.finish("serve")
        assert code == 1 and f"a node named {first.folder.name} lives at http://{first.host}:{first.port}" in said, said
        assert first.is_ready(), first.said()
        second.settings(self.engine)
        self.say("a second machine with the name of a node is refused")

    def refuse_other_authority(self, node):
        right = node.environment
        node.environment = {"SSL_CERT_FILE": str(self.folder.parent / "other.pem")}
        code, said = node.finish("cluster", "init")
        assert code != 0 and "certificate" in said, said
        node.environment = right
        self.say("a database with the certificate of another authority is refused")

    def supervise(self):
        while not self.is_over:
            for node in self.nodes:
                if node in self.paused or node.process.poll() is None:
                    continue
                if node.process.returncode not in ENDS:
                    self.fault = f"{node.folder.name} ended with {node.process.returncode}: {node.said()}"
                    return
                node.start()
            time.sleep(0.1)

    def until(self, what, look):
        def watched():
            if self.fault:
                raise SystemExit(f"{self.name}: {self.fault}")
            return look()
        return until(f"{self.name}: {what}", watched, lambda: "\n".join(node.said() for node in self.nodes))

    def owner(self):
        return next((node for node in self.nodes if node not in self.paused and node.is_ready()), None)

    def pair(self):
        """The owner and the other node, which stands by."""
        owner = self.until("there is an owner", self.owner)
        other = next(node for node in self.nodes if node is not owner)
        self.until("the other stands by", other.is_standing_by)
        return owner, other

    def resume(self, node):
        """Starts a node that a fault has ended."""
        node.start()
        self.paused.discard(node)

    def fail(self, kind):
        """Lets something fail. Notes the time until a node is ready again, and looks for every event."""
        time.sleep(random.uniform(*LOAD_S))
        owner, other = self.pair()
        took = getattr(self, kind)(owner, other)
        self.times.setdefault(kind, []).append(took)
        limit = MEDIAN_S_MAX.get(kind, PATIENCE_S) * SLOWNESS
        assert took <= limit, f"{self.name}: ready {took:.1f} s after: {kind}: {other.said()}"
        self.faults += 1
        self.look_for_all()

    def kill(self, owner, other):
        self.paused.add(owner)
        before = time.monotonic()
        owner.kill()
        self.until("the other node owns the store", other.is_ready)
        took = time.monotonic() - before
        self.resume(owner)
        return took

    def crash(self, owner, _):
        """Kills the owner. Its supervisor starts it at once, and it takes its own lease again. No heartbeat then reports fewer
        commits than it has, so that no other node goes ahead of it."""
        least, before = self.applied(owner), time.monotonic()
        owner.kill()

        def look():
            applied = self.applied(owner)
            assert applied >= least, f"{owner.folder.name} had {least} commits, and its heartbeat showed {applied}"
            return self.owner()
        self.until("a node owns the store", look)
        return time.monotonic() - before

    def applied(self, node):
        return int(self.database.ask(f"select applied from postrider.member where node = '{node.folder.name}'"))

    def stop(self, owner, other):
        self.paused.add(owner)
        code = owner.end(signal.SIGTERM)
        assert code == 0, f"{code}: {owner.said()}"
        before = time.monotonic()
        self.until("the other node owns the store", other.is_ready)
        took = time.monotonic() - before
        self.resume(owner)
        return took

    def fall(self, *_):
        """PostgreSQL ends without a checkpoint, and starts again."""
        before = time.monotonic()
        self.database.restart()
        self.until("a node takes events again", self.owner)
        return time.monotonic() - before

    def still(self, owner, other):
        """The owner stands still for longer than its lease lasts, and wakes."""
        self.paused.add(owner)
        before = time.monotonic()
        owner.process.send_signal(signal.SIGSTOP)
        self.until("the other node owns the store", other.is_ready)
        took = time.monotonic() - before
        time.sleep(max(0, STILL_S - took))
        owner.process.send_signal(signal.SIGCONT)
        code = owner.process.wait(timeout=PATIENCE_S)
        assert code == STEPPED_DOWN, f"the owner that stood still ended with {code}: {owner.said()}"
        self.resume(owner)
        return took

    def cut(self, owner, other):
        """The owner is cut off from PostgreSQL, and from nothing else."""
        self.paused.add(owner)
        name = self.space.names[self.nodes.index(owner)]
        before = time.monotonic()
        self.space.cut(name)
        self.until("the other node owns the store", other.is_ready)
        took = time.monotonic() - before
        code = owner.process.wait(timeout=PATIENCE_S)
        assert code == STEPPED_DOWN, f"the owner that was cut off ended with {code}: {owner.said()}"
        self.space.mend(name)
        self.resume(owner)
        return took

    def look_for_all(self):
        names = self.producers.taken()
        missing = [name for name in names if self.until("an answer", lambda: self.status_of(name)) != 200]
        assert not missing, f"{self.name}: acknowledged and gone: {missing[:10]} and {len(missing)} in all"
        self.asked += len(names)

    def status_of(self, name):
        """The status of an event at the owner. None while there is no owner."""
        for node in self.nodes:
            try:
                status, _ = node.ask("GET", f"/v1/events/{name}", self.key)
            except NO_ANSWER:
                continue
            if status in (200, 404):
                return status
        return None

    def promote(self):
        """The database fails over to a replica that lacks its tail. The owner appends that again from memory."""
        owner, _ = self.pair()
        replica = self.database.replica("replica", free_port())
        replica.control("-m", "fast", "stop")
        count = len(self.producers.acknowledged)
        self.until("the replica lacks events", lambda: len(self.producers.acknowledged) > count + 1)
        self.fail_over(replica)
        self.until("a node takes events", self.owner)
        healed = self.until("the log is healed", lambda: owner.metric("postrider_cluster_healed_commits"))
        self.faults += 1
        self.pair()
        self.look_for_all()
        self.say(f"the owner appended {healed:.0f} commits again, which the promoted replica lacked")

    def fail_over(self, replica):
        self.database.fall()
        replica.port = self.database.port
        replica.control("start")
        replica.control("promote")
        self.database = replica

    def rebase(self):
        """As before, and the owner dies too: no node may take over. The log goes on from its store by hand."""
        owner, other = self.pair()
        replica = self.database.replica("replica-2", free_port())
        replica.control("-m", "fast", "stop")
        # The other node has commits that the replica lacks, and lacks some that the owner has.
        self.paused |= {owner, other}
        for node in (other, owner):
            count = len(self.producers.acknowledged)
            self.until("more events are taken", lambda count=count: len(self.producers.acknowledged) > count + 1)
            node.kill()
        self.fail_over(replica)
        code, said = owner.finish("cluster", "rebase")
        if "the lease of another node" in said:
            self.until("the lease has run out", lambda: owner.finish("cluster", "rebase")[0] == 0)
        else:
            assert code == 0, said
        self.resume(owner)
        self.until("the node owns the store", owner.is_ready)
        self.resume(other)
        self.until("the other copies the store", other.is_standing_by)
        orphans = list((other.data / "orphans").iterdir())
        assert len(orphans) == 1 and (orphans[0] / "state.redb").exists(), f"{orphans}: {other.said()}"
        self.faults += 1
        self.look_for_all()
        self.kill(*self.pair())
        self.look_for_all()
        self.say("the log went on by hand from the store of a node, and the other node copied that")

    def refuse_records(self):
        """PostgreSQL renews the lease and takes no record, as with a full disk: changes are refused, and go on afterwards."""
        owner, _ = self.pair()
        constraint = "refused"
        self.database.ask(f"alter table postrider.log add constraint {constraint} check (number < 0) not valid")
        self.until("the owner is unready", lambda: "log_unanswered" in owner.ask("GET", "/readyz")[1])
        status, said = owner.ask("POST", "/v1/events", self.key, {"type": "a", "data": {}})
        assert status == 503 and "log_unanswered" in said, said
        assert "PostgreSQL took no commit" in owner.said(), owner.said()
        self.database.ask(f"alter table postrider.log drop constraint {constraint}")
        self.until("the owner is ready again", owner.is_ready)
        assert "PostgreSQL takes commits again" in owner.said(), owner.said()
        self.faults += 1
        self.look_for_all()
        self.say("changes were refused while PostgreSQL took no records, and the owner went on")

    def measure(self):
        """PostgreSQL's time and bytes for an event's life, at batches."""
        owner, _ = self.pair()
        self.producers.is_over = True
        self.until_still()
        # Heartbeats and the looks of the node that stands by go on without events.
        cpu, began = self.database.cpu_s(), time.monotonic()
        time.sleep(IDLE_S)
        idle = (self.database.cpu_s() - cpu) / (time.monotonic() - began)
        cpu, wal, commits, delivered = self.database.cpu_s(), self.wal(), self.commits(), self.sink.count
        began = time.monotonic()
        for _ in range(MEASURED // BATCH):
            events = {"events": [{"type": "a", "data": {"n": number}} for number in range(BATCH)]}
            status, said = owner.ask("POST", "/v1/events/batch", self.key, events)
            assert status in (200, 201, 202, 207), said
        self.until_still()
        assert self.sink.count >= delivered + MEASURED, f"{self.sink.count - delivered} of {MEASURED} delivered"
        cpu = self.database.cpu_s() - cpu - idle * (time.monotonic() - began)
        wal, commits = self.wal() - wal, self.commits() - commits
        self.say(f"PostgreSQL used {cpu / MEASURED * 1e6:.0f} us of a processor and {wal / MEASURED:.0f} bytes of WAL for an "
                 f"event's life, with {MEASURED} events in batches of {BATCH}, and {commits:.0f} commits in all; without "
                 f"events it uses {idle * 1e3:.1f} ms a second")

    def until_still(self):
        """Waits until no delivery has come for a while."""
        count = -1
        while self.sink.count > count:
            count = self.sink.count
            time.sleep(STILL_DELIVERIES_S)

    def wal(self):
        return float(self.database.ask("select pg_current_wal_lsn() - '0/0'::pg_lsn"))

    def commits(self):
        return float(self.database.ask("select max(number) from postrider.log"))

    def doctor(self):
        """The doctor tells a pooler of transactions."""
        node = self.nodes[0]
        if not pathlib.Path("/usr/sbin/pgbouncer").exists():
            return self.say("there is no pgbouncer: no pooler of transactions is tried")
        port, folder = free_port(), self.databases
        text = (f"[databases]\n* = user=postgres host={folder} port={self.database.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
                f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
                f"ignore_startup_parameters = extra_float_digits\n")
        subprocess.run([*self.database.prefix, "tee", str(folder / "pgbouncer.ini")], input=text.encode(), check=True,
                       stdout=subprocess.DEVNULL)
        pooler = subprocess.Popen([*self.database.prefix, "/usr/sbin/pgbouncer", "-q", str(folder / "pgbouncer.ini")],
                                  cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self.until("the pooler listens", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            node.settings(("127.0.0.1", port, ""))
            code, said = node.finish("cluster", "status")
            assert code != 0 and "pooler of transactions" in said, said
            node.settings(self.engine)
            code, said = node.finish("cluster", "status")
            assert code == 0, said
            self.say("a pooler of transactions is told")
        finally:
            node.settings(self.engine)
            pooler.terminate()
            pooler.wait()

    def leave(self):
        """Ends the cluster with one of its nodes, which serves by itself afterwards with every event."""
        self.pair()
        self.producers.is_over = True
        code, shown = self.nodes[0].finish("cluster", "status", "-o", "json")
        nodes = json.loads(shown)["nodes"]
        assert [node["node"] for node in nodes] == ["a", "b"] and sum(node["owner"] for node in nodes) == 1, shown
        self.is_over = True
        time.sleep(0.3)
        names = self.producers.taken()
        first, second = self.nodes
        self.says(first, "leave", 1, "another postrider is running on this data directory")
        first.end(signal.SIGTERM)
        self.says(first, "leave", 1, "the node b lives: stop all other nodes first")
        second.end(signal.SIGTERM)
        # A node counts as alive for ten seconds.
        left = self.until("the store leaves", lambda: (lambda done: done[0] == 0 and done[1])(first.finish("cluster", "leave")))
        assert "this store is by itself again, with every commit up to " in left and "drop schema postrider cascade" in left, left
        self.says(first, "leave", 1, "this store is in no cluster")
        first.settings()
        first.start()
        self.until("the store serves by itself", first.is_ready)
        missing = [name for name in names if first.ask("GET", f"/v1/events/{name}", self.key)[0] != 200]
        assert not missing, f"gone after leaving: {missing[:10]}"
        second.start()
        self.until("the other node waits", second.is_standing_by)
        time.sleep(5)
        assert second.is_standing_by(), second.said()
        self.say("a store left its cluster, and the other node takes nothing over")

    def end(self):
        self.is_over = True
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.process.kill()
                node.process.wait()
        self.database.remove()
        if self.space:
            self.space.remove()


def work(number, count, faults, arguments, results):
    """Runs one cluster of `count`, with its share of the faults."""
    cluster = Cluster(number, *arguments)
    try:
        cluster.begin()
        for fault in range(faults):
            cluster.fail(CYCLE[(number + fault) % len(CYCLE)] if fault != 3 else "still")
        extra = {0: ["doctor"], 1: ["promote", "rebase"], 2: ["refuse_records"], 3: ["measure"], count - 1: ["leave"]}.get(number, [])
        if cluster.space:
            cluster.fail("cut")
        for step in extra:
            getattr(cluster, step)()
        overlap = cluster.sink.overlap_s()
        assert overlap <= LEASE_S, f"{cluster.name}: two nodes sent for {overlap:.1f} s"
        results.put((number, cluster.times, cluster.faults, cluster.asked, cluster.sink.count, overlap))
        cluster.say(f"{cluster.faults} faults, none of {cluster.asked} acknowledged events is missing")
    finally:
        cluster.end()


def main():
    binary, folder, tools, prefix, databases, count, faults = sys.argv[1:8]
    arguments = (binary, pathlib.Path(folder), tools, shlex.split(prefix), pathlib.Path(databases))
    count, faults, results = int(count), int(faults), multiprocessing.Queue()
    began, workers = time.monotonic(), []
    for number in range(count):
        share = faults // count + (number < faults % count)
        workers.append(multiprocessing.Process(target=work, args=(number, count, share, arguments, results)))
        workers[-1].start()
    done = []
    while len(done) < count:
        for worker in workers:
            worker.join(0.1)
            if worker.exitcode:
                for other in workers:
                    other.terminate()
                raise SystemExit("a cluster failed")
        while not results.empty():
            done.append(results.get())
    for worker in workers:
        worker.join()
    kinds = sorted({kind for _, times, *_ in done for kind in times})
    for kind in kinds:
        times = [took for _, by_kind, *_ in done for took in by_kind.get(kind, [])]
        median = statistics.median(times)
        print(f"{kind}: {len(times)} times, ready after {min(times):.2f} to {max(times):.2f} s, by the median {median:.2f} s")
        # A few times are no median.
        if len(times) >= JUDGED_MIN:
            assert median <= MEDIAN_S_MAX.get(kind, PATIENCE_S), f"{kind}: {median:.1f} s by the median"
    _, _, failed, asked, delivered, overlaps = zip(*done)
    print(f"two nodes sent at once for {max(overlaps):.2f} s at most, with {sum(delivered)} deliveries")
    print(f"{sum(failed)} faults in {time.monotonic() - began:.0f} s, none of {sum(asked)} acknowledged events was lost")


main()
