# `make` alone lists the targets. The work is done by cargo and by scripts/libtorch.sh.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help libtorch build quickstart readme test lint bench

BINARY := $(or $(CARGO_TARGET_DIR),target)/release/maple-pipe

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

libtorch: ## put the pinned libtorch into .libtorch/, with CUDA where there is an NVIDIA driver or CUDA=1 is set (LIBTORCH or LIBTORCH_USE_PYTORCH=1 select your own)
	@scripts/libtorch.sh

build: libtorch ## build the release binaries
	cargo build --release --locked

quickstart: libtorch ## build, then run pipelines/quickstart.toml; prints the two times apart
	@TIMEFORMAT='build: %1lR'; time cargo build --release --locked
	@TIMEFORMAT='run: %1lR'; time $(BINARY) run pipelines/quickstart.toml

readme: quickstart ## run the quickstart; write its table into README.md and the digests of its prompts
	MAPLE_PIPE_WRITE_README=1 cargo test --release --locked --test quickstart

test: libtorch ## build and run all tests
	@cargo test --release --locked --no-run --quiet
	cargo test --release --locked --no-fail-fast

lint: libtorch ## check format, clippy and the documentation; warnings are errors
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --release --locked --no-deps --document-private-items

bench: build ## measure: the engine beside ninja, and the text tower against the published one
	$(BINARY) bench dag
	cargo bench --locked --bench text_tower
