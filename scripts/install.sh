#!/usr/bin/env bash
# Installs what `make build` built below PREFIX, ~/.local unless it is set: both programs, man pages, completions for bash, fish and
# zsh, and the libtorch of `make libtorch`, which shares its files with the checkout where both are in one file system. A libtorch
# of your own stays where it is.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=$(realpath -m "${PREFIX:-$HOME/.local}")
programs=${CARGO_TARGET_DIR:-target}/release
home=$prefix/lib/maple-pipe
share=$prefix/share

mkdir -p "$prefix/bin" "$share"/{man/man1,bash-completion/completions,fish/vendor_completions.d,zsh/site-functions}

# link_or_copy FROM TO
link_or_copy() {
    cp -RLl "$1" "$2" 2>/dev/null || {
        rm -rf "$2"
        cp -RL "$1" "$2"
    }
}

if [[ -z ${LIBTORCH+set} && -z ${LIBTORCH_USE_PYTORCH+set} ]]; then
    rm -rf "$home.part"
    mkdir -p "$home.part/torch"
    link_or_copy .libtorch/torch/lib "$home.part/torch/lib"
    for folder in nvidia cuda licenses; do
        [[ ! -e .libtorch/$folder ]] || link_or_copy ".libtorch/$folder" "$home.part/$folder"
    done
    rm -rf "$home"
    mv "$home.part" "$home"
fi

install "$programs/maple-pipe" "$programs/maple-pipe-worker" "$prefix/bin/"
program=$prefix/bin/maple-pipe
"$program" man "$share/man/man1"
"$program" completions bash >"$share/bash-completion/completions/maple-pipe"
"$program" completions fish >"$share/fish/vendor_completions.d/maple-pipe.fish"
"$program" completions zsh >"$share/zsh/site-functions/_maple-pipe"
"$program" doctor | grep '^ *libtorch\|ok.*libtorch'
echo "installed maple-pipe below $prefix" >&2
case :$PATH: in
*:"$prefix/bin":*) ;;
*) echo "hint: \`export PATH=\"$prefix/bin:\$PATH\"\` lets the shell find it" >&2 ;;
esac
