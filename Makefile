# SPDX-License-Identifier: GPL-3.0-or-later
# Every target says what it does in `make help`; .ci/run calls the same ones.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Keys and values are erased from registers and stack after use (runtime/secret).
export GOEXPERIMENT := runtimesecret
# pg_query is C.
export CGO_ENABLED := 1
# One set of flags for all targets, so that they share one build cache (but the program,
# and the tests that count allocations, which are compiled by its profile, default.pgo).
export GOFLAGS := $(strip $(filter-out -mod=% -trimpath,$(GOFLAGS)) -mod=readonly -trimpath)

GO ?= go
BIN := $(CURDIR)/bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PG_CONFIG ?= $(shell command -v pg_config || ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -V | tail -n 1)
export PG_CONFIG
FUZZTIME ?= 30s
DEV_ARGS ?=
DOORS_ARGS ?=

GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(BIN)/golangci-lint-$(GOLANGCI_VERSION)

# Tests with modules of their own, so that what they need is not the product's.
MODULES := e2e/drivers/pq
# Others' program that speaks the AWS KMS's protocol, for tests.
LOCAL_KMS := $(BIN)/local-kms

# Others' program that builds Debian packages.
NFPM := $(BIN)/nfpm
# The servers that `make packages` builds the extension for.
PG_CONFIGS ?= $(PG_CONFIG)

# `sudo -n` only where it is needed and only for the one command that needs it.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo "sudo -n")

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install by apt what is missing (without root: print the apt line and stop)
	@.ci/deps

.PHONY: build
build: ## build bin/hyperion-vault
	$(GO) build -tags netgo,osusergo -ldflags '-X main.version=$(VERSION)' -o $(BIN)/hyperion-vault ./cmd/hyperion-vault

.PHONY: install-extension
install-extension: ## build the extension and install it into the server of PG_CONFIG
	@test -n "$(PG_CONFIG)" || { echo "no pg_config found: run \`make deps\` or set PG_CONFIG" >&2; exit 1; }
	$(MAKE) -C extension PG_CONFIG="$(PG_CONFIG)" all
	$(SUDO) $(MAKE) -C extension PG_CONFIG="$(PG_CONFIG)" install

.PHONY: unit
unit: ## Go tests that need no server (race detector, shuffled; allocations, and faults at every call of the disk, without it)
	$(GO) test -race -shuffle=on ./...
	$(GO) test -count=1 -pgo=$(CURDIR)/cmd/hyperion-vault/default.pgo -run 'Alloc|EveryCall' ./proxy/... ./rewrite/... ./envelope/...
	$(GO) test -run '^$$' -pgo=$(CURDIR)/cmd/hyperion-vault/default.pgo -bench '^BenchmarkUntouched' -benchtime 2000x -benchmem ./proxy | $(NO_ALLOCATIONS)

# Fails unless each benchmark of the three forms of the protocol shows 0 allocs/op.
NO_ALLOCATIONS = awk '{ print } $$NF == "allocs/op" { seen++; if ($$(NF - 1) != 0) bad = 1 } \
	END { if (bad || seen < 3) { print "untouched traffic must not allocate" > "/dev/stderr"; exit 1 } }'

.PHONY: installcheck
installcheck: install-extension ## pg_regress suite of the extension, on a scratch server
	extension/test/run.sh

# Two packages at a time: they wait more than they work.
.PHONY: e2e
e2e: build install-extension $(LOCAL_KMS) ## tests with real servers (build tag e2e)
	@rm -f e2e/out/transparency/{drivers,tools,loads}-*
	$(GO) test -tags e2e -count=1 -p 2 -timeout 10m ./e2e/... ./rewrite ./proxy ./proxy/vault/... ./cmd/devcluster/... ./cmd/hyperion-vault/...
	$(GO) test -tags transparency -count=1 ./e2e/report

