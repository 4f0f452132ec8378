"""The installed completions in the real shells: Tab after a beginning at an interactive bash and zsh, and the question
for completions to fish.

HOME holds the scripts where each shell looks for them, and `postrider` is in PATH.
"""

import os
import pty
import re
import select
import subprocess
import sys
import time

PATIENCE_S = 60
#: A beginning, and its text after Tab is pressed.
BEGINNINGS = [
    ("postrider webh", "postrider webhook "),
    ("postrider webhook rot", "postrider webhook rotate-secret "),
    ("postrider webhook create --retry-sch", "postrider webhook create --retry-schedule"),
    ("postrider tail --deliv", "postrider tail --deliveries"),
]
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set enable-bracketed-paste off'; "
             ". /usr/share/bash-completion/bash_completion"),
    "zsh": (["zsh", "-f", "-i"], "unset zle_bracketed_paste; fpath=(~/zsh $fpath); "
            "autoload -U compinit; compinit -u -D"),
}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x07|\r")


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="dumb", PS1="ready> ", LC_ALL="C.UTF-8", COLUMNS="200")
            os.execvp(command[0], command)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def read_until(self, wanted):
        """Everything that is shown until `wanted` is."""
        shown, ends = "", time.monotonic() + PATIENCE_S
        while wanted not in ESCAPES.sub("", shown):
            left = ends - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise SystemExit(f"NOT OK: never shown: {wanted!r} in {shown!r}")
            shown += os.read(self.fd, 65536).decode(errors="replace")
        return shown

    def close(self):
        self.type("\x03exit\n")
        os.close(self.fd)
        os.waitpid(self.pid, 0)


for name, (command, setup) in SHELLS.items():
    terminal = Terminal(command)
    terminal.type(f"{setup}; echo set''up\n")
    terminal.read_until("setup")
    for beginning, whole in BEGINNINGS:
        terminal.type(beginning + "\t")
        terminal.read_until(whole)
        # Ctrl-U empties the line, so that the next beginning is alone on it.
        terminal.type("\x15echo em''pty\n")
        terminal.read_until("empty")
    terminal.close()
    print(f"{name} completes")

for beginning, whole in BEGINNINGS:
    asked = subprocess.run(["fish", "-c", f"complete -C '{beginning}'"], capture_output=True, text=True, check=True)
    offered = [line.split("\t")[0] for line in asked.stdout.splitlines()]
    if whole.split()[-1] not in offered or asked.stderr:
        raise SystemExit(f"NOT OK: fish makes {offered} of {beginning!r}: {asked.stderr}")
print("fish completes")
sys.exit(0)
