"""The real binary where something runs out: file descriptors, memory, space on the disk. Then with thousands of silent
clients, and on a disk whose syncs fail. Prints its measurements. Python's standard library only.

limits.py BINARY [part ...]     part: descriptors idle memory bodies disk sync
"""

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from kill import Daemon, Receiver, drain, fail, free_port

DESCRIPTORS = 96
IDLE_CLIENTS = 5000
WAITING = 1_000_000
BATCH = 1000
MEMORY_BYTES = 256 << 20
# Webhooks of one app, each with events of this size whose bodies take four times as much, and the most resident then.
DEAF_WEBHOOKS = 300
LARGE = 1_000_000
BODIES_RESIDENT_MAX = 512 << 20
# Time that the disk stays full, and the log lines of that time, however many publishes are refused.
FULL_S = 5
FULL_LINES_MAX = 30
# Time after there is space again.
RESUMES_WITHIN_S = 10
EXIT_STORAGE = 74
# A large event, and an amount above the capacity of the write-ahead log without a checkpoint.
FILL = 200_000
CHECKPOINT_BYTES_MAX = 64 << 20


def publish(daemon, count, fill=0, connection=None):
    """Publishes one by one. Returns the accepted events, and the first answer that is not 202."""
    accepted = {}
    for number in range(count):
        key = "%d-%d" % (time.monotonic_ns(), number)
        event = {"type": "load.made", "event_id": key, "data": {"key": key, "fill": "x" * fill}}
        status, answer = daemon.ask("POST", "/v1/events", event, connection=connection, once=connection is None)
        if status != 202:
            return accepted, (status, answer)
        accepted[key] = answer["id"]
    return accepted, None


def webhook(daemon, url, **fields):
    body = {"url": url, "retry_schedule_s": [1] * 60, "disable_after_s": 0}
    body.update(fields)
    status, answer = daemon.ask("POST", "/v1/webhooks", body, once=True)
    if status != 201:
        fail("the webhook is refused: %s" % answer, daemon)
    return answer["id"]


