# shellcheck shell=bash
# A real istiod, without its pod. Needs say.sh, programs.sh and await.sh.

# What stock Envoy lacks, because it is built into Istio's proxy only, switched off; all else as Istio ships it.
istiod_env=(
    PILOT_ENABLE_ALPN_FILTER=false        # filter istio.alpn
    PILOT_ENABLE_METADATA_EXCHANGE=false  # filter istio.metadata_exchange
    # What manifests/README.md asks for.
    ENABLE_GATEWAY_API_INFERENCE_EXTENSION=true
    ENABLE_100_CONTINUE_HEADERS=false
    POD_NAME=istiod POD_NAMESPACE=istio-system
)

# start_istiod FOLDER ARGUMENT OF pilot-discovery...: and waits until it is ready.
start_istiod() {
    local folder=$1
    mkdir -p "$folder"
    (cd "$folder" && exec env "${istiod_env[@]}" pilot-discovery discovery "${@:2}") >"$folder/log" 2>&1 &
    await 60 "istiod" curl --silent --show-error --fail http://127.0.0.1:8080/ready
}

# install_istio: what `istioctl install` would give to the API server, but for the pods: CRDs, mesh configuration, the
# template of gateways. `telemetry.enabled=false`: the filter istio.stats is another that stock Envoy lacks.
install_istio() {
    kubectl create namespace istio-system
    istioctl manifest generate --set profile=minimal --set values.telemetry.enabled=false \
        --set values.pilot.env.ENABLE_GATEWAY_API_INFERENCE_EXTENSION=true >"$api_folder/istio.yaml"
    kubectl apply --server-side --filename "$api_folder/istio.yaml"
    # Nobody answers as the Service istiod, so that its webhooks would refuse everything.
    kubectl delete validatingwebhookconfigurations,mutatingwebhookconfigurations --all
}

# install_crds: those of Gateway API, Inference Extension and LeaderWorkerSet, in the versions that istiod was built with.
install_crds() {
    local folder
    for folder in "$(module_folder istio sigs.k8s.io/gateway-api)/config/crd/standard" \
        "$(module_folder istio sigs.k8s.io/gateway-api-inference-extension)/config/crd/bases" \
        "$(lws_folder)/config/crd/bases"; do
        kubectl apply --server-side --filename "$folder"
    done
    kubectl wait --for condition=established --timeout 60s --all crds
}