.PHONY: regress
regress: build install-extension ## PostgreSQL's own test suites, direct and through a node, all of them (e2e runs libpq_pipeline)
	@rm -f e2e/out/transparency/suites-*
	$(GO) test -tags e2e,regress -count=1 -v -timeout 90m ./e2e/regress

.PHONY: transparency
transparency: ## write docs/TRANSPARENCY.md from the rows that the last `make e2e` or `make regress` left
	$(GO) test -tags transparency -count=1 ./e2e/report -update

# What to do where no container engine answers: fail, or skip.
WITHOUT_ENGINE ?= fail
# -built takes the images of the last run; BUILD_GOFLAGS=-p=1 builds them on one processor.
E2E_DOCKER_ARGS ?=

.PHONY: e2e-docker
e2e-docker: ## the images and the cluster of docker/compose.yml, broken and mended, about 10 min once the images are built; needs a container engine (WITHOUT_ENGINE=skip)
	@if docker version >/dev/null 2>&1; then \
		set -x; $(GO) test -tags docker -count=1 -v -timeout 90m ./e2e/docker $(E2E_DOCKER_ARGS); \
	elif [ "$(WITHOUT_ENGINE)" = skip ]; then \
		echo "== e2e-docker SKIPPED: no container engine answers (docker version); nothing was tested"; \
	else \
		echo "no container engine answers (docker version), so nothing can be tested; WITHOUT_ENGINE=skip leaves it out" >&2; exit 1; \
	fi

SOAK ?= 30m

.PHONY: soak
soak: build install-extension ## hundreds of clients at work for SOAK=30m, hostile ones beside them (SOAK_SESSIONS=500)
	SOAK=$(SOAK) $(GO) test -tags e2e -count=1 -v -timeout 0 -run '^TestAttacks$$|^TestSoak$$' -p 1 ./e2e/hostile ./e2e/soak

ROBUSTNESS ?= 20m
# Decides which faults come and what clients do; empty: some seed.
SEED ?=
FAULT ?=

.PHONY: robustness
robustness: build install-extension ## break clusters for ROBUSTNESS=20m while clients work, and judge what those saw (SEED=, FAULT=; e2e does each fault once)
	ROBUSTNESS=$(ROBUSTNESS) SEED=$(SEED) FAULT="$(FAULT)" $(GO) test -tags e2e -count=1 -v -timeout 0 ./e2e/faults -run '^TestRobustness$$'

ROTATION_ARGS ?= -secrets 200 -longest 5s -for 3m

.PHONY: rotation
rotation: build install-extension ## rotate 200 secrets every 1-5 s on three nodes for 3 min while nodes and the primary are killed or stopped (ROTATION_ARGS=; e2e does it once on 40)
	$(GO) test -tags e2e -count=1 -v -timeout 0 ./e2e/rotation -run '^TestExactlyOnce$$' $(ROTATION_ARGS)

# Not part of `make test`: it makes roots with other releases of Debian.
MAJORS ?= 15 17 18

.PHONY: matrix
matrix: build $(LOCAL_KMS) $(NFPM) ## extension and e2e with PostgreSQL 15, 17 and 18 (MAJORS=18), upgrades between them and of ours; an hour and 4 GB each; writes docs/COMPATIBILITY.md
	NFPM=$(NFPM) e2e/matrix/run.sh $(MAJORS)

TEST_STEPS := lint unit installcheck e2e verify

.PHONY: test
test: deps ## all that CI runs: lint, unit, installcheck, e2e, verify
	@for step in $(TEST_STEPS); do \
		start=$$SECONDS; \
		echo "== $$step"; \
		$(MAKE) --no-print-directory $$step || { echo "== $$step failed after $$((SECONDS - start)) s" >&2; exit 1; }; \
		echo "== $$step passed in $$((SECONDS - start)) s"; \
	done

.PHONY: fuzz
fuzz: ## run every fuzz target in turn, FUZZTIME=30s each
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"; \
		done; \
	done

