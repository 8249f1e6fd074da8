#!/usr/bin/env bash
# prepare.sh [DIRECTORY]: makes what compose.yaml mounts: a certificate authority and a certificate
# for each node, passwords, and the configuration files that redis-server and the sentinels write
# into themselves. What is there already is kept, so it can be run again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
to=${1:-$here/data}
umask 077
mkdir -p "$to"
cd "$to"
to=$(pwd) # compose would look for a relative one beside compose.yaml
case $to in *[:\'\$]*) echo "$to: compose cannot mount a path with ':', \"'\" or '\$'" >&2; exit 1 ;; esac
mkdir -p artifacts server

password() { # NAME: made once, kept in passwords/NAME
  mkdir -p passwords
  [ -s "passwords/$1" ] || openssl rand -hex 24 > "passwords/$1"
  cat "passwords/$1"
}
quietly() { # COMMAND: what it says is shown if it fails
  local said
  said=$("$@" 2>&1) || { printf '%s\nfailed: %s\n' "$said" "$*" >&2; return 1; }
}
sha256() { printf %s "$1" | openssl dgst -sha256 -r | cut -d' ' -f1; }
digests() { # NAME: of its password, and of the one before while passwords/NAME.old is there
  printf '#%s' "$(sha256 "$(password "$1")")"
  [ ! -s "passwords/$1.old" ] || printf ' #%s' "$(sha256 "$(cat "passwords/$1.old")")"
}

if [ ! -s ca.key ]; then
  quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -subj '/CN=Pointsman Redis CA' -keyout ca.key.new -out ca.crt
  mv ca.key.new ca.key
fi

node() { # NAME: its directory, with a certificate for two years
  mkdir -p "$1"
  cp ca.crt "$1/ca.crt"
  [ -s "$1/node.crt" ] && return
  quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
    -keyout "$1/node.key" -out "$1/node.csr"
  echo "subjectAltName=DNS:$1,DNS:localhost,IP:127.0.0.1" > "$1/node.ext"
  quietly openssl x509 -req -in "$1/node.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 730 \
    -extfile "$1/node.ext" -out "$1/node.crt"
  rm "$1/node.csr" "$1/node.ext"
}

# After a fail-over it is another one than at first: the sentinels write it down.
primary=redis-0
[ ! -s sentinel-0/sentinel.conf ] ||
  primary=$(sed -n 's/^sentinel monitor main \([^ ]*\) .*/\1/p' sentinel-0/sentinel.conf)

for name in redis-0 redis-1 redis-2; do
  node "$name"
  mkdir -p "$name/data"
  sed -e "s/#POINTSMAN_SHA256/$(digests pointsman)/" \
    -e "s/#WORKER_SHA256/$(digests worker)/" \
    -e "s/#REPLICA_SHA256/$(digests replica)/" \
    -e "s/#SENTINEL_SHA256/$(digests sentinel)/" \
    -e "s/#OPERATOR_SHA256/$(digests operator)/" "$here/users.acl" > "$name/users.acl"
  [ -s "$name/redis.conf" ] && continue
  cp "$here/redis.conf" "$name/redis.conf"
  {
    echo "masterauth $(password replica)"
    echo "replica-announce-ip $name"
    [ "$name" = "$primary" ] || echo "replicaof $primary 6379"
  } >> "$name/redis.conf"
done

for name in sentinel-0 sentinel-1 sentinel-2; do
  node "$name"
  mkdir -p "$name/data"
  [ -s "$name/sentinel.conf" ] && continue
  cp "$here/sentinel.conf" "$name/sentinel.conf"
  {
    echo "sentinel announce-ip $name"
    echo "sentinel auth-pass main $(password sentinel)"
  } >> "$name/sentinel.conf"
done

sentinels=sentinel-0:26379,sentinel-1:26379,sentinel-2:26379
cat > .env <<ENV
DATA='$to'
RUN_AS=$(id -u):$(id -g)
REDIS_URL=rediss+sentinel://pointsman:$(password pointsman)@$sentinels/main?ca=/etc/pointsman/ca.crt
ENV
printf 'made %q; next:\n  pointsman token add me --role admin --data %q\n' "$to" "$to/server"
printf '  docker compose --env-file %q -f %q up -d\n' "$to/.env" "$here/compose.yaml"
