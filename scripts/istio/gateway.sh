# shellcheck shell=bash
# The gateway: Istio's agent with stock Envoy, as the pod would run them, on an address of its own. The agent fetches the
# module and hands Envoy a local file. Needs say.sh, programs.sh and await.sh.

gateway_address=10.244.0.1
gateway_admin=http://127.0.0.1:15000

# start_gateway FOLDER ENVOY NAMESPACE GATEWAY POD: without waiting; POD is a file with the pod's object. As in a pod, the agent proves by a token of the gateway's
# service account who it is, and gets from istiod the certificate that Envoy asks it for.
start_gateway() {
    local folder=$1 envoy=$2 namespace=$3 gateway=$4 pod=$5 config override
    mkdir -p "$folder"/{config,etc/istio/pod,var/run/secrets/tokens,var/run/secrets/istio}
    # As the downward API writes them: the agent takes the annotation proxy.istio.io/config from there.
    jq --raw-output '.metadata.annotations | to_entries[] | "\(.key)=\(.value | @json)"' "$pod" >"$folder/etc/istio/pod/annotations"
    kubectl create token --namespace "$namespace" "$gateway-istio" --audience istio-ca >"$folder/var/run/secrets/tokens/istio-token"
    await 20 "istiod's root certificate" kubectl get --namespace "$namespace" configmap istio-ca-root-cert
    kubectl get --namespace "$namespace" configmap istio-ca-root-cert --output 'jsonpath={.data.root-cert\.pem}' \
        >"$folder/var/run/secrets/istio/root-cert.pem"
    override=$(write_bootstrap_override "$folder" "$namespace" "$pod")
    config=$(printf '{"%s":"%s","%s":"%s","%s":"%s","%s":"%s","concurrency":2}' \
        discoveryAddress 127.0.0.1:15012 binaryPath "$envoy" configPath "$folder/config" \
        proxyBootstrapTemplatePath "$(module_folder istio istio.io/istio)/tools/packaging/common/envoy_bootstrap.json")
    (cd "$folder" && exec env POD_NAME="$(jq --raw-output .metadata.name "$pod")" POD_NAMESPACE="$namespace" INSTANCE_IP="$gateway_address" \
        SERVICE_ACCOUNT="$gateway-istio" PROXY_CONFIG="$config" ISTIOD_SAN=istiod.istio-system.svc \
        ISTIO_BOOTSTRAP_OVERRIDE="$override" ISTIO_META_CLUSTER_ID=Kubernetes ISTIO_META_WORKLOAD_NAME="$gateway-istio" \
        ISTIO_METAJSON_LABELS="{\"gateway.networking.k8s.io/gateway-name\":\"$gateway\"}" \
        pilot-agent proxy router --domain "$namespace.svc.cluster.local" --proxyLogLevel warning) \
        >"$folder/log" 2>&1 &
    echo $! >"$folder/pid"
}

# write_bootstrap_override FOLDER NAMESPACE POD: the file that ISTIO_BOOTSTRAP_OVERRIDE names in the pod, out of the ConfigMap
# that the pod mounts there, below FOLDER; prints where, or nothing where the pod has none.
write_bootstrap_override() {
    local path map
    path=$(jq --raw-output '.spec.containers[0].env[]? | select(.name == "ISTIO_BOOTSTRAP_OVERRIDE").value' "$3")
    [[ $path ]] || return 0
    map=$(jq --raw-output --arg folder "$(dirname "$path")" '.spec as $spec | $spec.containers[0].volumeMounts[]
        | select(.mountPath == $folder).name as $name | $spec.volumes[] | select(.name == $name).configMap.name' "$3")
    mkdir -p "$1$(dirname "$path")"
    kubectl get --namespace "$2" configmap "$map" --output json |
        jq --raw-output --arg file "$(basename "$path")" '.data[$file]' >"$1$path"
    echo "$1$path"
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
