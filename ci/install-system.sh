#!/usr/bin/env bash
# Install the system packages that munas-hil needs (Debian, Ubuntu): cross compiler, newlib and its C++ library, QEMU, venv, CMake, cc.
# With --probes also the programs that reach a board's probe, which only boards and some tests need.
# Does nothing, and needs no network, when they are there. Exit status 3 when it cannot install.
set -euo pipefail

wanted=()
need() { # need PACKAGE TEST...
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || wanted+=("$package")
}

need gcc-arm-none-eabi command -v arm-none-eabi-gcc
need libnewlib-arm-none-eabi test -e /usr/lib/arm-none-eabi/newlib/libc.a -o -e /usr/include/newlib/string.h
need libstdc++-arm-none-eabi-newlib arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -x c++ -fsyntax-only -include cstdint /dev/null
need qemu-system-arm command -v qemu-system-arm
need python3-venv python3 -c 'import venv, ensurepip'
need cmake command -v cmake
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdio.h
if [ "${1:-}" = --probes ]; then
    need gdb-multiarch command -v gdb-multiarch
    need openocd command -v openocd
fi

[ ${#wanted[@]} -eq 0 ] && exit 0

install="apt-get install -y --no-install-recommends ${wanted[*]}"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "munas-hil needs ${wanted[*]} (Debian package names), and there is no apt-get here; install them, then run again" >&2
    exit 3
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null 2>&1; }; then
    as_root=(sudo)
else
    echo "munas-hil needs system packages and this user cannot install them; run as root: apt-get update && $install" >&2
    exit 3
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing ${wanted[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" $install; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "could not install the system packages; run: apt-get update && $install" >&2
    exit 3
fi
