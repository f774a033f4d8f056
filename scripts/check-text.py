#!/usr/bin/env python3
"""Checks the plain text of every tracked file: no tabs, trailing spaces, foreign line ends, odd blanks or left-over
conflict markers, and one line end at the end.

    scripts/check-text.py
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Kept as their sources wrote them.
SKIP = {"Cargo.lock", "LICENSE-APACHE"}
# A trybuild file is what the compiler prints; a proptest file what the test wrote.
SKIP_SUFFIXES = {".stderr", ".proptest-regressions", ".png", ".svg"}

RULES = [
    (re.compile(r"\t"), "a tab"),
    (re.compile(r"[ \u00a0]+$"), "a space at the end"),
    (re.compile(r"\r"), "a carriage return"),
    (re.compile(r"[\u00a0\u200b-\u200f\u202a-\u202f\u2060-\u2069\ufeff]"), "an invisible or odd blank"),
    (re.compile(r"[\u2018\u2019\u201c\u201d]"), "a curly quotation mark"),
    (re.compile(r"^(<{7}|>{7}|={7})( |$)"), "a conflict marker"),
]


def faults(text):
    """The faults of one file, as (line, what)."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        found += [(number, what) for rule, what in RULES if rule.search(line)]
    if text and not text.endswith("\n"):
        found.append((text.count("\n") + 1, "no line end at the end of the file"))
    if text.endswith("\n\n"):
        found.append((text.count("\n"), "an empty line at the end of the file"))
    return found


def tracked():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listing.stdout.split("\0") if name]


def main():
    status = 0
    for name in tracked():
        path = ROOT / name
        if path.name in SKIP or path.suffix in SKIP_SUFFIXES or not path.is_file():
            continue
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        for line, what in faults(text):
            print(f"{name}:{line}: {what}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
