# shellcheck shell=bash
# The other folders of manifests/istio, one after the other before the same ranks.

stage_variants() {
    step "API server up, CRDs and Istio's configuration in it" start_cluster
    step "module pushed to a registry" publish_module
    step "istiod up" start_istiod "$folder/istiod" --kubeconfig "$KUBECONFIG"
    step "inferencepool-1.30: applied" apply_manifests inferencepool-1.30
    step "ranks up, and pods of the LeaderWorkerSets with their addresses" start_pods
    step "inferencepool-1.30: the gateway runs" start_gateway_pod llm-gateway
    step "inferencepool-1.30: the module is loaded" module_loaded
    step "inferencepool-1.30: the same prompt goes to the same rank" same_prompt_same_rank
    step "inferencepool-1.30: different prompts go to all decode ranks" prompts_go_to 16 '^10\.244\.0\.[23]:'
    step "inferencepool-1.30: answers have time when the gateway changes" drains_slowly
    step "models: applied in its place" models_in_place
    step "models: pods of the second model" start_small_pod
    step "models: the module is loaded" module_loaded
    step "models: requests for one model go to its ranks alone" small_goes_to_small
    step "models: those for the other go to the others" prompts_go_to 16 '^10\.244\.0\.[23]:'
    step "services: applied in its place" services_in_place
    step "services: the module is loaded" module_loaded
    step "services: the same prompt goes to the same rank" same_prompt_same_rank
    step "services: different prompts go to all decode ranks" prompts_go_to 16 '^10\.244\.0\.[23]:'
    step "services: a client cannot name the rank" client_names_no_rank
    step "beside-epp: the gateway of an EPP runs" start_epp_gateway
    step "beside-epp: without the module prompts take turns" takes_turns
    step "beside-epp: applied" apply_overlay beside-epp
    step "beside-epp: who asks for the module gets it" header_gets_module
    step "beside-epp: one of ten of the others is the module's" share_gets_module
    step "beside-epp: deleted, prompts take turns again" undo beside-epp
    step "shadow: applied" apply_overlay shadow
    step "shadow: prompts take turns as before, and the module counts where it would have sent them" only_counts
    step "shadow: deleted" undo shadow
}

# drains_slowly: what the manifest asks for has reached Envoy, and the pod lives as long.
drains_slowly() {
    grep --fixed-strings -- '--drain-time-s 600' "$folder/gateway/log"
    jq --exit-status '.items[0].spec.terminationGracePeriodSeconds == 630' "$folder/gateway-pod.json"
}

models_in_place() {
    replace_manifests inferencepool-1.30 models 'outbound|54321||small-ip-'
}

services_in_place() {
    replace_manifests models services 'outbound|8003||decode.llm.svc.cluster.local'
}

replace_manifests() { # OLD NEW CLUSTER
    kubectl delete --kustomize "$folder/overlay-$1"
    apply_overlay "$2"
    await 30 "a route to $3" gateway_routes_to "$3"
}

# One pod of a Deployment whose label says which model its ranks serve.
start_small_pod() {
    start_ranks "$folder/ranks-small" 9902 10.244.0.8 --model small-1
    kubectl create deployment small --namespace llm --image ranks --dry-run=client --output json |
        jq '.spec.template.metadata.labels = {"llm-d.ai/inference-serving": "true", "llm-d.ai/model": "small"}' |
        python3 scripts/istio/pods.py llm 10.244.0.8 >"$folder/small-pods.json"
    apply_pods "$folder/small-pods.json"
}

small_goes_to_small() {
    model=small-1
    # Until the pool knows its ranks, they take turns.
    await 20 "picks among the ranks of the model" same_prompt_same_rank
    prompts_go_to 4 '^10\.244\.0\.8:800[0-3]$'
}

gateway_routes_to() { # CLUSTER
    gateway_dump resource=dynamic_route_configs | grep --fixed-strings "$1"
}

# What an operator of an EPP has. No EPP answers here, so that its pool goes on by round robin: enough to tell whose
# requests are whose.
start_epp_gateway() {
    # At once: it would let its connections end for ten minutes.
    kill -KILL "$(cat "$folder/gateway/pid")" $(pgrep --parent "$(cat "$folder/gateway/pid")")
    await 30 "the end of the old gateway" gateway_gone
    kubectl delete --kustomize "$folder/overlay-services"
    kubectl delete --namespace llm pod --selector gateway.networking.k8s.io/gateway-name=llm-gateway --force --grace-period 0
    rm -r "$folder/gateway"
    kubectl apply --server-side --namespace llm --filename scripts/istio/epp.yaml
    start_gateway_pod llm-d-inference-gateway
    await 60 "a rank that answers" ask hello
}

gateway_gone() {
    ! curl --silent "$gateway_admin/ready"
}

takes_turns() {
    [[ $(same_prompt 32) -gt 4 ]] || fail "the same prompt went to few ranks: is the module there?"
}

# same_prompt COUNT [CURL OPTION]...: how many ranks answer the same prompt, asked so often.
same_prompt() {
    local text number
    text=$(prompt turns)
    for number in $(seq "$1"); do ask "$text" "${@:2}"; done | sort --unique | wc -l
}

header_gets_module() {
    await 60 "a prompt that is the module's" picked_by_header
    [[ $(same_prompt 8 --header 'x-llm-router: rank-router') -eq 1 ]] || fail "the module's prompt went to several ranks"
}

picked_by_header() {
    local before
    before=$(picks)
    ask "$(prompt header)" --header 'x-llm-router: rank-router'
    [[ $(picks) -gt $before ]]
}

picks() {
    echo $(($(gateway_gauge picks_lowest_cost) + $(gateway_gauge picks_prefix_hit)))
}

# Of 200 requests 20 on average; fewer than 4 or more than 45 come once in 100,000 times.
share_gets_module() {
    local before share
    before=$(picks)
    ranks_of 200 >/dev/null
    share=$(($(picks) - before))
    [[ $share -ge 4 && $share -le 45 ]] || fail "the module got $share of 200 requests"
}

undo() { # NAME
    kubectl delete --kustomize "$folder/overlay-$1"
    await 30 "a gateway without the module" lacks_module
    takes_turns
}

only_counts() {
    await 30 "a request that is counted" counted hello
    local before
    before=$(shadows)
    takes_turns
    [[ $(($(shadows) - before)) -eq 32 ]] || fail "of 32 requests $(($(shadows) - before)) were counted"
    [[ $(gateway_gauge shadow_differed) -gt 0 ]] || fail "round robin went where the module would have gone, always"
}

counted() {
    ask "$1"
    [[ $(shadows) -gt 0 ]]
}

shadows() {
    echo $(($(gateway_gauge shadow_agreed) + $(gateway_gauge shadow_differed)))
}

# lacks_module: none of its filters is in force; listeners that end still have them.
lacks_module() {
    ! gateway_dump resource=dynamic_listeners | jq '.configs[].active_state' | grep --fixed-strings rank-router
}