.PHONY: fuzz-server
fuzz-server: build ## compare our reading of random texts with a server's for FUZZTIME
	$(GO) test -tags e2e -count=1 -timeout 0 -run '^TestServerReads$$' ./rewrite -v -reading-time $(FUZZTIME)

.PHONY: doors
doors: build install-extension ## the table of doors by triples instead of pairs (a quarter of an hour; DOORS_ARGS='-seed 1')
	$(GO) test -tags e2e -count=1 -timeout 0 -run '^TestDoors$$' ./e2e/doors -v -strength 3 $(DOORS_ARGS)

KILLS ?= 1000
NODE_KILLS ?= 100

.PHONY: audit-kills
audit-kills: build install-extension ## kill a process that records, KILLS=1000 times in either mode, and a node under load NODE_KILLS=100 times: no record lost, none twice
	$(GO) test -count=1 -v -timeout 2h ./proxy/vault/audit -run '^TestKill$$' -kills $(KILLS)
	$(GO) test -tags e2e -count=1 -v -timeout 2h ./e2e/audit -run '^TestKilled$$' -node-kills $(NODE_KILLS)

# Not part of `make test`: it wants a machine with nothing else to do.
BENCH ?= full
BENCH_ARGS ?=
.PHONY: bench
bench: build install-extension ## speed against PgBouncer and the bare server, about 50 min (BENCH=quick: 5); writes docs/BENCHMARKS.md and .json
	$(GO) build -tags netgo,osusergo,noaudit -ldflags '-X main.version=$(VERSION)-noaudit' -o $(BIN)/hyperion-vault-noaudit ./cmd/hyperion-vault
	$(GO) build -o $(BIN)/bench ./e2e/bench
	$(BIN)/bench $(if $(filter quick,$(BENCH)),-quick,-json docs/benchmarks.json -markdown docs/BENCHMARKS.md) $(BENCH_ARGS)

# In a directory without a name: the profile has the program's path.
.PHONY: profile
profile: install-extension ## write the profile that the compiler optimises by (cmd/hyperion-vault/default.pgo), 2 min and a build; nothing else may run meanwhile
	$(GO) build -o $(BIN)/bench ./e2e/bench
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; set -x; \
	$(GO) build -pgo=off -tags netgo,osusergo,profile -ldflags '-X main.version=$(VERSION)-profile' -o "$$dir/hyperion-vault" ./cmd/hyperion-vault; \
	HYPERION_VAULT_BINARY=$$dir/hyperion-vault $(BIN)/bench -pgo cmd/hyperion-vault/default.pgo -pairs 2 -seconds 6

# Rounds of each fault.
SWITCHOVERS ?= 4

.PHONY: bench-switchover
bench-switchover: build install-extension ## how long writes stop when Patroni changes the primary, through a node and through HAProxy, 6 min; writes docs/BENCHMARKS.md and switchover.json
	$(GO) test -tags e2e -count=1 -v -timeout 1h ./e2e/switchover -rounds $(SWITCHOVERS) -document

# Secrets; e2e has 300 and 1,000.
SECRETS ?= 10000

.PHONY: kms-many
kms-many: build install-extension $(LOCAL_KMS) ## SECRETS=10000 under the AWS KMS: one statement opens them all, and a flush leaves nothing of them in the node's memory; 20 min
	$(GO) test -tags e2e -count=1 -v -timeout 1h -run '^TestWindow$$|^TestMemory' ./e2e/awskms -secrets $(SECRETS) -operations $(SECRETS)

.PHONY: timing
timing: build install-extension ## how long a verify takes tells nothing: 20,000 calls, and as many of the comparison alone, 5 min; nothing else may run meanwhile
	$(GO) test -count=1 -v -timeout 10m -run '^TestMatchTiming$$' ./proxy/vault -timing 20000
	$(GO) test -tags e2e -count=1 -v -timeout 30m -run '^TestTiming$$|^TestDifference$$' ./e2e/rest -timing 20000

