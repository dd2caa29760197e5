# make help lists the targets. Each does one thing; CI calls `make test` and has no logic of its own.

.DEFAULT_GOAL := help
SHELL := /bin/bash

GOLANGCI := go tool -modfile=tools/go.mod golangci-lint
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS  := -s -w -X main.version=$(VERSION)
BPF      := bpf/ctwatch.bpf.c bpf/abi.h bpf/kernel.h bench/empty.bpf.c
OBJECTS  := internal/loader/program_*_bpfel.* bench/empty_*_bpfel.*

# Tests that cannot do their work fail instead of being skipped.
export CTWATCH_TEST_REQUIRE := 1
# What scripts/setup.sh puts there.
export PATH := $(CURDIR)/.tools:$(PATH)

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build ./ctwatch, static
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o ctwatch ./cmd/ctwatch

.PHONY: demo
demo: setup-run build ## Three acts: packets lost and counted; the limit raised in time; a flood refused (root)
	go run ./test/demo ./ctwatch

.PHONY: test
test: setup-test check-generated lint build test-arm64 test-race test-unit test-vm test-boot ## The gate: everything that a change must pass (root)

.PHONY: test-all
test-all: test fuzz test-boot-long bench-bpf bench-rest bench-incidents bench-heal bench-census bench-report ## The gate, and what takes longer

.PHONY: test-unit
test-unit: ## Unit tests and native kernel tests, at full size
	go test -count=1 -timeout 20m ./...

.PHONY: test-race
test-race: ## The same with the race detector, at a smaller size
	go test -count=1 -race -short -timeout 20m ./...

KERNELS ?=
PROBE ?=
.PHONY: test-vm
test-vm: setup-vm ## Boot real kernels and run the tests in them (KERNELS=, PROBE=)
	go run ./test/vm -kernels '$(KERNELS)' -probe '$(PROBE)'

KILLS ?= 5
.PHONY: test-boot
test-boot: setup-vm ## Boot a real systemd: limits survive reboots, reloads of the module and power cuts (KILLS=)
	go test -count=1 -v -timeout 20m ./test/boot -boot -kills $(KILLS)

.PHONY: test-boot-long
test-boot-long: setup-vm ## The same with the systemd of Debian 11, and a hundred power cuts
	go test -count=1 -v -timeout 30m ./test/boot -boot -suite bullseye
	go test -count=1 -v -timeout 30m ./test/boot -boot -run 'TestBoot/power' -kills 100

.PHONY: test-vm-long
test-vm-long: setup-vm ## Run all tests in every kernel, and try the newest
	go run ./test/vm -long -timeout 15m -scenarios none
	go run ./test/vm -long -timeout 15m -kernels newest

.PHONY: test-arm64
test-arm64: ## Build for the other architecture
	CGO_ENABLED=0 GOARCH=arm64 go build -o /dev/null ./cmd/ctwatch

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## Fuzz every parser for FUZZTIME each
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

.PHONY: bench-bpf
bench-bpf: setup-run ## Measure what counting costs, side by side with an empty program (root)
	go run ./bench bpf

.PHONY: bench-rest
bench-rest: setup-run build ## Measure the daemon when nothing happens (root)
	go run ./bench rest ./ctwatch

.PHONY: bench-incidents
bench-incidents: setup-run build ## Measure the daemon while packets are refused (root)
	go run ./bench incidents ./ctwatch

.PHONY: bench-heal
bench-heal: setup-run build ## Measure what raising the limit saves: a ramp, a cliff, a flood (root)
	go run ./bench heal ./ctwatch

.PHONY: bench-census
bench-census: setup-run ## Measure a look into a table of a million entries, beside the kernel's bare dump (root)
	go run ./bench census

.PHONY: bench-report
bench-report: build ## Measure a report over 30 days of journal
	go run ./bench report ./ctwatch

.PHONY: lint
lint: ## Check style and the import graph
	$(GOLANGCI) run ./...
	clang-format-19 --dry-run --Werror $(BPF)
	shellcheck scripts/*.sh test/*/*.sh internal/recipe/*.sh examples/hooks/notify .ci/run
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }

.PHONY: generate
generate: ## Compile the BPF programs (clang-19)
	go generate ./...

.PHONY: check-generated
check-generated: ## Check that the committed BPF objects match their source
	@before=$$(sha256sum $(OBJECTS)); $(MAKE) -s generate; \
	if [ "$$before" != "$$(sha256sum $(OBJECTS))" ]; then \
		echo "check-generated: the BPF objects do not match bpf/: commit what 'make generate' makes" >&2; exit 1; \
	fi

.PHONY: setup-run setup-test setup-vm
setup-run:
	@scripts/setup.sh run
setup-test:
	@scripts/setup.sh test
setup-vm:
	@scripts/setup.sh vm

.PHONY: clean
clean: ## Remove what was built
	rm -f ctwatch
