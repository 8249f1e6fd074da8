#!/usr/bin/env bash
# need.sh COMMAND DEBIAN-PACKAGES [MAJOR]: makes sure that COMMAND is there, installing the Debian
# packages (in one word, with spaces between) when that is possible, and says what to install when
# it is not.
set -euo pipefail
command=$1 package=$2 major=${3:-}

if command -v "$command" >/dev/null; then
  if [ -n "$major" ]; then
    found=$("$command" --version | sed 's/^v//; s/\..*//')
    [ "$found" -ge "$major" ] || { echo "need $command $major or newer; found $found" >&2; exit 1; }
  fi
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing $package" >&2
  apt-get update -qq >/dev/null
  # shellcheck disable=SC2086 # several packages
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $package >/dev/null
  command -v "$command" >/dev/null && exit 0
fi
echo "'$command' is missing: install it (Debian package '$package') and try again" >&2
exit 1
