#!/usr/bin/env bash
# need.sh COMMAND DEBIAN-PACKAGES [VERSION]: makes sure that COMMAND is there, in VERSION
# (MAJOR.MINOR) or newer, installing the Debian packages (in one word, with spaces between) when that
# is possible, and says what to install when it is not.
set -euo pipefail
command=$1 packages=$2 version=${3:-}

is_there() { command -v "$command" >/dev/null; }
found() { "$command" --version | sed 's/^v//; s/ .*//'; }
is_new_enough() {
  [ -z "$version" ] || [ "$(printf '%s\n' "$version" "$(found)" | sort -V | head -n 1)" = "$version" ]
}

if ! is_there && [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing $packages" >&2
  apt-get update -qq >/dev/null
  # shellcheck disable=SC2086 # several packages
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi
if ! is_there; then
  echo "'$command' is missing: install it${packages:+ (Debian: $packages)} and try again" >&2
  exit 1
fi
if ! is_new_enough; then
  echo "'$command' is $(found), and has to be $version or newer: install a newer one and try again" >&2
  exit 1
fi
