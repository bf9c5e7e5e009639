# shellcheck shell=bash
# The licence texts of all that is linked into the module, for the image. Needs say.sh and wasm32.sh, with a toolchain
# chosen; the working directory is the root of the workspace.

# linked_packages: a line for each package of the module and of the macros that wrote a part of its code.
linked_packages() {
    wasm32_cargo tree --package rank-router --edges normal --prefix none --no-dedupe --format '{p}' | sort --unique
}

# write_licences FOLDER: makes it anew: our LICENSE, crates.txt, a folder for each crate and one for the standard library.
write_licences() {
    local folder=$1 std files
    command -v python3 >/dev/null || fail "python3 is missing; it collects the licence texts" "Try: apt-get install python3"
    rm -rf "$folder" && mkdir -p "$folder"
    cp LICENSE "$folder/LICENSE"
    env "${wasm32_env[@]}" "$wasm32_cargo" metadata --locked --format-version 1 --filter-platform "$wasm32_target" \
        >"$folder/metadata"
    linked_packages | python3 scripts/lib/licences.py "$folder/metadata" "$folder" ||
        fail "the licence texts of the crates are not complete; the reason is above"
    rm "$folder/metadata"
    std=$folder/$("$wasm32_rustc" --version | sed 's/^rustc \([^ ]*\).*/rust-std-\1/')
    mkdir "$std"
    mapfile -t files < <(wasm32_std_licences)
    cp "${files[@]}" "$std" || fail "the licence texts of Rust's standard library are missing; which is above" \
        "With rustup they come with the compiler. Try: rustup toolchain install stable"
}
