#!/usr/bin/env python3
"""What does a GiB, and a small message, cost a TCP proxy beside HAProxy?

One upstream, one proxy, one client, all on loopback. The proxy has one thread on CPU 0; upstream and client share CPU 1.
All proxies run in each round, one after the other, in an order that turns; what is compared is the CPU time of the proxy's
process, as a ratio to HAProxy's (`mode tcp`, as it is) in the same round.

    benches/layer4.py                          10 rounds: 1 GiB down, 1 GiB up, 50 000 messages of 1 KiB there and back
    benches/layer4.py --rounds 3 --only haproxy,buttress
    benches/layer4.py --proxy PATH             a tcp-proxy that is built already

haproxy comes from Debian's package of this name; `haproxy-splice` is it with `option splice-auto`.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def send(peer, length):
    block = memoryview(bytes(1 << 18))
    while length > 0:
        length -= peer.send(block[:length])


def drain(peer):
    room, total = bytearray(1 << 18), 0
    while count := peer.recv_into(room):
        total += count
    return total


def read(peer, room):
    view = memoryview(room)
    while view:
        count = peer.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]


def answer(peer):
    """The first byte says what is wanted."""
    try:
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wanted = peer.recv(1)
            if wanted == b"d":
                send(peer, GIB)
            elif wanted == b"u":
                peer.sendall(drain(peer).to_bytes(8, "big"))
            elif wanted == b"m":
                message = bytearray(1024)
                while True:
                    read(peer, message)
                    peer.sendall(message)
    except (EOFError, OSError):
        pass


def upstream(port):
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def visit(port, what, messages):
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall({"down": b"d", "up": b"u", "messages": b"m"}[what])
        if what == "down":
            assert drain(peer) == GIB
        elif what == "up":
            send(peer, GIB)
            peer.shutdown(socket.SHUT_WR)
            room = bytearray(8)
            read(peer, room)
            assert int.from_bytes(room, "big") == GIB
        else:
            message = bytearray(1024)
            for _ in range(messages):
                peer.sendall(message)
                read(peer, message)


class Program:
    """A process that is pinned to a CPU and ended by its id."""

    def __init__(self, cpu, command):
        self.process = subprocess.Popen(
            ["taskset", "-c", str(cpu), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def end(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def haproxy(folder, name, port, target, options):
    config = Path(folder) / f"{name}.cfg"
    config.write_text(
        f"""global
    nbthread 1
    maxconn 1000
defaults
    mode tcp
    timeout connect 1s
    timeout client 10m
    timeout server 10m
    {options}
listen front
    bind 127.0.0.1:{port}
    server back 127.0.0.1:{target}
"""
    )
    return ["haproxy", "-db", "-q", "-f", config]


def spread(values):
    return f"{statistics.median(values):6.3f}  ({min(values):.3f} to {max(values):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--proxy", type=Path)
    parser.add_argument("--only", default="haproxy,haproxy-splice,buttress")
    parser.add_argument("--what", default="down,up,messages")
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--visit", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        return upstream(options.upstream)
    if options.visit:
        return visit(options.visit, options.what, options.messages)
    if not shutil.which("haproxy"):
        sys.exit("layer4.py needs haproxy: install it first (Debian: apt-get install haproxy)")
    if not options.proxy:
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "tcp-proxy"], cwd=ROOT, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        options.proxy = target / "release/tcp-proxy"

    programs = []
    names, cases = options.only.split(","), options.what.split(",")
    times = {(name, what): [] for name in names for what in cases}
    with tempfile.TemporaryDirectory() as folder:
        try:
            target = free_port()
            programs.append(Program(1, [sys.executable, __file__, "--upstream", target]))
            wait_for(target)
            proxies = {}
            for name in names:
                port = free_port()
                command = {
                    "haproxy": lambda: haproxy(folder, name, port, target, ""),
                    "haproxy-splice": lambda: haproxy(folder, name, port, target, "option splice-auto"),
                    "buttress": lambda: [options.proxy, "--quiet", f"127.0.0.1:{port}", f"127.0.0.1:{target}"],
                }[name]()
                proxies[name] = (port, Program(0, command))
                programs.append(proxies[name][1])
                wait_for(port)
            for round_ in range(options.rounds):
                for what in cases:
                    turn = round_ % len(names)
                    for name in names[turn:] + names[:turn]:
                        port, program = proxies[name]
                        before = program.cpu()
                        load = [sys.executable, __file__, "--visit", port, "--what", what]
                        load += ["--messages", options.messages]
                        subprocess.run(["taskset", "-c", "1", *map(str, load)], check=True)
                        times[name, what].append(program.cpu() - before)
        finally:
            for program in programs:
                program.end()

    base = names[0]
    print(f"CPU of the proxy, median of {options.rounds} rounds (least to most); ratios to {base} in the same round")
    for what in cases:
        unit = f"s per {options.messages} messages of 1 KiB" if what == "messages" else "s per GiB"
        print(f"\n{what}, {unit}")
        for name in names:
            ratios = [own / peer for own, peer in zip(times[name, what], times[base, what]) if peer]
            print(f"  {name:<15} {spread(times[name, what])}   ratio {spread(ratios)}")


if __name__ == "__main__":
    main()
