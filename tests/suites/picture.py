"""Records `postrider demo` in a terminal as an animated SVG, the picture of the README.

Usage: picture.py PROGRAM OUT.svg          records
       picture.py --check SVG RECORDED     exits with 1 if the two show different lines, figures aside
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from html import escape
from xml.etree import ElementTree

COLUMNS, ROWS = 92, 40
#: Seconds of the recording. The story of the demo ends earlier.
SECONDS = 10
#: Size of a character cell and of the border in pixels.
CELL_WIDTH, CELL_HEIGHT, BORDER = 8.4, 19, 18
#: Pause of the first line, shortest pause between two lines, and pause before the film begins again, in seconds.
FIRST_S, LINE_S, END_S = 1.0, 0.12, 8.0
COLOURS = {"1": "strong", "31": "bad", "32": "good", "33": "wait"}
STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d6dde6; white-space: pre; }
.strong { font-weight: bold; } .bad { fill: #ff8f8f; } .good { fill: #7fdca4; } .wait { fill: #f0c674; } .prompt { fill: #8ab4f8; }
.line { animation: film LENGTHs steps(1, end) infinite; opacity: 1; }
@media (prefers-reduced-motion: reduce) { .line { animation: none !important; } }
"""


def record(program):
    """The lines of the demo with the second at which each arrived."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "TMPDIR": os.environ.get("TMPDIR", "/tmp")}
    command = [program, "demo", "--seconds", str(SECONDS)]
    child = subprocess.Popen(command, stdout=terminal, stderr=subprocess.STDOUT, env=environment)
    os.close(terminal)
    lines, part, began = [], b"", time.monotonic()
    while True:
        try:
            part += os.read(controller, 65536)
        except OSError:  # The other end is closed.
            break
        *whole, part = part.split(b"\n")
        lines += [(time.monotonic() - began, line.decode().rstrip("\r")) for line in whole]
    if child.wait() != 0:
        sys.exit(f"the demo failed: {lines}")
    return lines


def shown(lines):
    """The lines of the picture: without the addresses and the key of this one run, and with times from 09:00:00 on."""
    starts = [index for index, (_, line) in enumerate(lines) if line.startswith(("Join in", "The API answers"))]
    table = next(index for index, (_, line) in enumerate(lines) if plain(line).startswith("TIME (UTC)"))
    kept = lines[: starts[0]] + lines[table : starts[1]]
    while not kept[-1][1]:
        kept.pop()
    first, out = None, []
    for at, line in kept:
        if found := re.match(r"(\d\d):(\d\d):(\d\d\.\d)", line):
            hours, minutes, seconds = (float(part) for part in found.groups())
            second = hours * 3600 + minutes * 60 + seconds
            first = second if first is None else first
            line = f"09:00:{(second - first) % 86400:04.1f}" + line[len(found[0]) :]
        out.append((at, line))
    return out


def plain(line):
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def spans(line):
    """The line as SVG text with the terminal's colours."""
    out, style = [], None
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if found := re.fullmatch(r"\x1b\[([0-9;]*)m", part):
            style = COLOURS.get(found[1])
        elif part:
            text = escape(part).replace(" ", "\u00a0")
            out.append(f'<tspan class="{style}">{text}</tspan>' if style else text)
    return "".join(out)


def picture(lines):
    times, at = [], 0.0
    for arrived, _ in lines:
        at = max(arrived + FIRST_S, at + LINE_S)
        times.append(at)
    length = times[-1] + END_S
    rows = [("<tspan class=\"prompt\">$</tspan>\u00a0postrider\u00a0demo", 0.0)]
    rows += [(spans(line), at) for (_, line), at in zip(lines, times)]
    width = round(COLUMNS * CELL_WIDTH + 2 * BORDER)
    height = len(rows) * CELL_HEIGHT + 2 * BORDER
    films, texts = [], []
    for number, (text, at) in enumerate(rows):
        y = BORDER + (number + 1) * CELL_HEIGHT - 5
        part = at / length * 100
        films.append(f"@keyframes f{number} {{ 0% {{ opacity: 0; }} {part:.2f}% {{ opacity: 1; }} 100% {{ opacity: 1; }} }}")
        films.append(f".f{number} {{ animation-name: f{number}; }}")
        name = f"line f{number}" if at else "always"
        if text:
            texts.append(f'<text x="{BORDER}" y="{y}" class="{name}">{text}</text>')
    label = "postrider demo: events are accepted, delivered to one receiver, and retried until the other takes them"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label="{label}">\n<title>{label}</title>\n'
        f"<style>{STYLE.replace('LENGTH', f'{length:.1f}')}{chr(10).join(films)}\n</style>\n"
        f'<rect width="100%" height="100%" rx="10" fill="#14181f"/>\n' + "\n".join(texts) + "\n</svg>\n"
    )


def words_of(path):
    """The lines of a picture in an order of their own, without figures and columns: these differ from run to run."""
    texts = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")
    lines = ["".join(text.itertext()).replace("\u00a0", " ") for text in texts]
    return sorted(re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "N", line)).strip() for line in lines)


if sys.argv[1] == "--check":
    stored, recorded = words_of(sys.argv[2]), words_of(sys.argv[3])
    if stored != recorded:
        different = sorted(set(stored) ^ set(recorded))
        sys.exit(f"{sys.argv[2]} is old: record it with tests/suites/picture.py. Different lines: {different}")
    print(f"{sys.argv[2]} shows the {len(stored)} lines of the demo")
else:
    svg = picture(shown(record(sys.argv[1])))
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(svg)
