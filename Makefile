# Signet. The commands that matter: make quickstart, make test. The rest: make help.
# PACKAGES=./api/... limits test and bench to some packages, TESTFLAGS and BENCHFLAGS go to go test.

# Go 1.27.4 is fetched as a toolchain module where the installed Go is older, even when that is set to stay local.
export GOTOOLCHAIN := go1.27.4+auto
SHELL := /bin/sh
.DEFAULT_GOAL := help

VERSION ?= v0.1.0
LDFLAGS := -X main.version=$(VERSION)

# Modules of their own whose tests run, too: heavy things that only tests need.
MODULES := $(patsubst %/go.mod,%,$(filter-out tools/buf/go.mod tools/lint/go.mod,$(shell find api clients cmd deploy keystore server tools -name go.mod | LC_ALL=C sort)))
STREAMS := dist/test/signet.jsonl $(foreach m,$(MODULES),dist/test/$(notdir $(m)).jsonl)
PACKAGES ?= ./...
TESTFLAGS ?=
FUZZTIME ?= 30s
BENCH ?= .
BENCHFLAGS ?=
REVISION = $(shell git describe --tags --always --dirty 2>/dev/null)

.PHONY: help
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r target what; do printf '  make %-16s %s\n' "$$target" "$$what"; done

.PHONY: quickstart
quickstart: deps ## set up a demo, sign a real release with it, verify that offline
	@deploy/quickstart/quickstart.sh

.PHONY: deps
deps: # installs SoftHSM2 and a C compiler where they are missing
	@tools/deps.sh

.PHONY: deps-test
deps-test: # and the other PKCS#11 modules that the tests run on, and Chromium
	@tools/deps.sh test

.PHONY: build
build: deps ## build bin/signet and bin/signetd
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/signet ./cmd/signet
	CGO_ENABLED=1 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/signetd ./cmd/signetd

# All modules are tested, also when one fails; `make lint` vets them. The streams are kept: `make trace` reads them. A program with the race detector sleeps for
# a second before it exits; the tests start hundreds of them. What the smaller modules read of the main one does not count for Go's cache: it is not asked.
.PHONY: test
test: export GORACE := atexit_sleep_ms=20
test: deps-test ## run every test with the race detector
	@mkdir -p dist/test
	@trace=$$(tools/tool.sh trace) || exit 1; status=0; \
	"$$trace" test -stream dist/test/signet.jsonl -- go test -race -vet=off -timeout 20m -json $(TESTFLAGS) $(PACKAGES) || status=1; \
	for module in $(MODULES); do \
		echo "$$module:"; \
		(stream=$$PWD/dist/test/$${module##*/}.jsonl; cd $$module && "$$trace" test -stream "$$stream" -- go test -race -vet=off -timeout 10m -count=1 -json $(TESTFLAGS) ./...) || status=1; \
	done; \
	"$$trace" junit -o dist/test/junit.xml $(STREAMS) || status=1; \
	exit $$status

.PHONY: trace
trace: $(STREAMS) ## write dist/trace: which requirement is shown by which test, and its result
	@mkdir -p dist/trace
	@"$$(tools/tool.sh trace)" index -revision '$(REVISION)' -json dist/trace/index.json -html dist/trace/index.html $(STREAMS)
	@echo "written: dist/trace/index.json, dist/trace/index.html"

$(STREAMS):
	$(MAKE) test

# A share of it runs with every test. The whole takes a quarter of an hour.
CRASHES ?= 500
.PHONY: crash
crash: deps ## kill the server 500 times, and its disk as often
	SIGNET_CRASH=$(CRASHES) go test -v -timeout 2h -run 'TestKilled' ./server/internal/ledger ./server
	cd server/internal/ledger/lostwrites && SIGNET_CRASH=$(CRASHES) go test -v -timeout 2h .

# The ledger's own run on ledgers of SIGNET_BENCH_ENTRIES entries, a million by default; 1000000,10000000 shows that costs stay flat. Ten
# millions take some minutes to make and 8 GB, in SIGNET_BENCH_FOLDER if they are to be kept for the next run. To compare sizes, read
# the file once before (a cold one measures the disk) and give -benchtime 200000x.
.PHONY: bench
bench: deps ## run the benchmarks, one package at a time
	go test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m -p 1 $(BENCHFLAGS) $(PACKAGES)

.PHONY: fuzz
fuzz: deps ## fuzz every parser for FUZZTIME (30s) each
	@tools/fuzz.sh $(FUZZTIME)

.PHONY: generate
generate: ## write api/signet/v1 from proto/
	@tools/proto.sh generate

.PHONY: generate-check
generate-check: ## fail when api/signet/v1 is stale
	@tools/proto.sh check

.PHONY: lint
lint: deps ## lint Go and the contract, import rules included; fail on what breaks main's contract
	@tools/lint.sh

.PHONY: clean
clean: ## stop the demo and remove what was built and made
	@if [ -x deploy/quickstart/quickstart.sh ]; then deploy/quickstart/quickstart.sh clean; fi
	rm -rf bin dist .buf
