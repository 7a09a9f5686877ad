#!/usr/bin/env bash
# Tries the wheel of `make wheel` as somebody without Rust has it: in a new environment, with nothing but the system's programs, it
# runs the quickstart and compares the table with the README's.
#
# scripts/try_wheel.sh [PACKAGES]: PACKAGES is a folder in which pip has installed torch 2.11, in place of 3 GB to download.
set -euo pipefail
cd "$(dirname "$0")/.."

wheel=$(echo "$PWD"/target/wheel/*.whl)
readme=$PWD/README.md
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/environment"
[[ -z ${1:-} ]] || realpath "$1" >"$(echo "$folder"/environment/lib/python3*/site-packages)/torch.pth"
cd "$folder"
alone() { env -u LD_LIBRARY_PATH -u LIBTORCH -u MAPLE_STORE PATH="$folder/environment/bin:/usr/bin:/bin" "$@"; }
! alone bash -c 'command -v cargo rustc' || {
    echo "error: Rust is on the PATH of the system's programs" >&2
    exit 1
}

TIMEFORMAT='%1lR'
set -x
time alone pip install --quiet --disable-pip-version-check --no-cache-dir ${1:+--no-deps} "$wheel"
alone maple-pipe --version
alone maple-pipe doctor
time alone maple-pipe quickstart
set +x
sed -n '/<!-- the table of the quickstart/,/<!-- end of the table/p' "$readme" | sed '1,2d; $d' | sed '$d' >table.md
diff table.md maple-pipe-quickstart/results/quickstart/table.md
echo "the table is the README's"
du -sh "$wheel" environment
