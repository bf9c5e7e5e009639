# shellcheck shell=bash
# What every script needs: progress lines, errors that help, another try. All of it goes to stderr, so that
# stdout holds only what a caller may want to read.

# say TEXT: one line of progress.
say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# fail WHAT-WAS-WRONG [WHAT-TO-DO]...: ends the script; one line for each argument.
fail() {
    end_with 1 "$@"
}

# Status of a script that could not run on this machine, and so has found nothing: sysexits.h has it for what may work elsewhere.
cannot_run=75

# help_if_asked ARGUMENT...: with --help or -h prints what stands at the top of the script, and ends it.
help_if_asked() {
    case ${1-} in
    --help | -h)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "scripts/${0##*/}"
        exit 0
        ;;
    esac
}

# cannot WHAT-IS-MISSING [WHAT-TO-DO]...: ends the script with that status.
cannot() {
    end_with "$cannot_run" "$@"
}

end_with() { # STATUS WHAT-WAS-WRONG [WHAT-TO-DO]...
    local status=$1
    say "error: $2"
    shift 2
    [[ $# -eq 0 ]] || printf '  %s\n' "$@" >&2
    exit "$status"
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
