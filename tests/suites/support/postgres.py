"""PostgreSQL instances that a suite starts, kills, copies and asks.

Python's standard library only.
"""

import os
import pathlib
import shutil
import subprocess

# Small, so that several instances fit on one machine.
SMALL = ("shared_buffers=16MB", "max_connections=40", "autovacuum=off", "max_wal_senders=4")


class Postgres:
    """An instance below `folder`, which the user of `prefix` can write. `tools` is the folder of its programs."""

    def __init__(self, tools, prefix, folder, name, port, addresses="127.0.0.1", tls=None):
        self.tools, self.prefix, self.folder, self.port, self.addresses = tools, prefix, folder, port, addresses
        self.data, self.log, self.tls = folder / name, folder / f"{name}.log", tls

    def tool(self, name, *words, **more):
        command = [*self.prefix, f"{self.tools}/{name}", *map(str, words)]
        return subprocess.run(command, cwd=self.folder, check=True, **{"stdout": subprocess.DEVNULL, **more})

    def control(self, *words):
        options = [f"-p {self.port} -k {self.folder} -c listen_addresses={self.addresses}", *(f"-c {s}" for s in SMALL)]
        if self.tls:
            options.append(f"-c ssl=on -c ssl_cert_file={self.tls}.pem -c ssl_key_file={self.tls}.key")
        self.tool("pg_ctl", "-D", self.data, "-w", "-l", self.log, "-o", " ".join(options), *words)

    def make(self):
        self.tool("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync")
        rules = "host all all 10.0.0.0/8 trust\n"
        self.tool("psql", "--version")
        subprocess.run([*self.prefix, "tee", "-a", str(self.data / "pg_hba.conf")], input=rules.encode(), check=True,
                       cwd=self.folder, stdout=subprocess.DEVNULL)
        self.control("start")

    def fall(self):
        """Ends it without a checkpoint."""
        self.control("-m", "immediate", "stop")

    def restart(self):
        self.control("-m", "immediate", "restart")

    def replica(self, name, port):
        """A streaming replica on another port, which has started."""
        other = Postgres(self.tools, self.prefix, self.folder, name, port, self.addresses, self.tls)
        self.tool("pg_basebackup", "-D", other.data, "-R", "-c", "fast", "-h", self.folder, "-p", self.port,
                  "-U", "postgres")
        other.control("start")
        return other

    def ask(self, sql):
        asked = self.tool("psql", "-h", self.folder, "-p", self.port, "-U", "postgres", "-At", "-c", sql,
                          stdout=subprocess.PIPE)
        return asked.stdout.decode().strip()

    def cpu_s(self):
        """Seconds of a processor that all its processes have used, those that have ended included."""
        first = subprocess.run([*self.prefix, "head", "-n", "1", str(self.data / "postmaster.pid")], check=True,
                               cwd=self.folder, stdout=subprocess.PIPE).stdout.decode().strip()
        ticks = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[1] == first:
                ticks += int(fields[11]) + int(fields[12])
            if stat.parent.name == first:
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def remove(self):
        try:
            self.fall()
        except subprocess.CalledProcessError:
            pass
        shutil.rmtree(self.data, ignore_errors=True)
