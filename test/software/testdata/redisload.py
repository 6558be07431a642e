"""Clients of a redis server, each with keys of its own, which check every answer."""
import os
import socket
import sys
import zlib

path, clients, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Client:
    def __init__(self):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.f = self.s.makefile("rb")

    def ask(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.answer()

    def answer(self):
        line = self.f.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            n = int(rest)
            return None if n < 0 else self.f.read(n + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b"-":
            raise SystemExit("redis says %r" % line)
        return int(rest) if kind == b":" else rest


def work(me):
    c, total = Client(), 0
    for i in range(rounds):
        key, value = "k%d:%d" % (me, i % 500), b"%d:" % i * (1 + i % 60)
        assert c.ask("set", key, value) == b"OK"
        got = c.ask("get", key)
        assert got == value, (key, got, value)
        assert c.ask("incrby", "sum%d" % me, i) == total + i
        total += i
        assert c.ask("rpush", "list%d" % me, i) == i + 1
        if i % 100 == 0:
            assert len(c.ask("lrange", "list%d" % me, 0, -1)) == i + 1
    have = c.ask("lrange", "list%d" % me, 0, -1)
    assert have == [b"%d" % i for i in range(rounds)]
    print("client", me, total, zlib.crc32(b" ".join(have)), flush=True)


pids = []
for me in range(clients):
    pid = os.fork()
    if pid == 0:
        try:
            work(me)
            os._exit(0)
        except BaseException as e:
            print("client", me, repr(e), file=sys.stderr, flush=True)
            os._exit(1)
    pids.append(pid)
    os.sched_yield()
bad = [os.waitpid(pid, 0)[1] for pid in pids]
sys.exit(any(bad))
