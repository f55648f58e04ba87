#!/usr/bin/env bash
# fuzz.sh INPUTS - runs every fuzz target of the workspaces on INPUTS inputs each. Targets are asked for, not listed here,
# so that none is forgotten; `go test -fuzz` itself takes one target of one package at a time. A number of inputs rather
# than a time, because up to Go 1.26 a time that ends while a worker runs may fail a target that found nothing
# ("context deadline exceeded", https://go.dev/issue/75804).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
inputs=${1:?usage: fuzz.sh INPUTS, e.g. fuzz.sh 200000}

targets=()
collect() { # DIR PACKAGES...
  local dir=$1 having listed found
  having=$(cd "$dir" && "$here"/packages-with.sh Fuzz "${@:2}")
  [ -n "$having" ] || { echo "fuzz: no fuzz target found in $dir" >&2; exit 1; }
  # shellcheck disable=SC2086 # words
  set -- "$dir" $having
  # `go test -list` prints a package's targets and then "ok <package> <seconds>".
  listed=$(cd "$dir" && go test -list '^Fuzz' "${@:2}")
  mapfile -t found < <(awk -v dir="$dir" '/^Fuzz/ { names[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print dir, $2, names[i]; n = 0 }' <<<"$listed")
  [ "${#found[@]}" -gt 0 ] || { echo "fuzz: no fuzz target found in $dir" >&2; exit 1; }
  targets+=("${found[@]}")
}
mapfile -t packages < <(go list -m -f '{{.Dir}}/...')
collect . "${packages[@]}"
for dir in kmskey/gcpkms kmskey/azurekv kmskey/kmsurl cmd/rowseal; do collect "$dir" ./...; done # of those with a workspace of their own, the ones that parse
failed=0
for target in "${targets[@]}"; do
  read -r dir package name <<<"$target"
  echo "fuzz: $package $name on $inputs inputs"
  # One failure does not hide the next: each leaves its input in testdata/fuzz.
  (cd "$dir" && go test -run '^$' -fuzz "^$name\$" -fuzztime "${inputs}x" "$package") || failed=$((failed + 1))
done
echo "fuzz: ${#targets[@]} targets, $failed failed"
[ "$failed" = 0 ]
