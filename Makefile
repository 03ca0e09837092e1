# What people and CI call. The work is in scripts/, debian/ and tests/box/.

SHELL := /bin/bash

# Images, the runtime's binary and CI's compiled code are kept here between runs.
ASH_CACHE ?= $(if $(filter 0,$(shell id -u)),/var/cache/ash-test,$(HOME)/.cache/ash-test)
export ASH_CACHE
# Where rustup puts cargo; sudo, and shells older than the toolchain, do not look there.
export PATH := $(PATH):$(HOME)/.cargo/bin

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## compile all programs for development
	cargo build --locked

fmt: ## format the code
	cargo fmt

deb: ## build the Debian package into dist/
	scripts/setup build box
	scripts/build-deb

check: ## everything CI checks: lints, tests, package, machines of both releases
	scripts/check

demo: ## install the package in a throw-away Debian machine and talk to an agent there
	scripts/demo

bench: ## measure the figures the project promises
	scripts/bench

soak: ## the long tests: hours of load, restarts and faults
	scripts/soak

torture: ## let an agent try to get out of its sandbox; writes dist/torture.md
	scripts/torture

.PHONY: help build fmt deb check demo bench soak torture
