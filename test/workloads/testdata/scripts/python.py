#!/usr/bin/python3
"""python: what a script does: hashing, JSON, floating point, big integers, sorting, regular expressions, threads, files."""
import hashlib, json, math, os, re, struct, sys, threading, time, zlib

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
stop = sys.argv[2] if len(sys.argv) > 2 else "-"
pid, began, bad, rounds, seen = os.getpid(), time.monotonic(), 0, 0, {}
print("pid", pid, file=sys.stderr, flush=True)
lines = []


def report(name, value):
    """Prints in the first round and holds later rounds to it."""
    global bad
    value = str(value)
    if name not in seen:
        seen[name] = value
        lines.append(name + " " + value)
    elif seen[name] != value:
        bad += 1
        print("bad: round", rounds, name, "is", value, "was", seen[name], file=sys.stderr, flush=True)


def digest(b):
    return hashlib.sha256(b).hexdigest()[:16]


def threads():
    got, lock = [], threading.Lock()

    def work(k):
        n = sum(i * k for i in range(2000))
        with lock:
            got.append(n)

    ts = queue[:]
    for k, (todo, done) in enumerate(ts):
        todo.acquire_work(lambda k=k: work(k))
    for todo, done in ts:
        done.wait()
        done.clear()
    return sum(got)


class Hand:
    """A thread that was made at the start and does what it is given."""

    def __init__(self):
        self.cond, self.job, self.done = threading.Condition(), None, threading.Event()
        threading.Thread(target=self.loop, daemon=True).start()

    def acquire_work(self, job):
        with self.cond:
            self.job = job
            self.cond.notify()

    def loop(self):
        while True:
            with self.cond:
                while self.job is None:
                    self.cond.wait()
                job, self.job = self.job, None
            job()
            self.done.set()


queue = [(h, h.done) for h in (Hand() for _ in range(3))]
name = "python.%d" % pid
kept = {str(i): [i, i * 0.5, None, "ü" * (i % 5)] for i in range(300)}

while True:
    rounds += 1
    report("hash", digest(b"".join(hashlib.blake2b(struct.pack("<Q", i)).digest() for i in range(500))))
    report("json", digest(json.dumps(json.loads(json.dumps(kept)), sort_keys=True).encode()))
    report("math", repr(math.fsum(math.sin(i) * math.exp(-i / 500) for i in range(3000))))
    report("big", digest(str(math.factorial(600) % (2**1279 - 1)).encode()))
    report("pow", pow(3, 2**200, 2**521 - 1) % 1000003)
    report("sort", digest(repr(sorted(((i * 7919) % 10007, str(i)) for i in range(3000))).encode()))
    report("re", len(re.findall(r"\b(\w)\w*\1\b", "abba noon level text error " * 200)))
    report("zlib", digest(zlib.compress(bytes(i * i % 251 for i in range(20000)))))
    report("threads", threads())
    with open(name, "w+b") as f:
        f.write(b"0123456789abcdef" * 4096)
        f.seek(12345)
        report("file", digest(f.read(20000)))
    t = time.monotonic()
    time.sleep(0.01)
    if time.monotonic() - t < 0.009:
        bad += 1
        print("bad: a sleep was too short", file=sys.stderr, flush=True)
    if os.getpid() != pid:
        bad += 1
        print("bad: process number", os.getpid(), file=sys.stderr, flush=True)
    since = time.monotonic() - began
    if since >= seconds and (stop == "-" or os.path.exists(stop)) or since > 240 or bad > 20:
        break

os.unlink(name)
print("\n".join(lines))
print("BAD" if bad else "good", flush=True)
print("end", os.getpid(), "after", rounds, "rounds", file=sys.stderr, flush=True)
sys.exit(1 if bad else 0)
