#!/usr/bin/env bash
# consumer.sh - holds the promise that importing rowseal costs a user nothing beyond GORM.
#
# It builds two programs outside the workspace, each with an empty module cache: one imports gorm, the other rowseal.
# Their go.sum must be equal, their go.mod must differ by rowseal alone, and both must have downloaded the same
# archives. A dependency of the root package, or of its tests, shows here; a provider's does not, unless the root
# package imports it.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rowseal=github.com/rowseal/rowseal
export GOWORK=off
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The version that rowseal asks for: a newer one would not be rowseal's cost.
gorm=$(cd "$repo" && go list -m -f '{{.Version}}' gorm.io/gorm)
# What the ordinary cache has is taken from there; the checksum database is asked all the same.
GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
# -modcacherw lets the trap remove the caches.
GOFLAGS="$(go env GOFLAGS) -modcacherw"
export GOPROXY GOFLAGS

consume() { # name import
  local dir=$work/$1
  mkdir "$dir" "$dir/program"
  cd "$dir/program"
  printf 'package main\n\nimport _ "%s"\n\nfunc main() {}\n' "$2" >main.go
  go mod init example.com/consumer 2>/dev/null
  go mod edit -go "$(cd "$repo" && go list -m -f '{{.GoVersion}}')" -require "gorm.io/gorm@$gorm"
  [ "$2" != "$rowseal" ] || go mod edit -require "$rowseal@v0.0.0" -replace "$rowseal=$repo"
  export GOMODCACHE=$dir/cache
  { go mod tidy && go build -o /dev/null . ; } 2>"$dir/log" || { cat "$dir/log" >&2; exit 1; }
  # gorm is an indirect requirement of the one and a direct one of the other: the same cost.
  awk '/^require \(/ { block = 1; next } /^\)/ { block = 0 } block { print $1, $2 } /^require [^(]/ { print $2, $3 }' go.mod |
    grep -v "^$rowseal " | sort >"$dir/go.mod" || true
  sort go.sum >"$dir/go.sum"
  (cd "$GOMODCACHE/cache/download" && find . -name '*.zip' | sort) >"$dir/archives"
}
(consume gorm gorm.io/gorm)
(consume rowseal "$rowseal")

differs=0
for what in go.mod go.sum archives; do
  for who in gorm rowseal; do
    echo "--- $what of a program that imports $who: $(wc -l <"$work/$who/$what") lines"
    cat "$work/$who/$what"
  done
  diff -u --label gorm --label rowseal "$work/gorm/$what" "$work/rowseal/$what" || {
    echo "consumer: $what differs: rowseal asks more of its users than gorm does (see the lines with + above)" >&2
    differs=1
  }
done
[ "$differs" = 1 ] || echo "consumer: importing rowseal costs what gorm $gorm costs"
exit "$differs"
