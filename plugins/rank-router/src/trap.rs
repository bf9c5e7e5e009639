//! Ends the VM when a request asks for it, as a bug would: only in builds with the feature `trap`.

use crate::host;

/// A request with this header traps.
const TRAP_HEADER: &str = "x-rank-router-trap";

/// Traps if the request at hand asks for it. Only in the request headers callback.
pub(crate) fn if_asked() {
    if host::request_header(TRAP_HEADER).is_some() {
        std::process::abort();
    }
}
