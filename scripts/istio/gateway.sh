# shellcheck shell=bash
# The gateway: Istio's agent with stock Envoy, as the pod would run them, on an address of its own. The agent fetches the
# module and hands Envoy a local file. Needs say.sh, programs.sh and await.sh.

gateway_address=10.244.0.1
gateway_admin=http://127.0.0.1:15000

# start_gateway FOLDER ENVOY NAMESPACE GATEWAY POD: without waiting; POD is a file with the pod's object. As in a pod, the agent proves by a token of the gateway's
# service account who it is, and gets from istiod the certificate that Envoy asks it for.
start_gateway() {
    local folder=$1 envoy=$2 namespace=$3 gateway=$4 pod=$5 config
    mkdir -p "$folder"/{config,etc/istio/pod,var/run/secrets/tokens,var/run/secrets/istio}
    # As the downward API writes them: the agent takes the annotation proxy.istio.io/config from there.
    jq --raw-output '.metadata.annotations | to_entries[] | "\(.key)=\(.value | @json)"' "$pod" >"$folder/etc/istio/pod/annotations"
    kubectl create token --namespace "$namespace" "$gateway-istio" --audience istio-ca >"$folder/var/run/secrets/tokens/istio-token"
    await 20 "istiod's root certificate" kubectl get --namespace "$namespace" configmap istio-ca-root-cert
    kubectl get --namespace "$namespace" configmap istio-ca-root-cert --output 'jsonpath={.data.root-cert\.pem}' \
        >"$folder/var/run/secrets/istio/root-cert.pem"
    config=$(printf '{"%s":"%s","%s":"%s","%s":"%s","%s":"%s","concurrency":2}' \
        discoveryAddress 127.0.0.1:15012 binaryPath "$envoy" configPath "$folder/config" \
        proxyBootstrapTemplatePath "$(module_folder istio istio.io/istio)/tools/packaging/common/envoy_bootstrap.json")
    (cd "$folder" && exec env POD_NAME="$(jq --raw-output .metadata.name "$pod")" POD_NAMESPACE="$namespace" INSTANCE_IP="$gateway_address" \
        SERVICE_ACCOUNT="$gateway-istio" PROXY_CONFIG="$config" ISTIOD_SAN=istiod.istio-system.svc \
        ISTIO_META_CLUSTER_ID=Kubernetes ISTIO_META_WORKLOAD_NAME="$gateway-istio" \
        ISTIO_METAJSON_LABELS="{\"gateway.networking.k8s.io/gateway-name\":\"$gateway\"}" \
        pilot-agent proxy router --domain "$namespace.svc.cluster.local" --proxyLogLevel warning) \
        >"$folder/log" 2>&1 &
    echo $! >"$folder/pid"
}

# gateway_dump ARGUMENTS: Envoy's configuration, as its admin interface prints it.
gateway_dump() {
    curl --silent --show-error --fail "$gateway_admin/config_dump?${1-}"
}

# gateway_has_both_filters: they came by ECDS, with the module as a file that the agent fetched. Listeners that end keep
# theirs.
gateway_has_both_filters() {
    gateway_dump >"$folder/config_dump.json"
    local found
    found=$(jq --raw-output '[.configs[].dynamic_listeners[]?.active_state.listener | .. | objects
            | select(.config_discovery).name] as $active
        | .configs[].ecds_filters[]?.ecds_filter | select(.name | IN($active[]))
        | select(.typed_config.config.configuration.value // "" | contains("filter"))
        | "\(.typed_config.config.configuration.value) \(.typed_config.config.vm_config.code.local.filename)"' \
        "$folder/config_dump.json" 2>/dev/null)
    [[ $(grep --count '"filter":"\(reader\|picker\)".* /.*\.wasm$' <<<"$found") -eq 2 ]] ||
        fail "not both filters came by ECDS with a local module:" "$found"
}

# gateway_gauge NAME: one of the module's metrics.
gateway_gauge() {
    curl --silent --show-error --fail "$gateway_admin/stats?filter=wasmcustom.rank_router.$1\$" | sed 's/.*: //'
}
