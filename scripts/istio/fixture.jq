# Of Envoy's configuration dump, with endpoints, a bootstrap that needs no control plane: the gateway's listener with its routes
# and extensions in place, and the clusters that the module and the routes use, the pool first. What differs from run to run
# is taken out.
def dump($kind): .configs[] | select(."@type" | . == "type.googleapis.com/envoy.admin.v3.\($kind)");
def assignment($name):
    [dump("EndpointsConfigDump").dynamic_endpoint_configs[].endpoint_config | select(.cluster_name == $name)][0]
    # Health is the test's matter.
    | del(."@type", .policy, .endpoints[]?.lb_endpoints[]?.health_status)
    | .endpoints[]?.lb_endpoints |= sort_by(.endpoint.address.socket_address | [.address, .port_value]);

. as $all
| [dump("EcdsConfigDump").ecds_filters[].ecds_filter | {key: .name, value: .typed_config}] | from_entries as $extensions
| ($all | [dump("ListenersConfigDump").dynamic_listeners[].active_state.listener | select(.address.socket_address.port_value == 80)][0])
    as $listener
| ($all | [dump("RoutesConfigDump").dynamic_route_configs[].route_config][0] | del(."@type")) as $routes
| ($all | [dump("ClustersConfigDump").dynamic_active_clusters[].cluster
    | select(.name | test("decode|prefill|no-picker|rank_router_scrape"))]
    | sort_by(.name | [(contains("|54321|") | not), .])) as $clusters
| ($all | [dump("ClustersConfigDump").static_clusters[].cluster | select(.name == "prometheus_stats")]) as $static
| {
    admin: {address: {socket_address: {address: "127.0.0.1", port_value: 15000}}},
    static_resources: {
        listeners: [$listener | del(."@type")
            | .filter_chains[0].filters[0].typed_config |= (
                del(.rds) | .route_config = $routes
                | .http_filters |= map(if .config_discovery then {name, typed_config: $extensions[.name]} else . end)
                | .http_filters |= map(if .typed_config.config.vm_config
                    then .typed_config.config.vm_config.code.local.filename = "rank_router.wasm" else . end))],
        clusters: ($clusters + $static | map(. as $cluster | del(."@type")
            | if .type == "EDS" then del(.eds_cluster_config, .transport_socket_matches) | .type = "STATIC"
                | .load_assignment = ($all | assignment($cluster.name)) else . end))
    }
}
