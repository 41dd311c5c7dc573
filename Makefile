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
	cargo deny --locked check bans licenses sources
	shellcheck .ci/run demo/up demo/down demo/common tests/run tests/cluster/cluster tests/cluster/selftest tests/sqs/setup deploy/build-image

crd: ## Write the resource's definition to where crds/ and the chart keep it
	cargo run --quiet --locked -- crd > crds/eventforwarder.yaml
	cp crds/eventforwarder.yaml charts/event-forwarder/files/crd.yaml

.PHONY: help demo demo-down test lint crd
