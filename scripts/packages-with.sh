#!/usr/bin/env bash
# packages-with.sh Fuzz|Benchmark PACKAGES... - lists those of the packages whose test files declare such functions. `go test` would build and link the
# tests of all others as well, which takes minutes, to find nothing in them.
set -euo pipefail
kind=${1:?usage: packages-with.sh Fuzz|Benchmark PACKAGES...}
listed=$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' "${@:2}")
while read -r package dir; do
  [ -z "$dir" ] || ! grep -qE "^func $kind[^a-z]" "$dir"/*_test.go || echo "$package"
done <<<"$listed"
