#!/usr/bin/env bash
# fuzz.sh TIME - runs every fuzz target of the workspace for TIME each. Targets are asked for, not listed here, so that
# none is forgotten; `go test -fuzz` itself takes one target of one package at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:?usage: fuzz.sh TIME, e.g. fuzz.sh 20s}

mapfile -t packages < <(go list -m -f '{{.Dir}}/...')
# `go test -list` prints a package's targets and then "ok <package> <seconds>".
listed=$(go test -list '^Fuzz' "${packages[@]}")
mapfile -t targets < <(awk '/^Fuzz/ { names[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }' <<<"$listed")
if [ ${#targets[@]} = 0 ]; then
  echo "fuzz: no fuzz target found in ${packages[*]}" >&2
  exit 1
fi
failed=0
for target in "${targets[@]}"; do
  echo "fuzz: $target for $time"
  # One failure does not hide the next: each leaves its input in testdata/fuzz.
  go test -run '^$' -fuzz "^${target#* }\$" -fuzztime "$time" "${target% *}" || failed=$((failed + 1))
done
echo "fuzz: ${#targets[@]} targets, $failed failed"
[ "$failed" = 0 ]
