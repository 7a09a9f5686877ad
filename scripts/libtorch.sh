#!/usr/bin/env bash
# Puts the libtorch pinned in scripts/libtorch.txt into .libtorch/, unless the environment names another one. Where there is an
# NVIDIA driver, puts the CUDA libraries pinned in scripts/libtorch-cuda.txt into .libtorch/cuda/ too.
#
# Each of the two folders appears whole or not at all, and holds a copy of its pins: while they agree there is nothing to do.
# LIBTORCH=<folder with lib/ and include/> or LIBTORCH_USE_PYTORCH=1 select your own libtorch; nothing is downloaded.
# CUDA=1 adds the CUDA libraries where no driver is found either, CUDA=0 adds none.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=scripts/libtorch.txt
cuda_pins=scripts/libtorch-cuda.txt
home=.libtorch
part=.libtorch.part
cuda_part=$home/cuda.part # inside, so that it is in the same file system also where .libtorch is a link
# Measured, in MiB: what an installation takes at its height, and what of libtorch then stays.
needed_mib=1700
kept_mib=1100
cuda_needed_mib=2700
child=
leftovers=("$part")

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
    leave_cuda_alone
}

use_environment() {
    { [[ $LIBTORCH == /* ]] && holds_libtorch "$LIBTORCH"; } ||
        fail "\`LIBTORCH=$LIBTORCH\` is not the absolute path of a folder with lib/libtorch.so and include/" \
            "point \`LIBTORCH\` at an unpacked libtorch, or unset it to have \`make libtorch\` download one"
    echo "using \`LIBTORCH=$LIBTORCH\`" >&2
    leave_cuda_alone
}

# A libtorch that somebody else put or linked at .libtorch/: left alone.
use_foreign() {
    holds_libtorch "$home/torch" ||
        fail "\`$home\` exists, was not made by \`make libtorch\` and holds no torch/lib/libtorch.so and torch/include/" \
            "remove \`$home\` and run \`make libtorch\` again"
    echo "using the libtorch found in \`$home\`, which \`make libtorch\` did not put there" >&2
    leave_cuda_alone
}

leave_cuda_alone() {
    [[ ${CUDA:-} != 1 ]] || echo "\`CUDA=1\` adds nothing to it: its CUDA libraries are yours to install" >&2
}

check_cuda_variable() {
    case ${CUDA:-} in
    '' | 0 | 1) ;;
    *)
        fail "\`CUDA=$CUDA\` is neither 1 nor 0" \
            "set \`CUDA=1\` for the CUDA libraries, \`CUDA=0\` to go without, or unset it to have them where there is an NVIDIA driver"
        ;;
    esac
}

# Sets `sign` to what shows that there is an NVIDIA driver: on a plain machine, in a container, in WSL.
find_driver() {
    for sign in /proc/driver/nvidia /dev/nvidiactl /dev/nvidia[0-9]*; do
        [[ ! -e $sign ]] || return 0
    done
    if [[ -e /dev/dxg && -e /usr/lib/wsl/lib/libcuda.so.1 ]]; then
        sign=/dev/dxg
    elif command -v nvidia-smi >/dev/null; then
        sign=nvidia-smi
    elif [[ $(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null) == *libcuda.so.1* ]]; then
        sign=libcuda.so.1
    else
        return 1
    fi
}

lacks_base() {
    ! cmp -s "$pins" "$home/pins.txt"
}

# A link at .libtorch is replaced together with an outdated libtorch; what it leads to is left as it is.
lacks_cuda() {
    ! cmp -s "$cuda_pins" "$home/cuda/pins.txt" || { [[ -L $home ]] && lacks_base; }
}

# Sets `base` where libtorch is to be downloaded, and `cuda` to why the CUDA libraries are, if they are.
find_missing() {
    local sign
    base='' cuda=''
    ! lacks_base || base=missing
    [[ ${CUDA:-} != 0 ]] && lacks_cuda || return 0
    if [[ ${CUDA:-} == 1 ]]; then
        cuda="for \`CUDA=1\`"
    elif find_driver; then
        cuda="for the NVIDIA driver that \`$sign\` shows; \`CUDA=0\` goes without"
    fi
}

check_machine() {
    { [[ $(uname -sm) == "Linux x86_64" ]] && getconf GNU_LIBC_VERSION >/dev/null 2>&1; } ||
        fail "the pinned libtorch is for x86-64 Linux with glibc, and this machine is \`$(uname -sm)\`" \
            "install PyTorch as $pins names it and set \`LIBTORCH\` to its folder, or set \`LIBTORCH_USE_PYTORCH=1\`"
    python3 -m pip --version >/dev/null 2>&1 ||
        fail "\`python3 -m pip\` does not run; it downloads libtorch" \
            "install python3 with pip (on Debian and Ubuntu: \`apt install python3-pip\`), or set \`LIBTORCH\` to your own libtorch"
}

check_space() {
    local free_mib what=libtorch needed=$needed_mib place=$PWD without=
    if [[ -n $cuda ]]; then
        what="libtorch with CUDA" needed=$((kept_mib + cuda_needed_mib)) without=", set \`CUDA=0\` to go without CUDA"
        if [[ -z $base ]]; then
            what="the CUDA libraries" needed=$cuda_needed_mib place=$(realpath "$home")
        fi
    fi
    free_mib=$(df -Pm "$place" | awk 'NR == 2 { print $4 }')
    ((free_mib >= needed)) ||
        fail "installing $what needs $needed MiB for a while, and \`$place\` has $free_mib MiB free" \
            "free some space$without, or set \`LIBTORCH\` to a libtorch elsewhere"
}

announce() {
    local version
    [[ -z $base ]] || echo "downloading libtorch to \`$home\` (0.5 GB down, 1.1 GB on disk)" >&2
    [[ -n $cuda ]] || return 0
    echo "downloading CUDA libraries to \`$home/cuda\` (2.0 GB down, 2.5 GB on disk) $cuda" >&2
    version=$(cat /sys/module/nvidia/version 2>/dev/null) || return 0
    ((${version%%.*} >= 580)) || echo "the NVIDIA driver here is $version; CUDA 13 needs 580 or newer" >&2
}

# Runs a command that ends with this script, also when a signal ends that.
run() {
    local status=0
    "$@" >&2 &
    child=$!
    wait "$child" || status=$?
    child=
    return "$status"
}

clean() {
    if [[ -n $child ]]; then
        kill "$child" || true
        wait "$child" || true
    fi 2>/dev/null
    rm -rf "${leftovers[@]}"
}

# fetch PIN FOLDER: downloads one wheel and unpacks it into FOLDER/unpacked/. One at a time takes the least space.
# The same wheels on every machine, whatever its Python; pip checks their SHA-256.
fetch() {
    local platform platforms=() without=
    for platform in _2_28 _2_27 _2_25 _2_18 _2_17 2014 _2_12; do
        platforms+=(--platform "manylinux${platform}_x86_64")
    done
    [[ $2 != "$cuda_part" ]] || without=", set \`CUDA=0\` to go without CUDA"
    mkdir -p "$2/tmp"
    echo "$1" >"$2/pin.txt"
    TMPDIR=$PWD/$2/tmp run python3 -m pip download --disable-pip-version-check --no-cache-dir --no-input --retries 2 \
        --no-deps --only-binary=:all: --require-hashes --requirement "$2/pin.txt" --dest "$2/wheel" \
        --python-version 3.11 --implementation cp --abi cp311 --abi none "${platforms[@]}" ||
        fail "pip could not download the pinned wheel of \`${1%% *}\` (its messages are above)" \
            "check the network, proxy and free space and run \`make libtorch\` again$without, or set \`LIBTORCH\` to your own libtorch"
    run python3 -m zipfile -e "$2"/wheel/*.whl "$2/unpacked" || fail "could not unpack \`${1%% *}\`" "check the free space of \`$2\`"
    rm -rf "$2/wheel"
}

# Of the wheels, keeps what building and running need, and the licences.
install_base() {
    local pin wheel unpacked=$part/unpacked new=$part/new
    while read -r pin; do
        fetch "$pin" "$part"
    done < <(grep -v '^#' "$pins")
    mkdir -p "$new/torch" "$new/licenses"
    mv "$unpacked"/torch/{lib,include,share} "$new/torch/"
    mv "$unpacked/nvidia" "$new/"
    for wheel in "$unpacked"/*.dist-info; do
        mv "$wheel/licenses" "$new/licenses/$(basename "$wheel" .dist-info)"
    done
    sed -n 's/^torch==\([^ ]*\).*/\1/p' "$pins" >"$new/torch/build-version"
    cp "$pins" "$new/pins.txt"
    if ! lacks_cuda; then
        link_cuda "$new"
        mv "$home/cuda" "$new/"
    fi
    [[ ! -e $home && ! -L $home ]] || mv "$home" "$part/old"
    mv "$new" "$home"
    echo "libtorch is in \`$home\`" >&2
}

# Of each wheel, keeps the licence and the shared libraries that libtorch loads: itself, through others, or late by name.
install_cuda() {
    local pin wheel unpacked=$cuda_part/unpacked new=$cuda_part/new
    lock "$home" # several checkouts may have links to it
    lacks_cuda || return 0
    leftovers+=("$cuda_part")
    { rm -rf "$cuda_part" && mkdir -p "$new/lib" "$new/licenses"; } ||
        fail "the CUDA libraries could not be put into \`$home\`" "make it writable, or set \`CUDA=0\` to go without CUDA"
    while read -r pin; do
        fetch "$pin" "$cuda_part"
        rm -f "$unpacked"/nvidia/cu13/lib/{libcufftw,libcusolverMg,libnvblas,libnvrtc.alt,libnvrtc-builtins.alt}.so*
        mv "$unpacked"/nvidia/*/lib/*.so* "$new/lib/"
        wheel=$(basename "$unpacked"/*.dist-info .dist-info)
        mkdir "$new/licenses/$wheel"
        find "$unpacked" -iname 'license*.txt' -exec mv -t "$new/licenses/$wheel" {} +
        rm -rf "$unpacked"
    done < <(grep -v '^#' "$cuda_pins")
    cp "$cuda_pins" "$new/pins.txt"
    link_cuda "$home"
    [[ ! -e $home/cuda ]] || mv "$home/cuda" "$cuda_part/old"
    mv "$new" "$home/cuda"
    echo "the CUDA libraries are in \`$home/cuda\`" >&2
}

# link_cuda HOME: where libtorch looks first for every library that it loads, before nvidia/cu13/lib and its own folder.
link_cuda() {
    local link=$1/nvidia/cudnn
    [[ -L $link ]] || rm -rf "$link"
    ln -sfn ../cuda "$link"
}

# lock FILE: one at a time; who waited finds the work done.
lock() {
    local descriptor
    exec {descriptor}<"$1"
    flock -n "$descriptor" || {
        echo "waiting for another \`make libtorch\`" >&2
        flock "$descriptor"
    }
}

if [[ -n ${LIBTORCH_USE_PYTORCH+set} ]]; then
    use_pytorch
elif [[ -n ${LIBTORCH+set} ]]; then
    use_environment
elif [[ -e $home && ! -e $home/pins.txt ]]; then
    use_foreign
else
    check_cuda_variable
    find_missing
    [[ -n $base$cuda ]] || exit 0
    check_machine
    lock scripts/libtorch.sh
    find_missing
    [[ -n $base$cuda ]] || exit 0
    trap clean EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    rm -rf "$part"
    check_space
    announce
    [[ -z $base ]] || install_base
    [[ -z $cuda ]] || install_cuda
fi
