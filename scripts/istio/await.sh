# shellcheck shell=bash
# Waiting for a condition instead of for a time. Needs say.sh.

# await SECONDS WHAT COMMAND...: until the command succeeds. Fails, with the command's last words, after that long.
await() {
    local end=$((SECONDS + $1)) what=$2 words
    shift 2
    until words=$("$@" 2>&1); do
        [[ $SECONDS -lt $end ]] || fail "waited in vain for $what" "$(tail --bytes 800 <<<"$words")"
        sleep 0.2
    done
}
