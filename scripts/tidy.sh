#!/usr/bin/env bash
# tidy.sh - runs `go mod tidy` in every module of the workspace, and in those outside it.
#
# The modules require each other at a version that may not be published yet. The go command resolves that through
# go.work, but `go mod tidy` does not read go.work, and a released go.mod must not carry a `replace`. So each module is
# tidied against a copy of its go.mod that has a replace per sibling, and the result comes back without them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

mapfile -t modules < <(go list -m -f '{{.Path}} {{.Dir}}')
# These have workspaces of their own, with the root, and are released like the others.
apart=(kmskey/gcpkms kmskey/azurekv kmskey/kmsotel kmskey/kmsurl cmd/rowseal)
for dir in "${apart[@]}"; do modules+=("github.com/rowseal/rowseal/$dir $PWD/$dir"); done
for module in "${modules[@]}"; do
  path=${module%% *} dir=${module#* }
  echo "tidy: $path"
  cp "$dir/go.mod" "$tmp/go.mod"
  : >"$tmp/go.sum"
  [ ! -e "$dir/go.sum" ] || cp "$dir/go.sum" "$tmp/go.sum"
  siblings=()
  for other in "${modules[@]}"; do
    sibling=${other%% *}
    [ "$sibling" = "$path" ] || siblings+=("$sibling")
  done
  for other in "${modules[@]}"; do
    sibling=${other%% *}
    [ "$sibling" = "$path" ] || go mod edit -replace "$sibling=${other#* }" "$tmp/go.mod"
  done
  (cd "$dir" && GOWORK=off go mod tidy -modfile="$tmp/go.mod")
  for sibling in "${siblings[@]}"; do
    go mod edit -dropreplace "$sibling" "$tmp/go.mod"
  done
  # A sibling that is imported for the first time gets the version of "none yet", which go.work does not know.
  sed -i 's/ v0\.0\.0-00010101000000-000000000000/ v0.0.0/' "$tmp/go.mod"
  cp "$tmp/go.mod" "$dir/go.mod"
  # A module without dependencies has no go.sum.
  if [ -s "$tmp/go.sum" ]; then cp "$tmp/go.sum" "$dir/go.sum"; else rm -f "$dir/go.sum"; fi
done

# go.work.sum holds what the modules' own go.sum files lack of the workspace's build list. It is written here, whole, so
# that no go command writes it into a clean checkout.
for dir in . "${apart[@]}"; do
  rm -f "$dir/go.work.sum"
  (cd "$dir" && go list -m all >/dev/null)
done

# It is never released, so it has its replace in its own go.mod.
echo "tidy: integration/transit"
(cd integration/transit && GOWORK=off go mod tidy)
