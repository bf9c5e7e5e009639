# shellcheck shell=bash
# istiod on an API server, as in a cluster, with manifests/istio/inferencepool and the pods of manifests/model-servers/wide-ep.

stage_cluster() {
    step "API server up, CRDs and Istio's configuration in it" start_cluster
    step "module pushed to a registry" publish_module
    step "istiod up" start_istiod "$folder/istiod" --kubeconfig "$KUBECONFIG"
    step "manifests applied" apply_manifests inferencepool
    step "ranks up, and pods of the LeaderWorkerSets with their addresses" start_pods
    step "istiod makes Deployment and Service of the Gateway; its pod runs" start_gateway_pod llm-gateway
    step "what limits memory and connections is in force" has_limits
    step "route and pool are accepted" accepted llm decode
    step "the agent fetches the module and Envoy loads it" module_loaded
    step "the same prompt goes to the same rank" same_prompt_same_rank
    step "different prompts go to all decode ranks and to no prefill rank" prompts_go_to 16 '^10\.244\.0\.[23]:'
    step "a client cannot name the rank" client_names_no_rank
    step "every decode and prefill rank is known by its role and asked for its metrics" ranks_known
    step "prompts are prefilled on all prefill ranks, and where their beginning is" prefilled_apart
    step "a prefill rank that fails: another one prefills" prefill_fails
    step "a wrong configuration is refused, the old one stays in force" wrong_configuration
    step "an image that cannot be fetched: 403, or with FAIL_OPEN no picks" missing_image
    step "the fixture of the ordinary tests is what istiod makes" fixture_is_current
    step "a decode pod more gets prompts" pod_added
    step "a decode pod less gets none, and nobody notices" pod_removed
}

# has_limits: of the manifest, in the pod and in Envoy's bootstrap, beside what Istio has there.
has_limits() {
    jq --exit-status '.spec.containers[0].resources.limits | .cpu and .memory' "$folder/gateway-pod-object.json"
    gateway_dump >"$folder/config_dump.json"
    jq --exit-status '[.configs[].bootstrap?.overload_manager // empty | .resource_monitors[].typed_config
        | .max_heap_size_bytes // .max_active_downstream_connections | tonumber] | sort == [20000, 12884901888]' "$folder/config_dump.json"
}

ranks_known() {
    await 20 "16 decode ranks and 16 prefill ranks, all read" known 32
}

prefilled_apart() {
    local number ranks first
    for number in $(seq 160); do prefiller "$(prompt "leg $number")"; done | sort --unique >"$folder/prefillers"
    ranks=$(cat "$folder/prefillers")
    [[ $(wc -l <<<"$ranks") -eq 16 ]] || fail "expected 16 ranks that prefill, got:" "$ranks"
    ! grep --invert-match '^10\.244\.0\.[45]:' <<<"$ranks" || fail "a rank that decodes was asked to prefill for another"
    first=$(prefiller "$(prompt begins)")
    [[ $(prefiller "$(prompt begins)$(prompt goes-on)") == "$first" ]] || fail "the prompt went on elsewhere"
}

# The sidecar answers with the error, Envoy tries again, and the filter of the pool's cluster names the second rank.
prefill_fails() {
    local first second
    first=$(prefiller "$(prompt fails)")
    set_fault 9900 "$first" '{"fault": "failing", "status": 500}'
    second=$(prefiller "$(prompt fails)$(prompt goes-on)")
    set_fault 9900 "$first" '{"fault": "none"}'
    [[ $second != "$first" ]] || fail "$first failed and was not left"
}

# A second group of the decode LeaderWorkerSet: two pods with eight ranks each.
pod_added() {
    start_ranks "$folder/ranks-added" 9901 10.244.0.6,10.244.0.7 --role decode --sidecar-version v0.9
    kubectl patch --namespace llm leaderworkerset wide-ep-llm-d-decode --type merge --patch '{"spec": {"replicas": 2}}'
    kubectl get --namespace llm leaderworkerset wide-ep-llm-d-decode --output json |
        python3 scripts/istio/pods.py llm 10.244.0.2 10.244.0.3 10.244.0.6 10.244.0.7 >"$folder/pods-added.json"
    apply_pods "$folder/pods-added.json"
    await 20 "48 ranks, all read" known 48
    prompts_go_to 32 '^10\.244\.0\.[2367]:'
}

