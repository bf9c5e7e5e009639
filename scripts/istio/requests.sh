# shellcheck shell=bash
# Requests through the gateway, and which rank answered them. Needs say.sh.

# ask PROMPT [CURL OPTION]...: prints the rank that answered; fails if it was none.
ask() {
    answer_header x-simulated-rank "$@"
}

# prefiller PROMPT [CURL OPTION]...: prints the rank that prefilled for the one that answered; fails if there was none.
prefiller() {
    answer_header x-simulated-prefill-rank "$@"
}

# The model of all requests.
model=simulated

answer_header() { # NAME PROMPT [CURL OPTION]...
    curl --silent --show-error --fail --max-time 20 --output /dev/null --dump-header - \
        --header 'content-type: application/json' --data "{\"model\": \"$model\", \"prompt\": \"$2\", \"max_tokens\": 1}" \
        "${@:3}" "http://$gateway_address/v1/completions" | sed -n "s/^$1: \\([0-9.:]*\\)\\r$/\\1/p" | grep .
}

# prompt NUMBER: text that shares no block with the prompt of another number.
prompt() {
    printf "prompt $1 %.0s" $(seq 200)
}

# ranks_of COUNT [CURL OPTION]...: the ranks that answer so many different prompts, each once.
ranks_of() {
    local number
    for number in $(seq "$1"); do ask "$(prompt "$number$RANDOM")" "${@:2}"; done | sort --unique
}

same_prompt_same_rank() {
    local text first again
    text=$(prompt same)
    first=$(ask "$text")
    for again in 1 2 3 4 5; do
        [[ $(ask "$text") == "$first" ]] || fail "the prompt was answered by $first first and by another rank then ($again)"
    done
}

# prompts_go_to COUNT [PATTERN]: ten times as many prompts reach so many ranks, all of which match the pattern.
prompts_go_to() {
    local ranks
    ranks=$(ranks_of $(($1 * 10)))
    [[ $(wc -l <<<"$ranks") -eq $1 ]] || fail "expected $1 ranks, got:" "$ranks"
    ! grep --invert-match --extended-regexp "${2:-.}" <<<"$ranks" || fail "a rank that should get nothing got a prompt"
}

# client_names_no_rank: a destination that a client sends is nothing that the module or Envoy follows.
client_names_no_rank() {
    local text first
    text=$(prompt named)
    first=$(ask "$text")
    for port in 8000 8001 8002; do
        [[ $(ask "$text" --header "x-gateway-destination-endpoint: 10.244.0.2:$port") == "$first" ]] ||
            fail "the client's destination was followed"
    done
}