# Random requests against REST; e2e sends 5,000.
REQUESTS ?= 100000

.PHONY: hostile-rest
hostile-rest: build install-extension ## send REQUESTS=100000 random requests to REST (SEED= repeats a run)
	$(GO) test -tags e2e -count=1 -v -timeout 2h -run '^TestRandomRequests$$' ./e2e/rest -requests $(REQUESTS) $(if $(SEED),-seed $(SEED))

.PHONY: lint
lint: $(GOLANGCI) ## golangci-lint and shellcheck
	$(GOLANGCI) run
	@for module in $(MODULES); do (set -x; cd "$$module" && $(GOLANGCI) run); done
	shellcheck .ci/run .ci/deps $$(git ls-files '*.sh' 'packaging/deb/*.p*')

.PHONY: fmt
fmt: $(GOLANGCI) ## format all Go files
	$(GOLANGCI) fmt

.PHONY: fix
fix: $(GOLANGCI) ## apply the fixes that the linters know
	@for module in . $(MODULES); do (set -x; cd "$$module" && $(GOLANGCI) run --fix && $(GO) mod tidy); done

$(LOCAL_KMS): e2e/kms/go.mod
	cd e2e/kms && GOEXPERIMENT= $(GO) build -o $@ github.com/nsmithuk/local-kms

$(NFPM): packaging/nfpm/go.mod
	cd packaging/nfpm && GOEXPERIMENT= CGO_ENABLED=0 $(GO) build -o $@ github.com/goreleaser/nfpm/v2/cmd/nfpm

# Built, not downloaded; outside our own flags and experiment, which are not its own.
$(GOLANGCI):
	GOFLAGS=-trimpath GOEXPERIMENT= GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(BIN)/golangci-lint $@

.PHONY: verify
verify: ## each go.mod is tidy, modules are intact, docs/CONFIG.md, manual page and completions equal the settings and commands
	@for module in . $(MODULES); do (set -x; cd "$$module" && $(GO) mod tidy -diff && $(GO) mod verify); done
	$(GO) test -count=1 -run '^TestConfigDoc|^TestManual$$|^TestCompletions$$' ./cmd/hyperion-vault

PACKAGES ?= node extension

.PHONY: packages
packages: $(NFPM) ## build Debian packages into dist/: the node, the extension for each server of PG_CONFIGS (PACKAGES=extension, PACKAGE_VERSION=)
	NFPM=$(NFPM) PG_CONFIGS="$(PG_CONFIGS)" packaging/deb/build.sh $(PACKAGES)

# The fingerprint of one of gpg's secret keys.
KEY ?=

.PHONY: repository
repository: packages ## add the packages in dist/ to the apt repository dist/apt, signed with KEY=
	NFPM=$(NFPM) packaging/apt/repository.sh dist/apt "$(KEY)" dist/*.deb

# Not part of `make test`: it wants root, and what debootstrap fetches.
.PHONY: packages-test
packages-test: $(NFPM) ## install, upgrade, remove and purge the packages, from a signed repository, in a bare Debian 12 that systemd runs (root)
	NFPM=$(NFPM) packaging/test/run.sh

# As packages-test.
.PHONY: walk
walk: $(NFPM) ## from three bare Debian 12 to a cluster, to its next version, through switchover and failover, by what docs/OPERATIONS.md says and nothing else (root)
	NFPM=$(NFPM) packaging/test/walk.sh

.PHONY: dev
dev: deps build install-extension ## a scratch cluster to play with (DEV_ARGS='--standbys 1'); Ctrl-C removes it
	$(BIN)/hyperion-vault dev $(DEV_ARGS)

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) dist e2e/out
	@if [ -n "$(PG_CONFIG)" ] && [ -f extension/Makefile ]; then $(MAKE) -C extension PG_CONFIG="$(PG_CONFIG)" clean; fi

.PHONY: check
check: fmt test ## fmt and test: what a developer runs before handing in
