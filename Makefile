# The commands of this repository. `make` alone lists them.
.DEFAULT_GOAL := help

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Start everything on this machine and watch a queue empty into Iterable's stand-in
	@demo/up

demo-down: ## Remove all that the demo made
	@demo/down

test: ## Run all tests: unit, property, integration, then end to end on a real cluster
	@tests/run

lint: ## Check format, lints, dependencies and scripts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --test e2e --locked -- -D warnings
	cargo deny --locked check bans licenses sources
	shellcheck -x .ci/run demo/up demo/down tests/run tests/cluster/cluster tests/cluster/selftest tests/cluster/programs/kubernetes/pin tests/skew tests/sqs/setup deploy/build-image deploy/generate

crd: ## Write the definition and the manifests made of it anew (needs helm)
	cargo build --quiet --locked
	deploy/generate $${CARGO_TARGET_DIR:-target}/debug/event-forwarder

.PHONY: help demo demo-down test lint crd
