#!/usr/bin/env python3
"""Checks that what the documents claim is shown by a test or bench that exists, and that their links resolve.

A claim is followed by a comment that names its proof, with the path from the root of the project:

    - A clone shares the budget. <!-- test: crates/x/tests/behaviour.rs::a_clone_shares_the_budget -->
    - An idle limiter adds little. <!-- bench: benches/overhead.rs::one OnCall -->

Several are separated by commas. Every list item and table row of the README's comparison has such a comment.

    scripts/check-claims.py               checks the project
    scripts/check-claims.py --self-check  checks this script
"""

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROOF = re.compile(r"<!--\s*(test|bench):\s*(.*?)\s*-->", re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\[]*\]\(([^()\s]+)\)|!\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^(#+)\s+(.*?)\s*$")
COMPARISON = re.compile(r"compare|comparison", re.IGNORECASE)


def documents(root):
    return [
        path
        for pattern in ("*.md", "docs/**/*.md", "crates/*/README.md", "examples/**/*.md", "benches/*.md")
        for path in sorted(root.glob(pattern))
    ]


def without_code(text):
    """The text with fenced, indented and inline code blanked: what is shown as code is no claim and no link."""
    lines, fenced, blank = [], False, True
    for line in text.split("\n"):
        fence = line.lstrip().startswith(("```", "~~~"))
        indented = line.startswith("    ") and blank
        lines.append("" if fence or fenced or indented else re.sub(r"`[^`]*`", "", line))
        fenced ^= fence
        blank = indented or not line.strip()
    return "\n".join(lines)


def proof_fault(root, kind, name):
    """Why a proof does not stand, or None."""
    path, separator, item = name.partition("::")
    file = root / path
    if not separator or not item:
        return f"'{name}' is not of the form path/to/file.rs::name"
    if not file.is_file():
        return f"'{name}': there is no file {path}"
    source = file.read_text(encoding="utf-8")
    function = item.split("::")[-1]
    defined = re.search(rf"\bfn\s+{re.escape(function)}\s*[(<]", source)
    if kind == "test":
        # The attribute is what makes it run; `proptest!` and `tokio::test` end in `test` or `test(..)]` too.
        attribute = re.search(
            rf"#\[[\w:]*test\b[^\n]*\]\s*(?:(?:#\[[^\n]*\]|//[^\n]*)\s*)*(?:async\s+)?fn\s+{re.escape(function)}\s*\(", source
        )
        if not attribute:
            return f"'{name}': {path} has no test of that name"
    elif not defined and f'"{item}"' not in source:
        return f"'{name}': {path} has no bench of that name"
    return None


def anchors(text):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = (HEADING.match(line) for line in without_code(text.replace("`", "")).split("\n"))
    return {re.sub(r"[^\w\- ]", "", h.group(2).lower()).replace(" ", "-") for h in headings if h}


def link_fault(document, target):
    # Elsewhere, or an item: the README of a crate is its page in rustdoc, which checks such links itself.
    if re.match(r"[a-z][a-z0-9+.-]*:", target) or re.fullmatch(r"[A-Za-z_][\w:]*(\(\)|!)?", target):
        return None
    path, _, anchor = target.partition("#")
    file = (document.parent / path) if path else document
    if not file.exists():
        return f"the link {target} leads nowhere"
    if anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
        return f"the link {target} names no heading of {file.name}"
    return None


def unproven_comparisons(text):
    """The list items and table rows under a heading that compares, without a proof; and None when there is no such heading."""
    found, inside, seen, block = [], False, False, []

    def close():
        if block and not PROOF.search("\n".join(line for _, line in block)):
            found.append(block[0][0])
        block.clear()

    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        heading = HEADING.match(line)
        if heading:
            close()
            inside = bool(COMPARISON.search(heading.group(2)))
            seen |= inside
        elif not inside:
            continue
        elif line.startswith("|"):
            close()
            following = lines[number] if number < len(lines) else ""
            if not re.match(r"^\|[\s:|-]+$", line) and not re.match(r"^\|[\s:|-]+$", following):
                block.append((number, line))
                close()
        elif re.match(r"^\s*([-*+]|\d+\.)\s", line):
            close()
            block.append((number, line))
        elif block and line.strip():
            block.append((number, line))
        elif not line.strip():
            close()
    close()
    return found if seen else None


def check(root):
    faults = []
    for document in documents(root):
        name = document.relative_to(root)
        text = document.read_text(encoding="utf-8")
        prose = without_code(text)
        for match in PROOF.finditer(prose):
            line = prose.count("\n", 0, match.start()) + 1
            for proof in match.group(2).split(","):
                if fault := proof_fault(root, match.group(1), proof.strip()):
                    faults.append(f"{name}:{line}: {fault}")
        for match in LINK.finditer(prose):
            line = prose.count("\n", 0, match.start()) + 1
            if fault := link_fault(document, match.group(1) or match.group(2)):
                faults.append(f"{name}:{line}: {fault}")
    readme = root / "README.md"
    if not readme.is_file():
        return faults + ["README.md: there is none"]
    unproven = unproven_comparisons(readme.read_text(encoding="utf-8"))
    if unproven is None:
        faults.append("README.md: there is no heading that compares")
    for line in unproven or []:
        faults.append(f"README.md:{line}: this comparison names no test or bench")
    return faults


def self_check():
    def project(readme):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "tests").mkdir()
            (root / "tests/a.rs").write_text(
                "#[test]\nfn it_holds() {}\n\n#[tokio::test(start_paused = true)]\nasync fn it_waits() {}\n\n"
                "#[test]\n// why\n#[ignore = \"slow\"]\nfn it_is_slow() {}\n\nfn helper() {}\n"
            )
            (root / "tests/b.rs").write_text('c.bench_function("idle", run);\n')
            (root / "README.md").write_text(readme)
            return check(root)

    row = "## How it compares\n\n- We hold. <!-- test: tests/a.rs::it_holds -->\n"
    good = [
        row,
        row + "\n| what | us |\n|---|---|\n| fast | yes <!-- bench: tests/b.rs::idle --> |\n",
        row + "- Waits,\n  long. <!-- test: tests/a.rs::it_waits,\n  tests/a.rs::it_is_slow -->\n",
        row + "\n## Else\n\n- No proof is asked here. [up](README.md#how-it-compares) [out](https://example.org/)\n",
        row + "\n```text\n[no](link.md) <!-- test: nothing -->\n```\n\n    [no](link.md)\n\nand `[no](link.md)`\n",
    ]
    bad = [
        ("", "no heading that compares"),
        ("## How it compares\n\n- We hold.\n", "names no test or bench"),
        (row + "- Also\n  here\n- And here <!-- test: tests/a.rs::it_holds -->\n", "README.md:4: this comparison"),
        (row + "\n| what | us |\n|---|---|\n| fast | yes |\n", "README.md:7: this comparison"),
        (row.replace("it_holds", "it_folds"), "no test of that name"),
        (row.replace("it_holds", "helper"), "no test of that name"),
        (row.replace("a.rs", "c.rs"), "there is no file"),
        (row.replace("::it_holds", ""), "not of the form"),
        (row + "<!-- bench: tests/b.rs::busy -->\n", "no bench of that name"),
        (row + "[there](docs/none.md)\n", "leads nowhere"),
        (row + "[there](#none)\n", "names no heading"),
    ]
    failures = [f"refused, but right: {readme!r}: {faults}" for readme in good if (faults := project(readme))]
    for readme, expected in bad:
        faults = project(readme)
        if len(faults) != 1 or expected not in faults[0]:
            failures.append(f"expected '{expected}' once for {readme!r}, got {faults}")
    return failures


def main():
    faults = self_check() if "--self-check" in sys.argv[1:] else check(ROOT)
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
