#!/usr/bin/env python3
"""Packages every crate that is published and checks each package with all its features. Then builds each example as its user
would: copied out of the workspace, without the paths. Crates and examples take the packages for what they depend on.

    scripts/check-packages.py
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds. Warm it takes a minute, cold a few; a build that hangs is to end some day.
PATIENCE = 1200
PATH = re.compile(r',\s*path\s*=\s*"[^"]*"|\bpath\s*=\s*"[^"]*"\s*,\s*')


def cargo(*arguments, cwd=ROOT, **options):
    return subprocess.run(["cargo", *arguments], cwd=cwd, check=True, text=True, timeout=PATIENCE, **options)


def package(metadata, unpacked):
    """Packages the crates and unpacks them; gives the folder of each by name."""
    crates = [p for p in metadata["packages"] if p["publish"] is None]
    names = [argument for p in crates for argument in ("-p", p["name"])]
    # Cargo would verify a package against what the registry has of the others, and there is nothing yet.
    cargo("package", "--no-verify", "--allow-dirty", "--quiet", *names)
    folders = {}
    for crate in crates:
        stem = f"{crate['name']}-{crate['version']}"
        with tarfile.open(Path(metadata["target_directory"], "package", f"{stem}.crate")) as archive:
            archive.extractall(unpacked, filter="data")
        folders[crate["name"]] = unpacked / stem
    return folders


def without_paths(manifest, names):
    """The manifest as a user has it: our crates by version alone."""
    lines = []
    for line in manifest.split("\n"):
        name = re.match(r'\s*"?([\w-]+)"?\s*=', line)
        if name and name.group(1) in names and PATH.search(line):
            if "version" not in line:
                sys.exit(f"this dependency states no version: {line.strip()}")
            line = PATH.sub("", line)
        lines.append(line)
    return "\n".join(lines)


def main():
    metadata = json.loads(cargo("metadata", "--no-deps", "--format-version=1", stdout=subprocess.PIPE).stdout)
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(Path(metadata["target_directory"], "packaged")),
        "CARGO_PROFILE_DEV_DEBUG": "none",
    }
    with tempfile.TemporaryDirectory(prefix="buttress-") as folder:
        outside = Path(folder)
        folders = package(metadata, outside / "packages")
        print(f"packaged: {', '.join(folders)}", flush=True)

        (outside / ".cargo").mkdir()
        patches = "".join(f'{name} = {{ path = "{path}" }}\n' for name, path in folders.items())
        (outside / ".cargo/config.toml").write_text(f"[patch.crates-io]\n{patches}", encoding="utf-8")
        for name, folder in folders.items():
            print(f"-- {name}", flush=True)
            shutil.copy(ROOT / "Cargo.lock", folder / "Cargo.lock")
            cargo("check", "--all-features", "--quiet", cwd=folder, env=environment)
        for example in sorted((ROOT / "examples").glob("*/Cargo.toml")):
            copy = outside / example.parent.name
            print(f"-- {example.parent.name}", flush=True)
            shutil.copytree(example.parent, copy, ignore=shutil.ignore_patterns("target"))
            manifest = without_paths(example.read_text(encoding="utf-8"), folders)
            (copy / "Cargo.toml").write_text(manifest, encoding="utf-8")
            # The versions that the workspace was tested with.
            shutil.copy(ROOT / "Cargo.lock", copy / "Cargo.lock")
            cargo("build", "--quiet", cwd=copy, env=environment)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failure:
        sys.exit(f"{' '.join(failure.cmd)}: failed")
    except subprocess.TimeoutExpired as failure:
        sys.exit(f"{' '.join(failure.cmd)}: not done after {PATIENCE} s")
