# What people do here. `make` lists it.

CARGO ?= cargo

.PHONY: help build test lint docs deny bench soak demo serve

help: ## This list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

build: ## The one binary, target/release/permitd
	$(CARGO) build --release

test: ## Every test; needs nothing but Rust
	$(CARGO) test --workspace --all-targets
	$(CARGO) test --workspace --doc

lint: ## Format, clippy and documentation, warnings being errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

deny: ## Licences, advisories known to the tool, and sources of what we depend on
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources

bench: ## The heart's benchmark, then the server's against a bare echo
	$(CARGO) bench -p permitd-budget --bench heart
	$(CARGO) run --release -p permitd-lab -- bench

soak: ## Hours, not minutes: the property tests with many more cases, and many more kills of a server under load
	PERMITD_PROPTEST_CASES=20000 $(CARGO) test --release -p permitd-budget
	PERMITD_KILLS=50 $(CARGO) test --release -p permitd-tests --test durable kills -- --nocapture

demo: ## A fleet of clients shares a provider, first without permitd, then with it
	$(CARGO) run --release -- demo

serve: ## A server with the example configuration
	$(CARGO) run --release -- serve --config permitd.example.toml
