# Every target runs over all modules of the workspace, as go.work lists them.
packages = $$(go list -m -f '{{.Dir}}/...')

# This one stands outside: a workspace has one list of versions, and Vault's would move those that the others are tested with.
outside = cd integration/transit && GOWORK=off

# So would what these need (Google's client, Microsoft's, OpenTelemetry; kmsurl and the tool all of them). They are released, so they have no replace, but a
# workspace of their own with the root.
apart   = kmskey/gcpkms kmskey/azurekv kmskey/kmsotel kmskey/kmsurl cmd/rowseal
each    = set -e; for dir in $(apart); do echo "in $$dir:"; cd $(CURDIR)/$$dir;

# A version, not latest: a new check is a change of this repository.
staticcheck = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Of one package: the integration tests take some minutes under the race detector on two cores.
timeout = -timeout 30m

INPUTS    ?= 200000
BENCH     ?= .
BENCHTIME ?= 1s
ROUNDS    ?= 15
OPS       ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## vet, unit, integration and example tests, on a PostgreSQL they find or start
	go vet $(packages)
	go test $(timeout) $(packages)
	$(outside) go vet ./...
	$(outside) go test ./...
	@$(each) go vet ./...; go test ./...; done

# Without vet where no file is for the race detector alone: make test and make lint have vetted all, and here all that is imported would be vetted anew.
race: ## the same tests under the race detector (needs a C compiler)
	go test -race $(timeout) $(packages)
	$(outside) go test -race -vet=off ./...
	@$(each) go test -race -vet=off $(timeout) ./...; done

lint: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	go vet $(packages)
	go run $(staticcheck) $(packages)
	$(outside) go vet ./...
	$(outside) go run $(staticcheck) ./...
	@$(each) go vet ./...; go run $(staticcheck) ./...; done

bench: ## docs/performance.md, written anew: Rowseal beside plain GORM and others (ROUNDS=15, OPS=regexp to look at some and write nothing)
	go run ./integration/bench -rounds '$(ROUNDS)' $(if $(OPS),-ops '$(OPS)',-out docs/performance.md)

# Of the packages that have benchmarks alone: go test would link the tests of all others too.
measure = having=$$($(CURDIR)/scripts/packages-with.sh Benchmark $(1)); [ -z "$$having" ] || go test -run '^$$' -bench '$(BENCH)' -benchtime '$(BENCHTIME)' -benchmem $$having

microbench: ## every Go benchmark (BENCH=regexp, BENCHTIME=1s)
	@set -e; $(call measure,$(packages))
	@set -e; cd integration/transit; export GOWORK=off; $(call measure,./...)
	@$(each) $(call measure,./...); done

fuzz: ## every fuzz target, one after the other (INPUTS=200000 for each)
	scripts/fuzz.sh $(INPUTS)

# Not integration/transit: Vault's own engine needs more than that. The provider's other tests are among these.
fips: ## the tests with nothing but FIPS 140-3 approved cryptography
	GODEBUG=fips140=only go test $(timeout) $(packages)
	@$(each) GODEBUG=fips140=only go test ./...; done

surface: ## write docs/surface.md anew, as the tests find it (needs PostgreSQL, MariaDB and a C compiler)
	TEST_REQUIRE=postgres,mariadb go test -count=1 ./integration -run '^TestClosed' -update

consumer: ## what a module that imports rowseal downloads, held against gorm alone
	scripts/consumer.sh

tidy: ## go mod tidy in every module
	scripts/tidy.sh

.PHONY: help test race lint bench microbench fuzz fips surface consumer tidy
