# Everything here needs Go and make, nothing else; what a target needs beyond them it says.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO       ?= go
BIN      := $(CURDIR)/bin
RESULTS  := $(BIN)/test
TOOL     := $(GO) tool -modfile=tools/go.mod
FUZZTIME ?= 20s
ARGS     ?=

# Tests by what they need. A package that is not named in the two lists is tested as unit. Those of the two lists are never taken
# from the cache of go test (-count=1): it sees neither the kernel nor the agents that they build.
KERNEL_DIRS  := internal/feature internal/kern internal/stub internal/region internal/tracer internal/keeper \
                migrator/pages migrator/freeze migrator/thaw migrator/ferry homeproxy/shadow homeproxy/guest
CLUSTER_DIRS := node internal/lab test/cluster test/workloads test/conformance test/accept

# The brains have no goroutines, as floors_test.go sees to: there the race detector finds nothing and costs much.
PURE_DIRS    := gossip balancer migrator homeproxy internal/sim

PACKAGES = $(shell $(GO) list ./...)
KERNEL   = $(filter $(KERNEL_DIRS:%=mosix/%),$(PACKAGES))
CLUSTER  = $(filter $(CLUSTER_DIRS:%=mosix/%),$(PACKAGES))
UNIT     = $(filter-out $(KERNEL) $(CLUSTER),$(PACKAGES))
PURE     = $(filter $(PURE_DIRS:%=mosix/%),$(UNIT))

# The race detector is the one thing that needs a C compiler. Everything else is built and tested without, as it is shipped.
RACE = $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo -race)

# The version that is built in comes from git, which would refuse to look at a clone that belongs to another user (sudo).
export GIT_CONFIG_COUNT   := 1
export GIT_CONFIG_KEY_0   := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)
TESTSUM = $(BIN)/testsum

# $(call gotest,NAME,FLAGS,PACKAGES) runs tests and keeps their summary.
define gotest
@mkdir -p $(RESULTS)
@echo "--- $(1) tests $(2)"
@if [ -z "$(strip $(3))" ]; then echo "no packages"; exit 0; fi; \
	CGO_ENABLED=$(if $(findstring -race,$(2)),1,0) $(GO) test -json $(2) $(3) | $(TESTSUM) -name $(1) -save $(RESULTS)/$(1).json
endef

.PHONY: help build demo test test-unit test-pure test-race test-kernel test-cluster lint fuzz bench accept balance-report clean go

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

build: go ## build bin/mosixd and bin/mosixctl, static, without a C compiler
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/mosixd ./cmd/mosixctl

demo: build ## three nodes on this machine, nine programs that spread by themselves (needs root)
	@if [ "$$(id -u)" != 0 ]; then echo "The demo makes namespaces and cgroups and needs root. It is built; now run: sudo $(BIN)/mosixctl demo"; exit 1; fi
	$(BIN)/mosixctl demo $(ARGS)

test: go ## everything that must hold: lint, unit, kernel and cluster tests; ends with the totals
	@rm -rf $(RESULTS)
	@status=0; \
	for t in lint test-unit test-kernel test-cluster; do $(MAKE) $$t || status=1; done; \
	echo "--- all tests"; \
	$(TESTSUM) -total $(RESULTS)/*.json || status=1; \
	exit $$status

test-unit: $(TESTSUM) ## what needs nothing: pure code, codecs, transcripts, seeds of fuzz tests, floors
	@status=0; for t in test-pure test-race; do $(MAKE) $$t || status=1; done; exit $$status

test-pure: $(TESTSUM)
	$(call gotest,pure,-timeout 10m,$(PURE))

test-race: $(TESTSUM)
	$(call gotest,unit,$(RACE) -timeout 10m,$(filter-out $(PURE),$(UNIT)))

test-kernel: $(TESTSUM) ## what holds processes of its own on this kernel (skips what needs root)
	$(call gotest,kernel,-count=1 -timeout 10m -p 1,$(KERNEL))

test-cluster: $(TESTSUM) build ## real agents in namespaces of their own, one package at a time (skips what needs root)
	$(call gotest,cluster,-count=1 -timeout 15m -p 1,$(CLUSTER))

lint: go ## gofmt, go vet, staticcheck
	@echo "--- gofmt, vet, staticcheck"
	@files=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	if [ -n "$$files" ]; then echo "gofmt would change these; run gofmt -w on them:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

fuzz: go ## run every fuzz test for FUZZTIME (20s)
	@for p in $(UNIT) $(KERNEL); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "--- $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; \
		done; \
	done

bench: build ## measure moves: freeze and total time, beside stop-and-copy (needs root)
	$(BIN)/mosixctl bench move $(ARGS)

accept: build ## run every acceptance line and print the table (needs root, and some minutes)
	$(GO) run ./test/accept $(ARGS)

balance-report: ## play the policies in the simulator and write docs/balancing.md (an hour; can be stopped, goes on where it was)
	@mkdir -p $(BIN)
	$(GO) run ./test/balance $(ARGS)

clean: ## remove what was built
	rm -rf $(BIN)

$(TESTSUM): go $(wildcard test/testsum/*.go)
	@mkdir -p $(BIN)
	@$(GO) build -o $@ ./test/testsum

go:
	@command -v $(GO) >/dev/null || { echo "Go was not found. Install it from https://go.dev/dl/ (any version from 1.21 fetches the one that go.mod names)."; exit 1; }
