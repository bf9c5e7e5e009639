# shellcheck shell=bash
# A registry on loopback: Debian's docker-registry, without TLS, for one test. Needs say.sh.

registry='' # its host and port, once started
registry_pid=''

# start_registry FOLDER [PORT]: starts it, on a free port unless one is named, with its data in the folder, and waits until
# it answers.
start_registry() {
    local folder=$1 attempt
    mkdir -p "$folder"
    registry=127.0.0.1:${2:-$(free_port)}
    printf 'version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: "%s"}}\nhttp: {addr: "%s"}\n' \
        "$folder/data" "$registry" >"$folder/config.yaml"
    docker-registry serve "$folder/config.yaml" >"$folder/log" 2>&1 &
    registry_pid=$!
    for attempt in $(seq 100); do
        curl --silent --fail --output /dev/null "http://$registry/v2/" && return
        kill -0 "$registry_pid" 2>/dev/null || break
        sleep 0.1
    done
    fail "docker-registry does not answer at $registry after $attempt tries" "$(tail -n 5 "$folder/log")"
}

stop_registry() {
    [[ -z $registry_pid ]] || kill "$registry_pid" 2>/dev/null || true
    registry_pid=''
}

# free_port: one that nobody listens on just now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
