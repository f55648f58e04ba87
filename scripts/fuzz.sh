#!/usr/bin/env bash
# fuzz.sh TIME - runs every fuzz target of the workspaces for TIME each. Targets are asked for, not listed here, so that
# none is forgotten; `go test -fuzz` itself takes one target of one package at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:?usage: fuzz.sh TIME, e.g. fuzz.sh 20s}

mapfile -t packages < <(go list -m -f '{{.Dir}}/...')
# `go test -list` prints a package's targets and then "ok <package> <seconds>".
listed=$(go test -list '^Fuzz' "${packages[@]}")
apart=$(cd kmskey/gcpkms && go test -list '^Fuzz' ./...) # a workspace of its own
targets_of() { awk -v dir="$1" '/^Fuzz/ { names[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print dir, $2, names[i]; n = 0 }' <<<"$2"; }
mapfile -t targets < <(targets_of . "$listed"; targets_of kmskey/gcpkms "$apart")
for dir in . kmskey/gcpkms; do
  [[ " ${targets[*]%% *} " == *" $dir "* ]] || { echo "fuzz: no fuzz target found in $dir" >&2; exit 1; }
done
failed=0
for target in "${targets[@]}"; do
  read -r dir package name <<<"$target"
  echo "fuzz: $package $name for $time"
  # One failure does not hide the next: each leaves its input in testdata/fuzz.
  (cd "$dir" && go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$package") || failed=$((failed + 1))
done
echo "fuzz: ${#targets[@]} targets, $failed failed"
[ "$failed" = 0 ]
