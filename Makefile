# The commands of this repository. `make` alone lists them.
.DEFAULT_GOAL := help

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## One run on this machine, into a stand-in for Iterable: no Kubernetes, no root
	@demo/run

demo: ## The same, then the operator on a real cluster of one node
	@demo/up

demo-down: ## Remove everything that the demo made
	@demo/down

test: ## Run all tests: unit, property, integration, then end to end on a real cluster
	@tests/run

test-local: ## All tests but the end-to-end suite: no cluster, no root
	@tests/run --local

lint: ## Format, lints and shell scripts, which `make test` checks too; then licenses, sources and advisories
	@tests/lint
	@deploy/check-dependencies

crd: ## Write the CRD and the manifests made of it again (needs helm)
	cargo build --quiet --locked --workspace --bins
	deploy/generate "$${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/debug/event-forwarder"

notices: ## Write the third-party notices and the certificate authorities of the image again
	deploy/notices
	UPDATE_CA_CERTIFICATES=1 cargo test --quiet --locked --test repository authorities

.PHONY: help run demo demo-down test test-local lint crd notices
