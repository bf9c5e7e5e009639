# shellcheck shell=bash
# The one place that knows how to compile for wasm32: with which toolchain, with which flags. Needs say.sh; the
# working directory is the root of the workspace.
#
# Two toolchains; RANK_ROUTER_TOOLCHAIN=rustup or =debian forces one, else the first that can be had is taken:
#   rustup   the cargo on the PATH; its target comes with a compiled standard library
#   debian   packages rustc-web, cargo-web, rust-web-src; the standard library is compiled from its sources
# They differ in version, so in bytes too.

wasm32_target=wasm32-unknown-unknown
wasm32_toolchain='' # the choice, once made
wasm32_rustc=rustc  # the compiler
wasm32_cargo=cargo  # and its cargo
wasm32_env=()       # NAME=VALUE for every call of cargo
wasm32_build_std=() # its arguments that compile the standard library
wasm32_missing=()   # why a toolchain cannot be had

# choose_wasm32_toolchain: fails, with reasons, if there is none.
choose_wasm32_toolchain() {
    local wanted=${RANK_ROUTER_TOOLCHAIN:-rustup debian} toolchain
    for toolchain in $wanted; do
        case $toolchain in
        rustup) rustup_toolchain || continue ;;
        debian) debian_toolchain || continue ;;
        *) fail "RANK_ROUTER_TOOLCHAIN is '$toolchain'" "Set it to rustup or debian, or unset it." ;;
        esac
        wasm32_toolchain=$toolchain
        say "toolchain: $toolchain, $("$wasm32_rustc" --version)"
        return
    done
    fail "no toolchain here compiles for $wasm32_target" "${wasm32_missing[@]}"
}

# wasm32_cargo SUBCOMMAND ARGUMENT...: cargo for wasm32, into ${wasm32_target_dir:-target} of the workspace.
wasm32_cargo() {
    local subcommand=$1 flags
    shift
    flags=$(wasm32_rustflags)
    env "${wasm32_env[@]}" CARGO_ENCODED_RUSTFLAGS="$flags" CARGO_TARGET_DIR="${wasm32_target_dir:-target}" \
        "$wasm32_cargo" "$subcommand" --locked --target "$wasm32_target" "${wasm32_build_std[@]}" "$@"
}

# wasm32_clippy ARGUMENT...: as `cargo clippy`. Where clippy cannot be had, says that it is skipped and why.
wasm32_clippy() {
    if [[ $wasm32_toolchain == debian ]]; then
        debian_packages rust-web-clippy ||
            { say "SKIPPED clippy for $wasm32_target: no Debian package rust-web-clippy"; return; }
        # By its own path, because cargo would rather take rustup's cargo-clippy.
        local wasm32_cargo=/usr/bin/cargo-clippy
    elif ! cargo clippy --version >/dev/null 2>&1; then
        say "SKIPPED clippy for $wasm32_target: cargo has no clippy; try: rustup component add clippy"
        return
    fi
    wasm32_cargo clippy "$@"
}

rustup_toolchain() {
    local libraries
    if ! command -v cargo >/dev/null ||
        ! libraries=$(rustc --print target-libdir --target "$wasm32_target" 2>/dev/null); then
        wasm32_missing+=("rustup: no cargo and rustc on the PATH. Install Rust from https://rustup.rs.")
        return 1
    fi
    if [[ ! -d $libraries ]]; then
        command -v rustup >/dev/null || {
            wasm32_missing+=("rustup: $(command -v rustc) has no $wasm32_target, and there is no rustup to add it.")
            return 1
        }
        say "adding the target $wasm32_target with rustup"
        timeout 300 rustup target add "$wasm32_target" >&2 || {
            wasm32_missing+=("rustup: could not add the target, see above. Try: rustup target add $wasm32_target")
            return 1
        }
    fi
}

debian_toolchain() {
    local linker
    if ! debian_packages rustc-web cargo-web rust-web-src || ! linker=$(debian_linker); then
        wasm32_missing+=("debian: could not get rustc-web, cargo-web, rust-web-src and a linker; its reason is above."
            "  Try, as root: apt-get install rustc-web cargo-web rust-web-src lld")
        return 1
    fi
    wasm32_rustc=/usr/bin/rustc
    wasm32_cargo=/usr/bin/cargo
    # RUSTC_BOOTSTRAP: compiling the standard library takes unstable options. CARGO: for cargo-clippy.
    wasm32_env=(RUSTC="$wasm32_rustc" CARGO="$wasm32_cargo" RUSTC_BOOTSTRAP=1
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$linker")
    wasm32_build_std=("-Zbuild-std=std,panic_abort")
}

# debian_linker: the path of the linker of Debian's LLVM, or of rustup's, or of the package that brings the first.
debian_linker() {
    local llvm rustup
    llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    rustup=$(rustc --print target-libdir 2>/dev/null)/../bin/rust-lld
    command -v "wasm-ld-$llvm" && return
    realpath --canonicalize-existing "$rustup" 2>/dev/null && return
    debian_packages "lld-$llvm" && command -v "wasm-ld-$llvm"
}

# debian_packages PACKAGE...: installs those that are missing.
debian_packages() {
    local as_root=()
    dpkg -s "$@" >/dev/null 2>&1 && return
    [[ $EUID -eq 0 ]] || as_root=(sudo)
    if ! command -v apt-get || { [[ $EUID -ne 0 ]] && ! command -v sudo; }; then
        say "cannot install Debian packages $*: no apt-get, or neither root nor sudo"
        return 1
    fi >/dev/null
    as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    say "installing Debian packages: ${as_root[*]} install $*"
    "${as_root[@]}" update >&2 && "${as_root[@]}" install --yes --no-install-recommends --no-remove "$@" >&2
}

# wasm32_std_licences: the paths of the licence texts of the standard library and of what it is made of. rustup's compiler
# comes with them, and so does Debian's source package, which names Debian's copy of the Apache licence.
wasm32_std_licences() {
    local documents
    if [[ $wasm32_toolchain == debian ]]; then
        printf '%s\n' /usr/share/doc/rust-web-src/copyright /usr/share/common-licenses/Apache-2.0
        return
    fi
    documents=$("$wasm32_rustc" --print sysroot)/share/doc/rust
    printf '%s\n' "$documents/COPYRIGHT-library.html" "$documents/licenses/"{Apache-2.0,LLVM-exception,MIT,Unicode-3.0}.txt
}

# wasm32_rustflags: what rustc gets, encoded for cargo. No path of this machine stays in the module, so that the same
# sources give the same bytes in any folder; those of the standard library get the names they have in ready-made ones.
wasm32_rustflags() {
    local folder commit
    # Both Envoys have SIMD, and hashing needs it.
    local flags=(-Ctarget-feature=+simd128 "--remap-path-prefix=$PWD=/rank-router")
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=("--remap-path-prefix=$folder=/registry")
    done
    commit=$("$wasm32_rustc" -vV | sed -n 's/^commit-hash: //p')
    folder=$("$wasm32_rustc" --print sysroot)/lib/rustlib/src/rust
    for folder in "$folder" "$(realpath --canonicalize-missing "$folder")"; do
        flags+=("--remap-path-prefix=$folder=/rustc/$commit")
    done
    local IFS=$'\x1f'
    printf '%s' "${flags[*]}"
}
