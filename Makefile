# `make` alone lists the targets. The work is done by cargo and by scripts/libtorch.sh.
# What is shipped and measured is of the profile `release`; what is tested is of `fast`, which is built sooner.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help libtorch build quickstart install wheel clean readme test test-card lint bench

BINARY := $(or $(CARGO_TARGET_DIR),target)/release/maple-pipe
FAST := --profile fast --locked --features maple-pipe/remote

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

libtorch: ## put the pinned libtorch into .libtorch/, with CUDA where there is an NVIDIA driver or CUDA=1 is set (LIBTORCH or LIBTORCH_USE_PYTORCH=1 select your own)
	@scripts/libtorch.sh

build: libtorch ## build the release binaries
	cargo build --release --locked

quickstart: libtorch ## build, then run pipelines/quickstart.toml; prints the two times apart, and what to do next
	@TIMEFORMAT='build: %1lR'; time cargo build --release --locked
	@TIMEFORMAT='run: %1lR'; time $(BINARY) quickstart .
	@echo 'The shell finds maple-pipe after `make install`, or after'
	@echo "  export PATH=\"$(abspath $(dir $(BINARY))):\$$PATH\""

install: build ## install both programs with libtorch, man pages and completions below PREFIX (default ~/.local)
	@scripts/install.sh

wheel: libtorch ## build a Python wheel into target/wheel/, which needs the package `torch` in place of libtorch
	@scripts/wheel.sh

clean: ## remove what was built; libtorch and results stay
	cargo clean

readme: quickstart ## run the quickstart; write its table into README.md and the digests of its prompts
	MAPLE_PIPE_WRITE_README=1 cargo test --release --locked --test quickstart

test: libtorch ## build and run all tests; those that need what this computer lacks are reported as ignored
	@cargo test $(FAST) --no-run --quiet
	cargo test $(FAST) --no-fail-fast

test-card: libtorch ## run the worker's tests on an NVIDIA card; they compute there one after another
	@scripts/test_card.sh $(FAST)

lint: libtorch ## check format, clippy and the documentation; warnings are errors
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy $(FAST) --all-targets -- --deny warnings
	cargo clippy --profile fast --locked -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc $(FAST) --no-deps --document-private-items

bench: build ## measure: the engine beside ninja, learners beside the machine's peak, and the text tower against the published one
	$(BINARY) bench dag
	$(BINARY) bench step --method all --classes 50 --precision fp32
	$(BINARY) bench eval --method maple,coop --classes 50,1000 --precision fp32
	cargo bench --locked --bench text_tower
