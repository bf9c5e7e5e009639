# shellcheck shell=bash
# Released programs, installed as Go modules by the go.mod files beside this one and kept between runs, outside of the
# repository: istiod, its agent, istioctl, and a Kubernetes API server with what is needed of its controllers. Needs say.sh.

programs_cache=${XDG_CACHE_HOME:-$HOME/.cache}/rank-router
programs_bin='' # where the programs are, once installed

# Charts and CRDs are files of modules, too.
lws_module=sigs.k8s.io/lws@v0.8.0

# find_programs: puts them on the PATH.
find_programs() {
    programs_bin=$programs_cache/bin-$(programs_key)
    PATH=$programs_bin:$PATH
}

# install_programs: makes what is missing. A cold build takes a quarter of an hour on two cores, and 6 GB.
install_programs() {
    command -v go >/dev/null || cannot "Go is missing; it builds Istio and the API server" "Install Go 1.26 or newer."
    find_programs
    mkdir -p "$programs_bin"
    install_programs_of istio
    install_programs_of kubernetes
    # Now, because the stages have no network that leads anywhere.
    [[ $(lws_folder) ]] || cannot "$lws_module could not be fetched"
}

# programs_key: another one when a version changes.
programs_key() {
    cat scripts/istio/programs/*/go.mod scripts/istio/programs/*/go.sum | sha256sum | cut -c1-12
}

install_programs_of() { # NAME
    local folder=$PWD/scripts/istio/programs/$1 start=$SECONDS package
    for package in $(go_in "$folder" list tool); do
        [[ -x $programs_bin/${package##*/} ]] && continue
        say "installing ${package##*/}; minutes on a machine that never did"
        GOBIN=$programs_bin go_in "$folder" install -trimpath "$package" ||
            cannot "go could not install $package; its reason is above"
        say "${package##*/} after $((SECONDS - start)) s"
    done
}

# go_in FOLDER ARGUMENT...: go with the versions that the folder's go.mod names, as low in priority as it takes long.
go_in() {
    nice -n 10 go -C "$1" "${@:2}"
}

# module_folder PROGRAMS MODULE: where the files of a module are that these programs are made of.
module_folder() {
    go_in "$PWD/scripts/istio/programs/$1" list -m -f '{{.Dir}}' "$2"
}

# lws_folder: where the files of LeaderWorkerSet are: only its CRDs are needed, none of its code.
lws_folder() {
    go mod download -json "$lws_module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}
