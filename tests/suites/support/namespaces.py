"""Network namespaces in which the machines of a suite run, on a bridge of this machine. Needs root.

Python's standard library only.
"""

import os
import subprocess


def run(*words):
    return subprocess.run(["ip", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


class Namespaces:
    """Two namespaces, at 10.214.N.2 and 10.214.N.3. `host` is this machine's address for them, `engine` a second one."""

    def __init__(self):
        number = os.getpid() % 250
        self.bridge, self.names = f"prb{number}", [f"pr{number}a", f"pr{number}b"]
        self.host, self.engine = f"10.214.{number}.1", f"10.214.{number}.9"
        self.addresses = [f"10.214.{number}.2", f"10.214.{number}.3"]

    def make(self):
        """Returns whether this machine permits it."""
        made = os.getuid() == 0 and run("link", "add", self.bridge, "type", "bridge")
        made = made and run("addr", "add", f"{self.host}/24", "dev", self.bridge)
        made = made and run("addr", "add", f"{self.engine}/32", "dev", self.bridge)
        made = made and run("link", "set", self.bridge, "up")
        for name, address in zip(self.names, self.addresses):
            made = made and run("netns", "add", name)
            made = made and run("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            made = made and run("link", "set", name, "master", self.bridge, "up")
            made = made and run("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            made = made and run("-n", name, "link", "set", "lo", "up") and run("-n", name, "link", "set", "eth0", "up")
        return made

    def cut(self, name):
        """Cuts a namespace off from the engine, and from nothing else."""
        assert run("-n", name, "route", "add", "blackhole", f"{self.engine}/32")

    def mend(self, name):
        assert run("-n", name, "route", "del", "blackhole", f"{self.engine}/32")

    def remove(self):
        for name in self.names:
            run("netns", "del", name)
        run("link", "del", self.bridge)
