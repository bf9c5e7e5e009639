# shellcheck shell=bash
# Every manifest, before an API server with all CRDs, and before istioctl.

stage_manifests() {
    step "API server up" start_api_server "$folder/api-server"
    step "CRDs of Istio, Gateway API, Inference Extension, LeaderWorkerSet" install_everything
    local kustomization
    for kustomization in $(kustomizations); do
        step "$kustomization: the API server takes it" apply_dry "$kustomization"
        step "$kustomization: istioctl validates and analyzes it" check_istio "$kustomization"
    done
    step "a misspelt field is refused" refuse_misspelt
}

install_everything() {
    install_crds
    install_istio
    kubectl create namespace llm
}

kustomizations() {
    find manifests -name kustomization.yaml -printf '%h\n' | sort
}

# apply_dry FOLDER: by the API server's own rules, schemas and expressions, with unknown fields as errors.
apply_dry() {
    kubectl kustomize "$1" | kubectl apply --server-side --dry-run=server --validate=strict --filename -
}

check_istio() { # FOLDER
    local rendered=$folder/${1//\//-}.yaml
    kubectl kustomize "$1" >"$rendered"
    istioctl validate --filename "$rendered"
    istioctl analyze --use-kube=false --failure-threshold Error "$rendered"
}

# The checks above must be able to fail.
refuse_misspelt() {
    ! kubectl kustomize manifests/istio/inferencepool | sed 's/targetPorts:/targetPort:/' |
        kubectl apply --server-side --dry-run=server --validate=strict --filename -
}
