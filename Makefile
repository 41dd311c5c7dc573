# The commands of this repository. `make` lists them.
.DEFAULT_GOAL := help

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## One run on this machine, to a fake Iterable server: no Kubernetes, no root
	@demo/run

demo: ## The same, then the operator on a real cluster of one node
	@demo/up

demo-down: ## Remove everything that the demo created
	@demo/down

test: ## Run all tests: unit, property, integration, then end to end on a real cluster
	@tests/run

test-local: ## All tests except the end-to-end suite: no cluster, no root
	@tests/run --local

lint: ## Check format, lints and shell scripts, as `make test` does; then licenses, sources and advisories
	@tests/lint
	@deploy/check-dependencies

crd: ## Generate the CRD and the manifests (needs helm)
	cargo build --quiet --locked --workspace --bins
	deploy/generate "$${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/debug/event-forwarder"

notices: ## Generate the third-party notices and the CA certificates of the image
	deploy/notices
	UPDATE_CA_CERTIFICATES=1 cargo test --quiet --locked --test repository

.PHONY: help run demo demo-down test test-local lint crd notices
