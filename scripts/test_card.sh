#!/usr/bin/env bash
# Runs the worker's tests on a card: MAPLE_PIPE_TEST_DEVICE, or cuda:0. Arguments go to cargo.
#
# libtorch's part for CUDA has to be there before libtorch first computes anything, which in a program of many tests may be on the
# processor; so it is loaded with the program. A card's work has one order, so one test runs at a time.
set -euo pipefail
cd "$(dirname "$0")/.."

torch=${LIBTORCH:-$PWD/.libtorch/torch}
[[ -e $torch/lib/libtorch_cuda.so ]] || {
    printf 'error: `%s` is not there\nhint: point `LIBTORCH` at a libtorch with CUDA\n' "$torch/lib/libtorch_cuda.so" >&2
    exit 1
}
host=$(rustc -vV | sed -n 's/^host: //p')
runner="target.$host.runner=['env', 'LD_PRELOAD=$torch/lib/libtorch_cuda.so']"
export MAPLE_PIPE_TEST_DEVICE=${MAPLE_PIPE_TEST_DEVICE:-cuda:0}
cargo --config "$runner" test "$@" -p maple-pipe-worker --no-fail-fast -- --include-ignored --test-threads 1
