# shellcheck shell=bash
# Simulated ranks on addresses outside loopback, which Kubernetes takes for pods. Needs say.sh and await.sh.

# add_addresses: the gateway's and eight pods', on the loopback device of this network namespace.
add_addresses() {
    local last
    ip link set lo up
    for last in $(seq 1 9); do ip address add "10.244.0.$last/32" dev lo; done
}

# start_ranks FOLDER CONTROL-PORT ADDRESSES [OPTION]...: eight ranks on each address; addresses are parted by commas.
start_ranks() {
    local folder=$1 control=127.0.0.1:$2
    mkdir -p "$folder"
    "$RANK_ROUTER_RANKS" --pods "$3" --control "$control" "${@:4}" >>"$folder/log" 2>&1 &
    await 20 "the ranks on $3" curl --silent --show-error --fail "http://$control/ranks"
}

# set_fault CONTROL-PORT RANK FAULT: as `simulated-ranks --help` says.
set_fault() {
    curl --silent --show-error --fail --request PUT --data "$3" "http://127.0.0.1:$1/ranks/$2/fault"
}
