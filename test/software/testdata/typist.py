"""Types lines into an interactive bash on a terminal of its own, each when the prompt of the one before is there, and prints
what the terminal shows, without what depends on numbers of processes."""
import os
import pty
import re
import select
import sys
import time

lines = open(sys.argv[1]).read().splitlines()
pid, master = pty.fork()
if pid == 0:
    os.environ.update(PS1="> ", TERM="dumb", LC_ALL="C", COLUMNS="80", LINES="24", HISTFILE="/dev/null")
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
shown = b""


def more(timeout):
    global shown
    if not select.select([master], [], [], timeout)[0]:
        return False
    try:
        b = os.read(master, 65536)
    except OSError:
        return None
    shown += b
    return bool(b) or None


def prompted(mark, prompt):
    end = time.monotonic() + 120
    while not shown[mark:].endswith(prompt):
        if more(1) is None or time.monotonic() > end:
            return False
    return True


prompted(0, b"> ")
for i, line in enumerate(lines):
    mark = len(shown)
    os.write(master, line.encode() + b"\n")
    if i == len(lines) - 1:
        break
    if not prompted(mark, b"name? " if line.startswith("read ") else b"> "):
        print("no prompt after", line)
        break
while more(20):
    pass
_, status = os.waitpid(pid, 0)
text = shown.decode("latin-1").replace("\r", "")
text = re.sub(r"\[(\d)\] \d{2,}\n", r"[\1] PID\n", text)
text = re.sub(r"(\[\d\]\s+\d* *)\d{2,} ", r"\1PID ", text)
print(text)
print("status", os.waitstatus_to_exitcode(status))
