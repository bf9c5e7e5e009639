# shellcheck shell=bash
# What every script needs: progress lines, errors that help, another try. All of it goes to stderr, so that
# stdout holds only what a caller may want to read.

# say TEXT: one line of progress.
say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# fail WHAT-WAS-WRONG [WHAT-TO-DO]...: ends the script; one line for each argument.
fail() {
    say "error: $1"
    shift
    [[ $# -eq 0 ]] || printf '  %s\n' "$@" >&2
    exit 1
}

# retry COMMAND...: up to three times, for downloads.
retry() {
    local attempt
    for attempt in 1 2 3; do
        "$@" && return
        [[ $attempt -eq 3 ]] || { say "failed ($attempt of 3), again in 5 s: $*" && sleep 5; }
    done
    return 1
}
