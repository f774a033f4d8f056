#!/usr/bin/env bash
# Draws the pictures of docs/choosing-an-algorithm.md with the real policies; with --check says whether they are true.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=docs/img
if [[ "${1:-}" == --check ]]; then
    folder=target/ci/img
fi
cargo run --quiet -p buttress-rate-limit --example draw -- "$folder"
if [[ "$folder" != docs/img ]]; then
    for picture in "$folder"/*.svg; do
        if ! cmp -s "$picture" "docs/img/$(basename "$picture")"; then
            echo "docs/img/$(basename "$picture") is not what the policies do: run scripts/draw-limits.sh" >&2
            exit 1
        fi
    done
fi
