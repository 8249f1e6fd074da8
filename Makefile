# Everything a newcomer needs: `make run`, `make release`, `make test`, `make bench`.

STAY ?= 1
LISTEN ?= 127.0.0.1:7780
DATA ?= data
BIN := target/debug/pointsman

.PHONY: run release test bench build ui openapi types need-build need-redis need-browser lint rust-tests ui-tests browser-tests

## Builds all, runs a first picture through a ComfyUI (the bundled simulator unless COMFYUI is set), and stays up.
run: build
	@STAY=$(STAY) LISTEN=$(LISTEN) DATA=$(DATA) COMFYUI="$(COMFYUI)" scripts/first-picture.sh $(BIN)

build: ui need-build
	cargo build --locked --bin pointsman

## The binary to use, with its pages: target/release/pointsman.
release: ui need-build
	cargo build --locked --release --bin pointsman

ui: ui/dist/.built

ui/dist/.built: ui/package.json ui/package-lock.json examples/first-picture.json $(shell find ui/src ui/static ui/*.html ui/*.ts -type f 2>/dev/null)
	@scripts/need.sh node 'nodejs npm' 20.19
	@scripts/need.sh npm npm
	cd ui && npm ci --no-audit --no-fund && npm run build
	@touch $@

need-build:
	@scripts/need.sh cargo ''
	@scripts/need.sh cc build-essential

need-redis:
	@scripts/need.sh redis-server redis-server

need-browser:
	@scripts/need.sh chromium 'chromium fonts-dejavu-core'

## Everything that proves the project.
test: lint rust-tests ui-tests browser-tests

lint: ui need-build
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

## Every Rust test: with nextest where it is installed, else with cargo's own runner.
rust-tests: build need-redis
	@if cargo nextest --version >/dev/null 2>&1; \
	then cargo nextest run --locked --workspace --no-fail-fast; \
	else cargo test --locked --workspace --no-fail-fast; fi

ui-tests: ui
	cd ui && npm run check && npm test

browser-tests: build need-browser need-redis
	cd tests/browser && npm ci --no-audit --no-fund && npm run check && POINTSMAN=$(CURDIR)/$(BIN) npm test

## The benchmarks, as a table with the machine they ran on.
bench: need-build need-redis ui
	@scripts/need.sh node 'nodejs npm' 20.19
	@scripts/need.sh npm npm
	cd bench/bullmq && npm ci --no-audit --no-fund
	cargo build --locked --release --bin pointsman --bin pointsman-bench
	target/release/pointsman-bench --pointsman target/release/pointsman

## Writes docs/openapi.json from the code, and the pages' types from it.
openapi:
	cargo build --locked --bin pointsman
	$(BIN) openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json
types: openapi
	cd ui && npm run types
