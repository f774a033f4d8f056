#!/usr/bin/env bash
# What do connections cost the gateway in memory?
#
#   benches/memory_gateway.sh             builds the gateway and measures it
#   GATEWAY=path benches/memory_gateway.sh  measures this program
#
# Resident memory (VmRSS of /proc): at the start; with 64 connections that have each had 100 answers of 1 KiB; and what each
# of 2 000 more keep-alive connections adds that has had one answer and is idle. The upstream is a second gateway whose one
# route answers by itself. Goals: 15 MiB with 64 connections, 12 KiB for each idle one; above them the script fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -z "${GATEWAY:-}" ]]; then
    cargo build --release -p gateway
    GATEWAY=target/release/gateway
fi
python3 - "$GATEWAY" <<'PYTHON'
import os, re, resource, socket, subprocess, sys, tempfile, threading

BUSY, ROUNDS, IDLE = 64, 100, 2000
MIB_WITH_BUSY, KIB_PER_IDLE = 15, 12

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def start(folder, name, config):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(config)
    program = subprocess.Popen(
        [sys.argv[1], "--listen", "127.0.0.1:0", "--config", path], stdout=subprocess.PIPE, text=True
    )
    address = None
    for line in program.stdout:
        found = re.search(r"listening on http://(\S+):(\d+)", line)
        address = (found[1], int(found[2])) if found else address
        if line.startswith("Ctrl-C"):
            return program, address
    sys.exit("the gateway has ended before it listened")


def rss(program):
    with open(f"/proc/{program.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


def ask(client):
    client.sendall(b"GET /x HTTP/1.1\r\nHost: it\r\nUser-Agent: memory\r\nAccept: */*\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(65536)
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
    while len(body) < length:
        body += client.recv(65536)


def connect(address, asks):
    client = socket.create_connection(address)
    for _ in range(asks):
        ask(client)
    return client


with tempfile.TemporaryDirectory() as folder:
    answer = "x" * 1024
    behind, at = start(folder, "behind.toml", f'[[route]]\npath = "/"\nrespond = {{ body = "{answer}" }}\n')
    config = f'server = {{ max_per_client = {BUSY + IDLE} }}\n[[upstream]]\nname = "it"\nurl = "http://{at[0]}:{at[1]}"\n[[route]]\npath = "/"\nupstream = "it"\n'
    gateway, address = start(folder, "gateway.toml", config)
    try:
        at_start = rss(gateway)
        clients = [None] * BUSY

        def busy(number):
            clients[number] = connect(address, ROUNDS)

        threads = [threading.Thread(target=busy, args=[number]) for number in range(BUSY)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        with_busy = rss(gateway)
        clients += [connect(address, 1) for _ in range(IDLE)]
        with_idle = rss(gateway)
    finally:
        gateway.kill()
        behind.kill()

per_idle = (with_idle - with_busy) / IDLE
print(f"at the start               {at_start / 1024:6.1f} MiB")
print(f"with {BUSY} connections        {with_busy / 1024:6.1f} MiB   goal {MIB_WITH_BUSY}")
print(f"each idle connection more  {per_idle:6.1f} KiB   goal {KIB_PER_IDLE}")
sys.exit(with_busy > MIB_WITH_BUSY * 1024 or per_idle > KIB_PER_IDLE)
PYTHON
