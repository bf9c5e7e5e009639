# shellcheck shell=bash
# The module as an OCI image, in the form that Istio's agent takes: one layer of media type
# application/vnd.oci.image.layer.v1.tar+gzip with the file plugin.wasm, the "compat" variant of the Wasm image
# specification. Unlike the variant with a layer type of its own, every registry, scanner and mirror knows it. Istio's agent
# (pkg/wasm/imagefetcher.go) reads the last layer up to a file of that name and ignores all others, so licence texts follow.

# write_oci_image MODULE LICENCES FOLDER: an OCI image layout. Its bytes depend on nothing but those of the module and of the
# licence texts: no time, no owner, no revision. GNU gzip has its own compressor, whose output does not change between
# versions as zlib's does.
write_oci_image() {
    local module=$1 licences=$2 folder=$3 parts=$3.parts layer diff config manifest
    mkdir -p "$folder/blobs/sha256" "$parts"
    install --mode 644 "$module" "$parts/plugin.wasm"
    cp -r "$licences" "$parts/licenses"
    find "$parts/licenses" -type f -exec chmod 644 {} +
    tar --create --format ustar --sort name --mtime @0 --owner 0 --group 0 --numeric-owner --mode u=rwX,go=rX \
        --file "$parts/layer" --directory "$parts" plugin.wasm licenses
    diff=$(sha256sum <"$parts/layer" | cut -d' ' -f1)
    gzip --best --no-name "$parts/layer"
    layer=$(oci_blob "$folder" "$parts/layer.gz" application/vnd.oci.image.layer.v1.tar+gzip)
    printf '{"architecture":"wasm","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$diff" >"$parts/config"
    config=$(oci_blob "$folder" "$parts/config" application/vnd.oci.image.config.v1+json)
    printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s],"annotations":{%s}}' \
        application/vnd.oci.image.manifest.v1+json "$config" "$layer" \
        '"org.opencontainers.image.title":"rank-router","org.opencontainers.image.licenses":"Apache-2.0"' \
        >"$parts/manifest"
    manifest=$(oci_blob "$folder" "$parts/manifest" application/vnd.oci.image.manifest.v1+json)
    printf '{"schemaVersion":2,"manifests":[%s]}' "$manifest" >"$folder/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$folder/oci-layout"
    rm -r "$parts"
}

# oci_blob FOLDER FILE MEDIA-TYPE: copies the file into the layout and prints its descriptor.
oci_blob() {
    local digest
    digest=$(sha256sum <"$2" | cut -d' ' -f1)
    cp "$2" "$1/blobs/sha256/$digest"
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$3" "$digest" "$(stat --format %s "$2")"
}
