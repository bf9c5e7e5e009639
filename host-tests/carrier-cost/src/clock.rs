//! Envoy's clock.

use std::time::UNIX_EPOCH;

use proxy_wasm::hostcalls;

/// Nanoseconds since the epoch. The same clock for all workers.
pub(crate) fn now_ns() -> u64 {
    let now = hostcalls::get_current_time().expect("Envoy has a clock");
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
