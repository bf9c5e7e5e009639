# shellcheck shell=bash
# A Kubernetes API server with etcd and the controller that makes EndpointSlices; no scheduler, no kubelet: pods are what
# a test says they are. Needs say.sh, programs.sh and await.sh, and a network namespace of its own: the ports are fixed.

api_folder='' # data, certificates and logs
api_url=https://127.0.0.1:6443

# start_api_server FOLDER: and waits until it serves. Writes the kubeconfig that kubectl and istiod use.
start_api_server() {
    api_folder=$1
    mkdir -p "$api_folder"
    export KUBECONFIG=$api_folder/kubeconfig
    api_credentials
    etcd --data-dir "$api_folder/etcd" --unsafe-no-fsync --log-level error >"$api_folder/etcd.log" 2>&1 &
    kube-apiserver --etcd-servers http://127.0.0.1:2379 --cert-dir "$api_folder" --secure-port 6443 \
        --bind-address 127.0.0.1 --advertise-address "$(api_address)" --service-cluster-ip-range 10.96.0.0/16 \
        --authorization-mode AlwaysAllow --token-auth-file "$api_folder/tokens" \
        --disable-admission-plugins ServiceAccount --service-account-issuer https://kubernetes.default.svc \
        --service-account-key-file "$api_folder/key" --service-account-signing-key-file "$api_folder/key" \
        >"$api_folder/kube-apiserver.log" 2>&1 &
    await 60 "the API server" kubectl get --raw /readyz
    kube-controller-manager --kubeconfig "$KUBECONFIG" --controllers endpointslice-controller --leader-elect=false \
        --cert-dir "$api_folder" >"$api_folder/kube-controller-manager.log" 2>&1 &
    # Pods on nodes that are not there get no endpoints.
    printf 'apiVersion: v1\nkind: Node\nmetadata: {name: node}\n' | kubectl apply --filename -
}

api_credentials() {
    openssl genrsa -out "$api_folder/key" 2048 2>/dev/null
    echo 'test,admin,1,"system:masters"' >"$api_folder/tokens"
    cat >"$KUBECONFIG" <<END
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$api_url", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: test}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
END
}

# api_address: one outside loopback, which Kubernetes refuses for its own Service.
api_address() {
    ip -4 -brief address show lo | tr ' ' '\n' | sed -n 's/^\(10\.[0-9.]*\)\/.*/\1/p' | head -n 1
}
