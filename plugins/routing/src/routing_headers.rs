//! Names of the headers that steer a request after this module.

/// Carries the picked rank and its fallbacks, `ip:port[,ip:port...]`, best first: the header of the
/// endpoint-picker protocol, read by Envoy's `override_host` load balancing policy.
pub const DESTINATION_HEADER: &str = "x-gateway-destination-endpoint";

/// Tells the sidecar of a decode rank which rank is to prefill, `ip:port`, IPv6 in brackets.
pub const PREFILLER_HEADER: &str = "x-prefiller-host-port";

/// Names the rank that is to prefill where Envoy has to try a second time; what follows this module puts it into
/// [`PREFILLER_HEADER`], because a filter of a gateway runs once, however often Envoy tries.
pub const NEXT_PREFILLER_HEADER: &str = "x-rank-router-next-prefiller";

/// Carries the model's name to the routes of a gateway that has a pool for each model.
pub const MODEL_HEADER: &str = "x-gateway-model-name";

/// Headers that steer ranks, sidecars or this gateway, and that no client may set.
///
/// Whoever can set one of them can reach any rank, or make a sidecar fetch another's KV blocks.
pub const STRIPPED_HEADERS: [&str; 7] = [
    DESTINATION_HEADER,
    PREFILLER_HEADER,
    NEXT_PREFILLER_HEADER,
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
    "x-data-parallel-rank",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_envoy_compares_them_and_each_is_there_once() {
        for (place, name) in STRIPPED_HEADERS.iter().enumerate() {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{name}"
            );
            assert!(!STRIPPED_HEADERS[..place].contains(name), "{name} twice");
        }
        assert!(STRIPPED_HEADERS.contains(&DESTINATION_HEADER));
    }
}
