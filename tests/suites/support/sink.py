"""A receiver of deliveries that notes which process sent each.

Python's standard library only.
"""

import http.server
import os
import pathlib
import threading
import time


def sender(pids, port):
    """The process among `pids` whose connection comes from a port. None if there is none."""
    for pid in pids:
        try:
            lines = pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
            fields = (line.split() for line in lines)
            inodes = {field[9] for field in fields if int(field[1].rsplit(":", 1)[1], 16) == port}
            for handle in os.scandir(f"/proc/{pid}/fd"):
                target = os.readlink(handle.path)
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    return pid
        except OSError:
            continue
    return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Connections that wait to be accepted.
    request_queue_size = 128

    def handle_error(self, *_):
        """A killed sender breaks its connections."""


class Sink:
    """Answers every delivery. `spans` has the times of the first and of the last delivery of each process.

    `pids` gives the processes that may send.
    """

    def __init__(self, address, pids):
        self.spans, self.count, self.lock = {}, 0, threading.Lock()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                self.pid = sender(pids(), self.client_address[1])

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                now = time.monotonic()
                with sink.lock:
                    sink.count += 1
                    if self.pid:
                        first, _ = sink.spans.get(self.pid, (now, now))
                        sink.spans[self.pid] = (first, now)
                self.send_response(204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = Server((address, 0), Handler)
        self.url = f"http://{address}:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def overlap_s(self):
        """The longest time for which two processes sent."""
        with self.lock:
            spans = sorted(self.spans.values())
        longest, end = 0, float("-inf")
        for first, last in spans:
            longest, end = max(longest, min(end, last) - first), max(end, last)
        return longest
