#!/usr/bin/env bash
# Puts the libtorch pinned in scripts/libtorch.txt into .libtorch/, unless the environment names another one.
#
# The folder appears whole or not at all, and holds a copy of the pins: while they agree there is nothing to do.
# LIBTORCH=<folder with lib/ and include/> or LIBTORCH_USE_PYTORCH=1 select your own libtorch; nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=scripts/libtorch.txt
home=.libtorch
part=.libtorch.part
needed_mib=2500

# fail MESSAGE WHAT_TO_DO
fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

# Whether a folder holds what the build needs.
holds_libtorch() {
    [[ -e $1/lib/libtorch.so || -e $1/lib/libtorch.dylib ]] && [[ -d $1/include ]]
}

use_pytorch() {
    local python=python3 version
    [[ -z ${VIRTUAL_ENV:-} ]] || python=python
    version=$("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null) ||
        fail "\`LIBTORCH_USE_PYTORCH\` is set, but \`$python -c 'import torch'\` fails" \
            "install the version of \`torch\` that $pins names, or unset \`LIBTORCH_USE_PYTORCH\`"
    echo "using PyTorch $version of \`$python\`, as \`LIBTORCH_USE_PYTORCH\` says" >&2
}

use_environment() {
    [[ $LIBTORCH == /* ]] && holds_libtorch "$LIBTORCH" ||
        fail "\`LIBTORCH=$LIBTORCH\` is not the absolute path of a folder with lib/libtorch.so and include/" \
            "point \`LIBTORCH\` at an unpacked libtorch, or unset it to have \`make libtorch\` download one"
    echo "using \`LIBTORCH=$LIBTORCH\`" >&2
}

# A libtorch that somebody else put or linked at .libtorch/: left alone.
use_foreign() {
    holds_libtorch "$home/torch" ||
        fail "\`$home\` exists, was not made by \`make libtorch\` and holds no torch/lib/libtorch.so and torch/include/" \
            "remove \`$home\` and run \`make libtorch\` again"
    echo "using the libtorch found in \`$home\`, which \`make libtorch\` did not put there" >&2
}

check_machine() {
    local free_mib
    [[ $(uname -sm) == "Linux x86_64" ]] && getconf GNU_LIBC_VERSION >/dev/null 2>&1 ||
        fail "the pinned libtorch is for x86-64 Linux with glibc, and this machine is \`$(uname -sm)\`" \
            "install PyTorch as $pins names it and set \`LIBTORCH\` to its folder, or set \`LIBTORCH_USE_PYTORCH=1\`"
    python3 -m pip --version >/dev/null 2>&1 ||
        fail "\`python3 -m pip\` does not run; it downloads libtorch" \
            "install python3 with pip (on Debian and Ubuntu: \`apt install python3-pip\`), or set \`LIBTORCH\` to your own libtorch"
    free_mib=$(df -Pm . | awk 'NR == 2 { print $4 }')
    ((free_mib >= needed_mib)) ||
        fail "installing libtorch needs $needed_mib MiB for a while, and \`$PWD\` has $free_mib MiB free" \
            "free some space, or set \`LIBTORCH\` to a libtorch elsewhere"
}

# The same wheels on every machine, whatever its Python; pip checks their SHA-256.
download() {
    local platform platforms=()
    for platform in manylinux_2_28 manylinux_2_25 manylinux_2_17 manylinux2014; do
        platforms+=(--platform "${platform}_x86_64")
    done
    mkdir -p "$part/wheels" "$part/tmp"
    TMPDIR=$PWD/$part/tmp python3 -m pip download --disable-pip-version-check --no-cache-dir --no-input --retries 2 \
        --no-deps --only-binary=:all: --require-hashes --requirement "$pins" --dest "$part/wheels" \
        --python-version 3.11 --implementation cp --abi cp311 --abi none "${platforms[@]}" >&2 ||
        fail "pip could not download the wheels that $pins pins (its messages are above)" \
            "check the network, proxy and free space and run \`make libtorch\` again, or set \`LIBTORCH\` to your own libtorch"
}

# Of the wheels, keeps what building and running need, and the licences.
unpack() {
    local wheel unpacked=$part/unpacked new=$part/new
    for wheel in "$part"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$unpacked" || fail "could not unpack \`$wheel\`" "check the free space of \`$PWD\`"
    done
    mkdir -p "$new/torch" "$new/licenses"
    mv "$unpacked"/torch/{lib,include,share} "$new/torch/"
    mv "$unpacked/nvidia" "$new/"
    for wheel in "$unpacked"/*.dist-info; do
        mv "$wheel/licenses" "$new/licenses/$(basename "$wheel" .dist-info)"
    done
    sed -n 's/^torch==\([^ ]*\).*/\1/p' "$pins" >"$new/torch/build-version"
    cp "$pins" "$new/pins.txt"
    rm -rf "$home"
    mv "$new" "$home"
}

if [[ -n ${LIBTORCH_USE_PYTORCH+set} ]]; then
    use_pytorch
elif [[ -n ${LIBTORCH+set} ]]; then
    use_environment
elif ! cmp -s "$pins" "$home/pins.txt"; then
    if [[ -e $home && ! -e $home/pins.txt ]]; then
        use_foreign
        exit
    fi
    check_machine
    exec 9<"$0"
    flock 9 # one at a time; who waited finds the work done
    cmp -s "$pins" "$home/pins.txt" && exit
    trap 'rm -rf "$part"' EXIT
    trap 'exit 130' INT TERM
    rm -rf "$part"
    echo "downloading libtorch to \`$home\` (0.6 GB down, 1.1 GB on disk)" >&2
    download
    unpack
    echo "libtorch is in \`$home\`" >&2
fi
