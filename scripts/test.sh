#!/usr/bin/env bash
# Finds or installs what the tests need, then runs every test of the workspace:
# unit and integration tests, loom models, doctests.
#
#   ./scripts/test.sh                  everything
#   ./scripts/test.sh -p buttress-core only the tests that these arguments of `cargo nextest run` select
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Debian keeps nginx where an ordinary user does not look.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# A program, and not what bash has under that name: tests start `kill`.
have() { type -P "$1" >/dev/null; }

say() { printf '\n-- %s\n' "$*"; }

# What a missing program is called in Debian.
debian_package() {
    case "$1" in
        kill) echo procps ;;
        cc) echo gcc libc6-dev ;;
        *) echo "$1" ;;
    esac
}

# Debian starts a service that it has just installed, unless this file says no. The tests start
# their own, on ports of their own.
forbid_service_starts() {
    [[ -e /usr/sbin/policy-rc.d ]] && return
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
}

allow_service_starts() {
    [[ -n "$(trap -p EXIT)" ]] || return 0
    rm -f /usr/sbin/policy-rc.d
    trap - EXIT
}

install_programs() {
    local missing=() packages=() program
    for program in cc curl kill nginx redis-server; do
        if ! have "$program"; then
            missing+=("$program")
            # shellcheck disable=SC2207 # a package name has no spaces
            packages+=($(debian_package "$program"))
        fi
    done
    [[ ${#missing[@]} -eq 0 ]] && return

    if ! have apt-get || [[ $EUID -ne 0 ]]; then
        {
            echo "The tests need programs that are not here: ${missing[*]}."
            echo "Install them, then start this script again:"
            echo "  Debian, Ubuntu   sudo apt-get install ${packages[*]}"
            echo "  Fedora           sudo dnf install gcc curl util-linux nginx redis"
            echo "  macOS            brew install curl nginx redis (and: xcode-select --install)"
        } >&2
        exit 1
    fi

    say "installing ${packages[*]}"
    forbid_service_starts
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
    allow_service_starts
    for program in "${missing[@]}"; do
        have "$program" || { echo "$program is still missing after the installation" >&2; exit 1; }
    done
}

have cargo || { echo "The tests need Rust 1.88 or newer: install rustup, then start this script again." >&2; exit 1; }
install_programs

runner=(cargo nextest run)
if ! have cargo-nextest; then
    say "installing cargo-nextest (some minutes, once)"
    if ! cargo install cargo-nextest --locked; then
        echo "cargo-nextest cannot be installed: using 'cargo test' instead, which is slower"
        runner=(cargo test --tests)
    fi
fi

# With this a missing service fails a test; without it the test says that it was skipped.
export BUTTRESS_REQUIRE_SERVICES=1

if [[ $# -gt 0 ]]; then
    exec "${runner[@]}" --all-features "$@"
fi

say "tests"
"${runner[@]}" --workspace --exclude buttress-benches --all-features

# Loom runs every interleaving of a model, so the models have a build of their own.
for model in crates/*/tests/model.rs; do
    [[ -e "$model" ]] || continue
    crate="$(basename "$(dirname "$(dirname "$model")")")"
    say "loom model of $crate"
    RUSTFLAGS="--cfg buttress_loom" LOOM_MAX_PREEMPTIONS=3 \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=none \
        cargo test --release -p "$crate" --test model --target-dir target/loom
done

say "doctests"
cargo test --doc --workspace --exclude buttress-benches --all-features

say "all tests passed"
