#!/usr/bin/env bash
# How many instructions does one check take, ours and the peers'? Counted by callgrind, so no load on the machine
# changes the answer.
#
#   benches/instructions.sh             every case
#   benches/instructions.sh address     the cases whose name has this in it
#
# Each case runs for two counts; the difference, less that of the loop around it, is what one operation takes. It
# exits with 1 when a goal is missed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

few=10000 many=60000

if ! command -v valgrind >/dev/null; then
    if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
        (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends valgrind) >&2
    else
        echo "instructions.sh needs valgrind: install it first (Debian: apt-get install valgrind)" >&2
        exit 2
    fi
fi

cargo build --quiet --profile bench -p buttress-benches --example instructions
program=${CARGO_TARGET_DIR:-target}/release/examples/instructions

# collected CASE SIDE COUNT: the instructions of one run.
collected() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*measured*' "$program" "$@" 2>&1 >/dev/null |
        awk '/Collected/ { print $NF; found = 1 } END { exit !found }'
}

# each CASE SIDE: the instructions of one turn, in hundredths.
each() {
    echo $((($(collected "$1" "$2" $many) - $(collected "$1" "$2" $few)) * 100 / (many - few)))
}

declare -A around
missed=0
printf '%-46s %-17s %8s %6s\n' "one operation" "" Ir goal
while IFS='|' read -r what side inside goal; do
    [[ -n $side && $what == *"${1:-}"* ]] || continue
    [[ -n ${around[$inside]:-} ]] || around[$inside]=$(each "$inside" "")
    count=$(($(each "$what" "$side") - around[$inside]))
    note=
    if [[ -n $goal ]] && ((count > goal * 100)); then
        note=missed
        missed=1
    fi
    printf '%-46s %-17s %6d.%d %6s %s\n' "$what" "$side" $((count / 100)) $((count / 10 % 10)) "$goal" "$note"
done < <("$program" list | tr '\t' '|')
exit "$missed"
