#!/usr/bin/env bash
# Every Rust test: with nextest where it is installed, else with cargo's own runner.
set -euo pipefail
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --locked --workspace --no-fail-fast
else
  cargo test --locked --workspace --no-fail-fast
fi