def status_of(daemon, name):
    """A figure of /proc/<pid>/status, in bytes."""
    with open("/proc/%d/status" % daemon.process.pid, encoding="ascii") as file:
        line = next(line for line in file if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def stop(daemon):
    if daemon.process.poll() is None:
        daemon.process.terminate()
        if daemon.process.wait(60) != 0:
            fail("it does not exit with 0", daemon)


def descriptors(daemon, receiver):
    """Clients take every descriptor: the daemon goes on when they are gone, and has lost nothing."""
    daemon.prepare = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    daemon.start()
    webhook(daemon, "http://127.0.0.1:%d/steady" % receiver.port)
    accepted, refused = publish(daemon, 20)
    if refused:
        fail("a publish was answered with %s" % (refused,), daemon)
    clients = []
    while len(clients) < 2 * DESCRIPTORS:
        clients.append(socket.create_connection(daemon.address))
    # The oldest of them were closed for the newest, which makes a request.
    clients[-1].sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    if not clients[-1].recv(1000).startswith(b"HTTP/1.1 200 "):
        fail("a new client is not answered", daemon)
    time.sleep(1)
    for client in clients:
        client.close()
    began = time.monotonic()
    more, refused = publish(daemon, 20)
    if refused:
        fail("a publish was answered with %s" % (refused,), daemon)
    accepted.update(more)
    drain(daemon, receiver, ["/steady"], accepted)
    print("descriptors: %d of %d taken by clients; well again %.1f s after they had gone" % (
        2 * DESCRIPTORS, DESCRIPTORS, time.monotonic() - began))
    stop(daemon)


def idle(daemon, receiver):
    """Thousands of silent connections cost no other client anything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE_CLIENTS + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        print("idle: skipped, only %d descriptors may be had here" % hard)
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    daemon.start()
    webhook(daemon, "http://127.0.0.1:%d/steady" % receiver.port)
    before = status_of(daemon, "VmRSS")
    clients = [socket.create_connection(daemon.address) for _ in range(IDLE_CLIENTS)]
    began = time.monotonic()
    accepted, refused = publish(daemon, 500)
    took = time.monotonic() - began
    if refused:
        fail("a publish was answered with %s" % (refused,), daemon)
    drain(daemon, receiver, ["/steady"], accepted)
    grown = status_of(daemon, "VmRSS") - before
    print("idle: %d clients that say nothing; %.1f ms a publish meanwhile; %.1f MB more resident" % (
        IDLE_CLIENTS, took * 1000 / 500, grown / 1e6))
    for client in clients:
        client.close()
    stop(daemon)


def batches(daemon, first, count):
    connection, path = daemon.connect(), "/v1/events/batch"
    head = {"content-type": "application/json", "authorization": "Bearer " + daemon.key}
    for start in range(first, first + count, BATCH):
        rows = ('{"type":"load.made","data":{"key":"w-%d"}}' % n for n in range(start, start + BATCH))
        while True:
            connection.request("POST", path, '{"events":[%s]}' % ",".join(rows), head)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status in (200, 202):
                break
            fail("a batch was answered with %s %s" % (answer.status, content[:300]), daemon)


def cgroup(limit):
    """A control group with this memory limit, if the machine permits one. Returns the call that enters it, and its folder."""
    for root, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = os.path.join(root, "postrider-limits-%d" % os.getpid())
        try:
            os.mkdir(folder)
        except OSError:
            continue
        try:
            with open(os.path.join(folder, name), "w", encoding="ascii") as file:
                file.write(str(limit))
        except OSError:
            os.rmdir(folder)
            continue

        def enter():
            with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
        return enter, folder
    return None, None


def memory(daemon, receiver):
    """A million deliveries wait. Publishing, starting and delivering need no more than 256 MB."""
    enter, folder = cgroup(MEMORY_BYTES)
    daemon.prepare = enter
    try:
        daemon.settings["POSTRIDER_PARTITION_MAX_BYTES"] = "1GiB"
        daemon.start()
        waiting = webhook(daemon, "http://127.0.0.1:%d/steady" % receiver.port)
        daemon.ask("POST", "/v1/webhooks/%s/pause" % waiting, {}, once=True)
        began = time.monotonic()
        batches(daemon, 0, WAITING)
        took = time.monotonic() - began
        after_publishing = status_of(daemon, "VmHWM")
        daemon.process.kill()
        daemon.process.wait()
        started = daemon.start()
        other = webhook(daemon, "http://127.0.0.1:%d/other" % receiver.port)
        if daemon.ask("GET", "/v1/stats", once=True)[1]["pending_deliveries"] != WAITING:
            fail("it is not a million that waits", daemon)
        # They begin to drain, and a delivery to another webhook waits for none of them.
        daemon.ask("POST", "/v1/webhooks/%s/resume" % waiting, {}, once=True)
        began = time.monotonic()
        accepted, refused = publish(daemon, 100)
        if refused:
            fail("a publish was answered with %s" % (refused,), daemon)
        other_s = came_at(receiver, "/other", accepted, daemon) - began
        until = time.monotonic() + 10
        while time.monotonic() < until:
            time.sleep(0.5)
        places = receiver.ask("count")[0]
        if places < 1000 or daemon.process.poll() is not None:
            fail("only %d have come" % places, daemon)
        after_delivering = status_of(daemon, "VmHWM")
        print("memory%s: %d waiting, published in %.0f s; most resident %.0f MB while publishing, %.0f MB while starting and "
              "delivering; started after a kill in %.0f ms; 100 to another webhook took %.1f s; %d came" % (
                  " (limited to 256 MB)" if enter else "", WAITING, took, after_publishing / 1e6, after_delivering / 1e6,
                  started * 1000, other_s, places))
        if max(after_publishing, after_delivering) > MEMORY_BYTES:
            fail("more than %d MB" % (MEMORY_BYTES >> 20), daemon)
        daemon.ask("DELETE", "/v1/webhooks/%s" % other, once=True)
        stop(daemon)
    finally:
        if folder:
            if daemon.process and daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
            try:
                os.rmdir(folder)
            except OSError:
                pass


def bodies(daemon, receiver):
    """Large bodies that no receiver reads take a bounded part of the memory, also after a kill, and another app is served."""
    deaf = socket.create_server(("127.0.0.1", 0), backlog=4096)
    daemon.settings["POSTRIDER_DELIVERY__MAX_IN_FLIGHT"] = "1000"
    daemon.start()
    webhook(daemon, "http://127.0.0.1:%d/steady" % receiver.port)
    if daemon.ask("POST", "/v1/apps", {"name": "deaf", "uid": "deaf"}, once=True)[0] != 201:
        fail("the app is refused", daemon)
    for number in range(DEAF_WEBHOOKS):
        webhook(daemon, "http://127.0.0.1:%d/%d" % (deaf.getsockname()[1], number), app_id="deaf", encrypted=True,
                content_type="application/x-www-form-urlencoded", timeout_ms=60_000)
    for _ in range(4):
        event = {"type": "load.made", "app_id": "deaf", "data": "{" * LARGE}
        if daemon.ask("POST", "/v1/events", event, once=True)[0] != 202:
            fail("a large event is refused", daemon)
    most = []
    for _ in range(2):
        accepted, refused = publish(daemon, 20)
        if refused:
            fail("a publish was answered with %s" % (refused,), daemon)
        came_at(receiver, "/steady", accepted, daemon)
        time.sleep(5)
        most.append(status_of(daemon, "VmHWM"))
        if len(most) == 1:
            daemon.process.kill()
            daemon.process.wait()
            daemon.start()
    print("bodies: %d deliveries of %.0f MB that no receiver reads; most resident %.0f MB, and %.0f MB after a kill" % (
        4 * DEAF_WEBHOOKS, 4 * LARGE / 1e6, most[0] / 1e6, most[1] / 1e6))
    if max(most) > BODIES_RESIDENT_MAX:
        fail("more than %d MB" % (BODIES_RESIDENT_MAX >> 20), daemon)
    deaf.close()


def came_at(receiver, path, accepted, daemon):
    wanted, until = {(path, event) for event in accepted.values()}, time.monotonic() + 60
    while time.monotonic() < until:
        if wanted <= receiver.ask("all")[2]:
            return time.monotonic()
        time.sleep(0.2)
    return fail("the last published event does not come", daemon)


def disk(daemon, receiver):
    """A file system that is really full, and has space again."""
    folder = os.path.join(daemon.folder, "small")
    os.mkdir(folder)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], stderr=subprocess.DEVNULL, check=False)
    if mounted.returncode != 0:
        print("disk: skipped, nothing can be mounted here")
        return
    try:
        for floor in ("0", "2MiB"):
            fill_and_free(daemon, receiver, folder, floor)
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        subprocess.run(["umount", folder], check=False)


def lines(daemon):
    with open(daemon.log.name, encoding="utf-8") as log:
        return sum(1 for _ in log)


def fill_and_free(daemon, receiver, folder, floor):
    ballast = os.path.join(folder, "ballast")
    with open(ballast, "wb") as file:
        file.write(bytes(12 << 20))
    daemon.data, daemon.key = os.path.join(folder, "data"), None
    daemon.settings["POSTRIDER_MIN_FREE_BYTES"] = floor
    daemon.start()
    webhook(daemon, "http://127.0.0.1:%d/steady" % receiver.port)
    accepted, refused = publish(daemon, 20_000, fill=20_000)
    if refused is None or refused[0] != 507 or refused[1]["code"] != "disk_full":
        fail("a full disk is answered with %s" % (refused,), daemon)
    more, refused = publish(daemon, 3, fill=20_000)
    if more or refused[0] != 507:
        fail("and then with %s" % (refused,), daemon)
    if daemon.ask("GET", "/readyz", once=True)[0] != 503:
        fail("it is ready with a full disk", daemon)
    before, until, refusals = lines(daemon), time.monotonic() + FULL_S, 0
    while time.monotonic() < until:
        # An event that finds space after all is as good as any other.
        more, refused = publish(daemon, 1, fill=20_000)
        accepted.update(more)
        refusals += refused is not None
        time.sleep(0.02)
    told = lines(daemon) - before
    if told > FULL_LINES_MAX:
        fail("%d lines in the log while %d were refused" % (told, refusals), daemon)
    os.remove(ballast)
    began = time.monotonic()
    while True:
        more, refused = publish(daemon, 1, fill=20_000)
        took = time.monotonic() - began
        if not refused:
            break
        if took > RESUMES_WITHIN_S:
            fail("%s %.0f s after there is space again" % (refused, took), daemon)
        time.sleep(0.05)
    accepted.update(more)
    drain(daemon, receiver, ["/steady"], accepted)
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    connection = daemon.connect()
    for key, event in accepted.items():
        status, answer = daemon.ask("GET", "/v1/events/" + event, connection=connection)
        if status != 200 or answer["data"]["key"] != key:
            fail("%s reads as %s %s" % (key, status, answer), daemon)
    print("disk (min_free_bytes %s): full after %d events; %d refused and %d lines in the log in %d s; taken again %.2f s after "
          "there was space; all there" % (floor, len(accepted) - 1, refusals, told, FULL_S, took))
    stop(daemon)
    shutil.rmtree(daemon.data)


def failing_sync(folder):
    """The library that makes syncs of some files fail (failing_sync.rs)."""
    library = os.path.join(folder, "failing_sync.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "failing_sync.rs")
    subprocess.run(["rustc", "--edition", "2024", "--crate-type", "cdylib", "-o", library, source], check=True)
    return library


def sync(daemon, receiver):
    """A disk whose syncs fail, first of the write-ahead log and then of the partitions. The daemon ends with its code, and
    the next start has every acknowledged event."""
    order = os.path.join(daemon.folder, "failing-sync")
    daemon.settings.update(LD_PRELOAD=failing_sync(daemon.folder), FAILING_SYNC_ORDER=order)
    daemon.start()
    webhook(daemon, "http://127.0.0.1:%d/steady" % receiver.port)
    accepted, _ = publish(daemon, 50)

    def refuse(name):
        with open(order + ".new", "w", encoding="utf-8") as file:
            file.write(os.path.join(os.path.realpath(daemon.data), name))
        os.rename(order + ".new", order)

    def ends(of_what):
        try:
            code = daemon.process.wait(20)
        except subprocess.TimeoutExpired:
            fail("it goes on after a failed sync " + of_what, daemon)
        if code != EXIT_STORAGE:
            fail("it ends with %s after a failed sync %s" % (code, of_what), daemon)
        os.remove(order)

    refuse("journal")
    try:
        more, refused = publish(daemon, 1)
    except (OSError, http.client.HTTPException) as error:
        more, refused = {}, [str(error)]
    if more:
        fail("an event was accepted without a sync", daemon)
    ends("of the write-ahead log")
    daemon.start()
    refuse("partitions/")
    # More than the write-ahead log holds without a checkpoint, which syncs a partition.
    for _ in range(CHECKPOINT_BYTES_MAX // FILL):
        try:
            accepted.update(publish(daemon, 1, FILL)[0])
        except (OSError, http.client.HTTPException):
            break
    ends("of a partition")
    daemon.start()
    drain(daemon, receiver, ["/steady"], accepted)
    print("sync: a publish was answered with %s, then it ended with code %d, as when a partition could not be synced; the "
          "next start had all %d" % (refused[0], EXIT_STORAGE, len(accepted)))
    stop(daemon)


def main():
    # The daemon's messages are in its log. Those of an abandoned receiver are not needed.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    binary = os.path.abspath(sys.argv[1])
    wanted = sys.argv[2:] or ["descriptors", "idle", "memory", "bodies", "disk", "sync"]
    for name in wanted:
        folder = tempfile.mkdtemp(prefix="postrider-limits-")
        receiver = Receiver(1)
        daemon = Daemon(binary, folder, ("127.0.0.1", free_port()))
        began = time.monotonic()
        try:
            globals()[name](daemon, receiver)
        finally:
            if daemon.process and daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
            receiver.process.kill()
            shutil.rmtree(folder, ignore_errors=True)
        print("(%s took %.0f s)" % (name, time.monotonic() - began), flush=True)


if __name__ == "__main__":
    main()