pod_removed() {
    keep_asking &
    local asking=$!
    kubectl delete --namespace llm pod wide-ep-llm-d-decode-1 wide-ep-llm-d-decode-1-1 --force --grace-period 0
    await 20 "32 ranks" known 32
    touch "$folder/enough"
    wait "$asking"
    prompts_go_to 16 '^10\.244\.0\.[23]:'
}

# keep_asking: one prompt after the other, until there is a file; fails at the first that gets no answer.
keep_asking() {
    local number=0
    until [[ -e $folder/enough ]]; do ask "$(prompt "asking $((number += 1))")" >>"$folder/asked"; done
}

# A wrong configuration, which Envoy refuses, and then the right one again.
wrong_configuration() {
    local text rank
    text=$(prompt "before the mistake")
    rank=$(ask "$text")
    set_block_bytes 7
    await 20 "Envoy's refusal" refused 'blockBytes: 7 given, 64 to 4096 bytes accepted'
    [[ $(ask "$text") == "$rank" ]] || fail "the old configuration does not pick as before"
    set_block_bytes 256
    await 20 "the mended configuration" gateway_has_field '"blockBytes":256'
    ask "$text"
}

set_block_bytes() {
    patch_picker "{\"spec\": {\"pluginConfig\": {\"blockBytes\": $1}}}"
}

# refused WORDS: the module said so, and istiod heard that Envoy does not take it.
refused() {
    grep --fixed-strings "$1" "$folder/gateway/log"
    grep 'ADS:ECDS: ACK ERROR' "$folder/istiod/log"
}

gateway_has_field() {
    gateway_dump 'resource=ecds_filters' | jq --compact-output '.. | .configuration?.value?' | grep --fixed-strings "${1//\"/\\\"}"
}

# An image that no registry has: what the agent puts in the filter's place.
missing_image() {
    local spec
    spec=$(kubectl get --namespace llm wasmplugin rank-router-picker --output json | jq --compact-output '{spec: {url: .spec.url, sha256: .spec.sha256, failStrategy: .spec.failStrategy}}')
    patch_picker '{"spec": {"url": "oci://127.0.0.1:5000/nowhere:1", "sha256": ""}}'
    await 20 "403" answers 403
    patch_picker '{"spec": {"failStrategy": "FAIL_OPEN"}}'
    await 20 "200" answers 200
    forged_header_takes_turns
    patch_picker "$spec"
    await 20 "the module" gateway_has_both_filters
    await 20 "200" answers 200
}

# forged_header_takes_turns: with no picker the pool takes turns, whatever rank a client names.
forged_header_takes_turns() {
    local share
    share=$(for _ in $(seq 32); do
        ask "$(prompt forged)" --header 'x-gateway-destination-endpoint: 10.244.0.3:8005'
    done | grep --count --line-regexp '10.244.0.3:8005' || true)
    [[ $share -le 8 ]] || fail "of 32 requests $share went to the rank that the client named"
}

patch_picker() {
    kubectl patch --namespace llm wasmplugin rank-router-picker --type merge --patch "$1"
}

answers() { # STATUS
    local status
    status=$(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' "http://$gateway_address/v1/models")
    echo "$status"
    [[ $status == "$1" ]]
}

# fixture_is_current: host-tests/data/istio/gateway.json, on which the ordinary tests run, is what istiod makes of the
# manifests today. RANK_ROUTER_WRITE_FIXTURE=1 writes it anew.
fixture_is_current() {
    local fixture=host-tests/data/istio/gateway.json
    kubectl patch --namespace llm wasmplugin rank-router-picker --type json \
        --patch '[{"op": "remove", "path": "/spec/pluginConfig/blockBytes"}]'
    await 20 "the first configuration" lacks_field blockBytes
    gateway_dump include_eds | jq --sort-keys --from-file scripts/istio/fixture.jq >"$folder/gateway.json"
    [[ -z ${RANK_ROUTER_WRITE_FIXTURE-} ]] || cp "$folder/gateway.json" "$fixture"
    diff "$fixture" "$folder/gateway.json" ||
        fail "istiod makes something else than $fixture" "Look at the difference above, then write it anew with" \
            "RANK_ROUTER_WRITE_FIXTURE=1 scripts/test-istio cluster"
}

lacks_field() {
    ! gateway_dump 'resource=ecds_filters' | grep --fixed-strings "$1"
}
