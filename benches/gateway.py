#!/usr/bin/env python3
"""What does a request cost the gateway, beside nginx and HAProxy?

One upstream (nginx, one worker, 1 KiB from memory), one proxy, wrk with 64 connections that are kept alive. The proxy
has one worker on CPU 0; upstream and wrk share CPU 1. All proxies run in each round, one after the other, in an order
that turns; what is compared is the CPU time of the proxy's process for each 100 000 requests, as a ratio to nginx's in
the same round.

    benches/gateway.py                       bare, and with limit, breaker, retry and balancing on
    benches/gateway.py --rounds 20 --seconds 5 --only bare,nginx
    benches/gateway.py --gateway PATH        a gateway that is built already

nginx, haproxy and wrk come from Debian's packages of these names.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


class Program:
    """A process that is pinned to a CPU and ended by its id."""

    def __init__(self, cpu, command, env=None):
        # A new process group, so that nginx' worker ends with its master.
        self.process = subprocess.Popen(
            ["taskset", "-c", str(cpu), *map(str, command)],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def pids(self):
        pid = self.process.pid
        return [pid, *children(pid)]

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def rss_mib(self):
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids())
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def wait_for(port):
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
                if len(answer.read()) == 1024:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"nothing answers on port {port}")


NGINX = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  {rest}
}}
"""


def nginx(folder, name, rest):
    path = folder / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, rest=rest))
    return ["nginx", "-p", folder, "-e", folder / f"{name}.log", "-c", path]


def upstream(folder, port):
    body = "x" * 1024
    # The layers' three endpoints are one server, on three addresses.
    listens = " ".join(f"listen 127.0.0.{number}:{port};" for number in (1, 2, 3))
    rest = f'server {{ {listens} location / {{ return 200 "{body}"; }} }}'
    return nginx(folder, "upstream", rest)


def nginx_proxy(folder, port, to):
    rest = f"""
    upstream u {{ server 127.0.0.1:{to}; keepalive 128; keepalive_requests 1000000000; }}
    server {{ listen 127.0.0.1:{port};
      location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection "";
                    proxy_set_header Host $host; }} }}"""
    return nginx(folder, "proxy", rest)


def haproxy(folder, port, to):
    path = folder / "haproxy.cfg"
    path.write_text(
        f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{to}
"""
    )
    return ["haproxy", "-f", path]


BARE = """
listen = "127.0.0.1:{port}"
[[upstream]]
name = "u"
url = "http://127.0.0.1:{to}"
[[route]]
path = "/"
upstream = "u"
"""

LAYERS = """
listen = "127.0.0.1:{port}"
[[upstream]]
name = "u"
[[upstream.endpoint]]
url = "http://127.0.0.1:{to}"
[[upstream.endpoint]]
url = "http://127.0.0.2:{to}"
[[upstream.endpoint]]
url = "http://127.0.0.3:{to}"
[upstream.balance]
policy = "peak_ewma"
[upstream.circuit_breaker]
failure_rate = 0.5
[[route]]
path = "/"
upstream = "u"
[route.retry]
attempts = 3
[route.rate_limit]
rate = "1000000/s"
burst = 1000000
key = "ip"
"""


def gateway(binary, name, text):
    def command(folder, port, to):
        path = folder / f"{name}.toml"
        path.write_text(text.format(port=port, to=to))
        return [binary, "--config", path]

    return command


def load(port, connections, seconds):
    """The requests that wrk made, and those that failed."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made = int(re.search(r"(\d+) requests in", said)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    return made, (int(bad[1]) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=4, help="of load, for each proxy in each round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", default="nginx,haproxy,bare,layers")
    parser.add_argument("--gateway", type=Path, help="a gateway that is built already")
    parser.add_argument("--more", action="append", default=[], help="NAME=PATH: one more gateway, bare")
    args = parser.parse_args()

    missing = [name for name in ("nginx", "haproxy", "wrk", "taskset") if shutil.which(name) is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    if os.cpu_count() < 2:
        sys.exit("two CPUs are needed: the proxy has one for itself")
    binary = args.gateway
    if binary is None:
        subprocess.run(["cargo", "build", "--release", "-p", "gateway"], cwd=ROOT, check=True)
        binary = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "gateway"

    makers = {
        "nginx": nginx_proxy,
        "haproxy": haproxy,
        "bare": gateway(binary.resolve(), "bare", BARE),
        "layers": gateway(binary.resolve(), "layers", LAYERS),
    }
    wanted = args.only.split(",")
    for more in args.more:
        name, path = more.split("=")
        makers[name] = gateway(Path(path).resolve(), name, BARE)
        wanted.append(name)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        back, programs, ports, costs, rss = free_port(), {}, {}, {}, {}
        programs["upstream"] = Program(1, upstream(folder, back))
        try:
            wait_for(back)
            for name in wanted:
                ports[name] = free_port()
                command = makers[name](folder, ports[name], back)
                # One worker, as the others have.
                programs[name] = Program(0, command, {"TOKIO_WORKER_THREADS": "1"})
                wait_for(ports[name])
                costs[name] = []
            for name in wanted:
                load(ports[name], args.connections, 1)
            for number in range(args.rounds):
                turn = number % len(wanted)
                for name in wanted[turn:] + wanted[:turn]:
                    before = programs[name].cpu_seconds()
                    made, failed = load(ports[name], args.connections, args.seconds)
                    if failed:
                        sys.exit(f"{name}: {failed} of {made} requests failed")
                    costs[name].append((programs[name].cpu_seconds() - before) / made * 100_000)
                    rss[name] = programs[name].rss_mib()
                print(f"round {number + 1}: " + "  ".join(f"{n} {costs[n][-1]:.2f}" for n in wanted), flush=True)
        finally:
            for program in programs.values():
                program.end()

    print(f"\n{args.rounds} rounds of {args.seconds} s, {args.connections} connections, 1 KiB")
    print("| proxy | CPU s/100k, median | range | to nginx, round by round: median | range | RSS MiB |")
    print("|---|---|---|---|---|---|")
    for name in wanted:
        ratios = [cost / base for cost, base in zip(costs[name], costs.get("nginx", costs[name]))]
        print(
            f"| {name} | {statistics.median(costs[name]):.2f} | {min(costs[name]):.2f}-{max(costs[name]):.2f} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f}-{max(ratios):.2f} | {rss[name]:.1f} |"
        )


if __name__ == "__main__":
    main()
