#!/usr/bin/env python3
"""Checks that each crate builds bare, and with each of its features alone, without a warning.

    scripts/check-features.py            every crate
    scripts/check-features.py NAME ..    these
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def crates():
    """Name and features of the crates in crates/."""
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version=1"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    packages = json.loads(metadata.stdout)["packages"]
    libraries = [p for p in packages if Path(p["manifest_path"]).parent.parent == ROOT / "crates"]
    return {p["name"]: sorted(set(p["features"]) - {"default"}) for p in libraries}


def builds(name, feature):
    """Whether this combination builds, without a warning. RUSTFLAGS would deny warnings too, and have everything rebuilt."""
    command = ["cargo", "check", "--quiet", "--message-format=json", "-p", name, "--no-default-features"]
    run = subprocess.run(
        command + (["--features", feature] if feature else []), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    messages = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    said = [m["message"]["rendered"] for m in messages if m["reason"] == "compiler-message"]
    print(*said, sep="", end="")
    return run.returncode == 0 and not said


def main():
    known = crates()
    chosen = sys.argv[1:] or list(known)
    for name in chosen:
        for feature in [None, *known[name]]:
            print(f"-- {name} with {feature or 'no feature'}", flush=True)
            if not builds(name, feature):
                sys.exit(f"{name} with {feature or 'no feature'}: an error or a warning")
    print(f"{sum(1 + len(known[name]) for name in chosen)} combinations build")


if __name__ == "__main__":
    main()
