#!/usr/bin/env bash
# make-postgres-image.sh - builds a Docker image that behaves like the official "postgres" image without asking a
# container registry: a minimal Debian root file system with Debian's own PostgreSQL, plus the entrypoint below.
#
# Why: where a Docker engine runs but no registry can be reached, testcontainers-go has nothing to start. It pulls only
# what the engine does not have, so with this image present its postgres module really runs.
#
# Usage (as root on Debian 12, package lists fetched; installs debootstrap when it is missing):
#   make-postgres-image.sh [-t TAG] [-w DIR] [--rootfs-only] [--chroot-test] [--keep]
#     -t TAG          image name to give it                          (default: local/postgres:15)
#     -w DIR          where to build                                 (default: a new folder under ${TMPDIR:-/var/tmp})
#     --rootfs-only   stop after the root file system, no Docker needed
#     --chroot-test   start the entrypoint inside the root file system with chroot and check what testcontainers
#                     relies on (needs no Docker; also run on its own with -w DIR of an earlier --keep build)
#     --keep          leave the build folder behind
#
# Then:  TEST_POSTGRES=docker TEST_POSTGRES_IMAGE=local/postgres:15 TESTCONTAINERS_RYUK_DISABLED=true make test
# (Ryuk, the reaper container, is an image that must be pulled as well; without it the tests remove what they start.)
#
# What of the official image it keeps: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS,
# POSTGRES_HOST_AUTH_METHOD, PGDATA, /docker-entrypoint-initdb.d/*.sh|*.sql|*.sql.gz, arguments that start with '-',
# the refusal to start without a password, STOPSIGNAL SIGINT, port 5432, and the two log lines
# "database system is ready to accept connections" (first the set-up server, then the real one).
# What differs: no *_FILE variables, no locale but C.UTF-8, and TCP from loopback inside the container needs the
# password too.
#
# Nothing is downloaded but Debian packages, from the mirror that apt is set up with.
set -euo pipefail

tag=local/postgres:15 work='' rootfs_only=0 chroot_test=0 keep=0 suite=bookworm pgver=15
while [ $# -gt 0 ]; do
  case $1 in
    -t) tag=$2; shift 2 ;;
    -w) work=$2; shift 2 ;;
    --rootfs-only) rootfs_only=1; shift ;;
    --chroot-test) chroot_test=1; shift ;;
    --keep) keep=1; shift ;;
    -h|--help) sed -n '2,/^set -e/p' "$0" | sed '$d;s/^# \{0,1\}//'; exit 0 ;;
    *) echo "unknown argument: $1 (see --help)" >&2; exit 2 ;;
  esac
done
say() { printf '%s make-postgres-image: %s\n' "$(date +%T)" "$*" >&2; }
[ "$(id -u)" = 0 ] || { say "needs root (debootstrap, chroot)"; exit 1; }
if [ -z "$work" ]; then work=$(mktemp -d "${TMPDIR:-/var/tmp}/pgimage.XXXXXX"); else mkdir -p "$work"; fi
root=$work/rootfs
mounted=''
cleanup() {
  [ -z "$mounted" ] || umount "$root/proc" 2>/dev/null || true
  if [ "$keep" = 0 ]; then rm -rf --one-file-system "$work"; else say "kept $work"; fi
}
trap cleanup EXIT

# ---------------------------------------------------------------- 1. the root file system
build_rootfs() {
  command -v debootstrap >/dev/null || {
    say "installing debootstrap"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap >/dev/null
  }
  # The mirror that apt already uses for the suite's main component: whoever chose it chose it for this too.
  local mirror
  mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" 'Component: main' | head -n 1)}
  [ -n "$mirror" ] || { say "apt has no $suite/main source here; set DEBIAN_MIRROR"; return 1; }
  say "debootstrap $suite (minbase + postgresql-$pgver) into $root"
  rm -rf "$root"
  # debootstrap's own log goes to a file: it is long, and only wanted when this fails.
  debootstrap --variant=minbase --include="postgresql-$pgver" "$suite" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 || {
    tail -n 20 "$work/debootstrap.log" >&2; return 1; }
  # The package made a cluster of its own and keeps caches, docs and init scripts that no container needs.
  rm -rf "$root"/var/lib/postgresql/"$pgver" "$root"/etc/postgresql/"$pgver" "$root"/var/cache/apt/archives/*.deb \
         "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale \
         "$root"/usr/lib/postgresql/"$pgver"/lib/bitcode "$root"/var/log/*.log "$root"/debootstrap
  : >"$root/etc/apt/sources.list"   # an image should not carry its builder's mirror
  mkdir -p "$root/docker-entrypoint-initdb.d" "$root/var/lib/postgresql/data" "$root/var/run/postgresql"
  chroot "$root" chown -R postgres:postgres /var/lib/postgresql /var/run/postgresql
  chmod 2775 "$root/var/run/postgresql"; chmod 0700 "$root/var/lib/postgresql/data"
  # Same default as the official image: listen everywhere inside the container.
  sed -i "s/^#\?listen_addresses *=.*/listen_addresses = '*'/" "$root/usr/share/postgresql/$pgver/postgresql.conf.sample"
  write_entrypoint
}

