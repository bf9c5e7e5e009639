# shellcheck shell=bash
# The parts of a cluster with a gateway before ranks, as its steps. Needs all the other files of this folder.

start_cluster() {
    start_api_server "$folder/api-server"
    install_crds
    install_istio
    kubectl create namespace llm
}

publish_module() {
    start_registry "$folder/registry" 5000
    scripts/publish 127.0.0.1:5000/rank-router:test --dest-tls-verify=false | tee "$folder/image"
}

# apply_manifests NAME: the model servers and manifests/istio/NAME with the module that was pushed.
apply_manifests() {
    kubectl apply --server-side --kustomize manifests/model-servers/wide-ep
    apply_overlay "$1"
}

apply_overlay() { # NAME
    write_overlay "$1"
    kubectl apply --server-side --kustomize "$folder/overlay-$1"
}

write_overlay() { # NAME
    local kind=WasmPlugin path=/spec
    [[ ! -e manifests/istio/$1/extensions.yaml ]] || kind=TrafficExtension path=/spec/wasm
    mkdir -p "$folder/overlay-$1"
    cat >"$folder/overlay-$1/kustomization.yaml" <<END
resources: [../../../../manifests/istio/$1]
patches:
- target: {kind: $kind, name: rank-router-(reader|picker)}
  patch: |
    - op: add
      path: $path/url
      value: oci://127.0.0.1:5000/rank-router:test
    - op: add
      path: $path/sha256
      value: $(sed -n 's/^sha256: //p' "$folder/image")
END
}

# Two decode pods and two prefill pods, in the order in which kubectl lists the LeaderWorkerSets. The sidecars are those that
# pass on the error of a prefill.
start_pods() {
    start_ranks "$folder/ranks" 9900 10.244.0.2,10.244.0.3 --role decode --sidecar-version v0.9 \
        --prefill-pods 10.244.0.4,10.244.0.5
    kubectl get --namespace llm leaderworkersets --output json |
        python3 scripts/istio/pods.py llm 10.244.0.2 10.244.0.3 10.244.0.4 10.244.0.5 >"$folder/pods.json"
    apply_pods "$folder/pods.json"
}

apply_pods() { # FILE
    kubectl apply --server-side --filename "$1"
    kubectl apply --server-side --subresource status --filename "$1"
}

# start_gateway_pod GATEWAY: the pod of the Deployment that istiod makes of it.
start_gateway_pod() {
    await 30 "the gateway's Deployment" kubectl get --namespace llm deployment "$1-istio"
    kubectl get --namespace llm deployment "$1-istio" --output json |
        python3 scripts/istio/pods.py llm "$gateway_address" >"$folder/gateway-pod.json"
    apply_pods "$folder/gateway-pod.json"
    # istiod asks once which Services the proxy that connects belongs to.
    await 20 "the gateway's endpoint" has_endpoint "$1-istio" "$gateway_address"
    jq '.items[0]' "$folder/gateway-pod.json" >"$folder/gateway-pod-object.json"
    start_gateway "$folder/gateway" "$PWD/target/envoy/1.37.0/envoy" llm "$1" \
        "$folder/gateway-pod-object.json"
    await 60 "an Envoy that is ready" curl --silent --show-error --fail http://127.0.0.1:15021/healthz/ready
}

# accepted ROUTE POOL: by istiod.
accepted() {
    await 20 "an accepted route" condition "httproute/$1" '.status.parents[0]' Accepted
    await 20 "a resolved backend" condition "httproute/$1" '.status.parents[0]' ResolvedRefs
    await 20 "an accepted pool" condition "inferencepool/$2" '.status.parents[0]' Accepted
    await 20 "a resolved picker" condition "inferencepool/$2" '.status.parents[0]' ResolvedRefs
}

has_endpoint() { # SERVICE ADDRESS
    kubectl get --namespace llm endpointslices --selector "kubernetes.io/service-name=$1" --output yaml | grep --fixed-strings -- "- $2"
}

# condition OBJECT PATH TYPE: whether it is True.
condition() {
    kubectl get --namespace llm "$1" --output json |
        jq --exit-status --arg type "$3" "$2"'.conditions[] | select(.type == $type) | .status == "True"'
}

module_loaded() {
    await 60 "a rank that answers" ask hello
    await 20 "both filters" gateway_has_both_filters
}

# known COUNT: the module lists so many ranks and has read the metrics of all of them.
known() {
    [[ $(gateway_gauge ranks_listed) -eq $1 && $(gateway_gauge ranks_reported) -eq $1 ]] || {
        echo "listed $(gateway_gauge ranks_listed), read $(gateway_gauge ranks_reported)"
        return 1
    }
}
