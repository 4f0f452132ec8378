"""Kills the owner of a pair of daemons under load, promotes its standby, and looks for every acknowledged event.

Python's standard library only.

standby.py BINARY FOLDER PORT PORT SECONDS
"""

import json
import pathlib
import random
import shutil
import signal
import ssl
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
from machines import PATIENCE_S, Machine, Producers, until

LOAD_S = (1.0, 4.0)
OVERTAKEN = 76


class Half(Machine):
    """A machine of the pair."""

    def __init__(self, binary, folder, port):
        tls = ssl.create_default_context(cafile=str(folder.parent / "ca.pem"))
        super().__init__(binary, folder, port, tls, "localhost")

    def settings(self, other=None, required=False):
        top = self.folder.parent
        text = (f'data_dir = "{self.data}"\nlisten = "127.0.0.1:{self.port}"\nmin_free_bytes = 0\n'
                f'[server]\ntls_cert = "{top}/server.pem"\ntls_key = "{top}/server.key"\n')
        if other:
            text += (f'[standby]\nof = "https://localhost:{other.port}"\nkey_file = "{top}/standby.key"\n'
                     f'ca_file = "{top}/ca.pem"\nrequired = {str(required).lower()}\n')
        self.write_settings(text)

    def give_up_store(self):
        """Moves the data directory away, and keeps the master key."""
        old = self.folder / f"data.{time.monotonic_ns()}"
        self.data.rename(old)
        self.data.mkdir()
        self.data.chmod(0o700)
        shutil.copy(old / "master.key", self.data / "master.key")
        shutil.rmtree(old)


def main():
    binary, folder, *ports = sys.argv[1:5]
    seconds, folder = float(sys.argv[5]), pathlib.Path(folder)
    owner, standby = (Half(binary, folder / name, int(port)) for name, port in zip("ab", ports))
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
    until("the standby has a copy", standby.is_standing_by)
    owner.settings(standby, required=True)
    standby.settings(owner, required=True)
    owner.process.send_signal(signal.SIGHUP)
    until("it is required", lambda: owner.metric("postrider_standby_required") == 1)
    standby.kill()
    standby.start()
    until("the standby resumes", standby.is_standing_by)
    owners = [owner]
    producers = Producers(lambda: owners, key)
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
        until("the former owner is in step", owner.is_standing_by)
        producers.taken()
        owner, standby = standby, owner
        owners[0] = owner
        rounds += 1
        print(f"round {rounds}: ready after {took:.2f} s, {len(names)} acknowledged, none missing", flush=True)
    producers.is_over = True
    for machine in (owner, standby):
        machine.process.send_signal(signal.SIGTERM)
        machine.process.wait(timeout=PATIENCE_S)
    assert rounds > 0
    print(f"{rounds} owners killed, nothing acknowledged was lost")


main()