# ---------------------------------------------------------------- 2. the entrypoint
write_entrypoint() {
  cat >"$root/usr/local/bin/docker-entrypoint.sh" <<'ENTRY'
#!/bin/bash
# Entrypoint compatible with the official postgres image as far as testcontainers and compose files use it.
set -Eeo pipefail
export PATH="/usr/lib/postgresql/${PG_MAJOR:-15}/bin:$PATH" PGDATA="${PGDATA:-/var/lib/postgresql/data}" LANG="${LANG:-C.UTF-8}"
[ "${1:0:1}" = '-' ] && set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown -R postgres:postgres "$PGDATA" /var/run/postgresql
  chmod 0700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/var/lib/postgresql "$BASH_SOURCE" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres} db=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
    echo >&2 'Error: Database is uninitialized and superuser password is not specified.'
    echo >&2 '       You must specify POSTGRES_PASSWORD to a non-empty value, or POSTGRES_HOST_AUTH_METHOD=trust.'
    exit 1
  fi
  pw=$(mktemp); printf '%s\n' "$POSTGRES_PASSWORD" >"$pw"
  [ -n "$POSTGRES_PASSWORD" ] && pwopt=(--pwfile="$pw") || pwopt=()
  # Socket: trust, as in the official image. TCP: the password, from loopback inside the container too (the official
  # image trusts that; a password test must not pass by accident).
  eval 'initdb --username="$user" "${pwopt[@]}" --encoding=UTF8 --auth-local=trust --auth-host="${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" -D "$PGDATA" '"$POSTGRES_INITDB_ARGS"
  rm -f "$pw"
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
  # First server: set-up only, on the socket and with no TCP port. It logs "ready to accept connections" once.
  given=''; [ $# -le 1 ] || given=$(printf '%q ' "${@:2}")   # no arguments must not become one that is empty
  PGUSER=$user pg_ctl -D "$PGDATA" -o "$given -c listen_addresses='' -p ${PGPORT:-5432}" -w start
  export PGPASSWORD=$POSTGRES_PASSWORD
  run_psql() { psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$user" --no-password "$@"; }
  if [ "$(run_psql -d postgres -Atc "select 1 from pg_database where datname = '${db//\'/\'\'}'")" != 1 ]; then
    run_psql -d postgres -v db="$db" <<<'CREATE DATABASE :"db";'
  fi
  export POSTGRES_USER=$user POSTGRES_DB=$db
  for f in /docker-entrypoint-initdb.d/*; do
    case $f in
      *.sh)     echo "running $f"; if [ -x "$f" ]; then "$f"; else . "$f"; fi ;;
      *.sql)    echo "running $f"; run_psql -d "$db" -f "$f" ;;
      *.sql.gz) echo "running $f"; gunzip -c "$f" | run_psql -d "$db" ;;
      '/docker-entrypoint-initdb.d/*') ;;
      *)        echo "ignoring $f" ;;
    esac
  done
  PGUSER=$user pg_ctl -D "$PGDATA" -m fast -w stop
  unset PGPASSWORD
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
fi
# Second server: the real one, as the container's only process. It logs the line the second time.
exec "$@"
ENTRY
  chmod 0755 "$root/usr/local/bin/docker-entrypoint.sh"
}

# ---------------------------------------------------------------- 3. a test that needs no Docker
# Runs the entrypoint in a chroot as Docker would (same environment, same command as testcontainers' module gives)
# on a loopback port of its own, and checks what testcontainers waits for and what a test then does.
run_chroot_test() {
  local port=${CHROOT_TEST_PORT:-55432} log=$work/chroot-test.log pid n q
  say "chroot test on 127.0.0.1:$port"
  mount -t proc proc "$root/proc" && mounted=1
  [ -c "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3
  rm -rf "$root/var/lib/postgresql/data"; mkdir -p "$root/var/lib/postgresql/data"
  echo 'create table from_initdb (x int); insert into from_initdb values (42);' >"$root/docker-entrypoint-initdb.d/010-t.sql"
  # 3a. no password: must refuse
  if chroot "$root" env -i PATH=/usr/bin:/bin /usr/local/bin/docker-entrypoint.sh postgres >"$log" 2>&1; then
    say "FAIL: started without a password"; return 1; fi
  grep -q 'superuser password is not specified' "$log" || { say "FAIL: unexpected refusal"; cat "$log" >&2; return 1; }
  # 3b. as testcontainers starts it
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin POSTGRES_USER=app POSTGRES_PASSWORD='s3 cret' POSTGRES_DB=appdb PGPORT="$port" \
    chroot "$root" /usr/local/bin/docker-entrypoint.sh postgres -c fsync=off -c listen_addresses=127.0.0.1 -p "$port" >"$log" 2>&1 &
  pid=$!
  for _ in $(seq 300); do
    n=$(grep -c 'database system is ready to accept connections' "$log" || true)
    [ "$n" -ge 2 ] && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  local rc=0
  [ "${n:-0}" -eq 2 ] || { say "FAIL: ready line seen ${n:-0} times, want 2"; rc=1; }
  q() { chroot "$root" env -i PATH=/usr/bin:/bin PGPASSWORD="$1" psql -h 127.0.0.1 -p "$port" -U app -d appdb -Atc "$2"; }
  [ "$(q 's3 cret' "select x from from_initdb")" = 42 ] || { say "FAIL: initdb.d script did not run, or no login over TCP"; rc=1; }
  if q wrong 'select 1' >/dev/null 2>&1; then say "FAIL: a wrong password was let in"; rc=1; fi
  [ "$(q 's3 cret' "show fsync")" = off ] || { say "FAIL: arguments not handed on"; rc=1; }
  # the check testcontainers' listening-port wait runs inside the container
  chroot "$root" /bin/sh -c "cat /proc/net/tcp* | awk '{print \$2}' | grep -qi :$(printf %04x "$port")" || { say "FAIL: port check needs awk and grep"; rc=1; }
  # SIGINT is the image's stop signal: fast shutdown. The server is the entrypoint's own process (it was exec'd).
  kill -INT "$pid"; wait "$pid" || { say "FAIL: exit status $? after SIGINT"; rc=1; }
  grep -q 'database system is shut down' "$log" || { say "FAIL: no clean shutdown"; rc=1; }
  # 3c. a second start over the same data must not initialise again
  rm -f "$root/docker-entrypoint-initdb.d/010-t.sql"
  umount "$root/proc" && mounted=''
  rm -rf "$root/var/lib/postgresql/data"; mkdir -p "$root/var/lib/postgresql/data"
  chroot "$root" chown postgres:postgres /var/lib/postgresql/data; chmod 0700 "$root/var/lib/postgresql/data"
  [ $rc = 0 ] && say "chroot test passed ($(grep -c . "$log") log lines)" || { tail -n 40 "$log" >&2; }
  return $rc
}

# ---------------------------------------------------------------- 4. the image
import_image() {
  docker version --format 'engine {{.Server.Version}}, API {{.Server.APIVersion}}' >&2 || { say "no Docker engine answers"; return 1; }
  say "docker import as $tag"
  tar -C "$root" --numeric-owner --one-file-system --exclude=./proc/* --exclude=./sys/* --exclude=./dev/* -cf - . |
    docker import --message 'Debian postgresql package, see make-postgres-image.sh' \
      --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/$pgver/bin" \
      --change 'ENV LANG=C.UTF-8' --change "ENV PG_MAJOR=$pgver" --change 'ENV PGDATA=/var/lib/postgresql/data' \
      --change 'ENTRYPOINT ["docker-entrypoint.sh"]' --change 'CMD ["postgres"]' \
      --change 'EXPOSE 5432' --change 'VOLUME /var/lib/postgresql/data' - "$tag"
  # `docker import` knows no STOPSIGNAL. The old builder can add it without BuildKit or a registry; without it a
  # `docker stop` sends SIGTERM, on which PostgreSQL waits for its clients: slower clean-up, nothing worse.
  printf 'FROM %s\nSTOPSIGNAL SIGINT\n' "$tag" | DOCKER_BUILDKIT=0 docker build -q -t "$tag" - >/dev/null 2>"$work/build.log" ||
    say "no STOPSIGNAL in the image: $(tail -n 1 "$work/build.log")"
  docker image inspect --format '{{.Id}} {{.Size}} bytes' "$tag"
}

if [ -x "$root/usr/lib/postgresql/$pgver/bin/postgres" ]; then write_entrypoint; else build_rootfs; fi
say "root file system: $(du -sm "$root" | cut -f1) MiB"
[ $chroot_test = 0 ] || run_chroot_test
[ $rootfs_only = 1 ] || import_image
