//! Which requests carry a prompt that can be read as it passes.

use routing::Endpoint;

use crate::host;

/// The endpoint of the request at hand, if its body holds a readable prompt. Only in the request headers callback.
pub(crate) fn endpoint() -> Option<Endpoint> {
    let method = host::request_header(":method")?;
    let path = host::request_header(":path")?;
    Endpoint::of(&method, &path).filter(|_| is_plain())
}

/// The announced length of the body. Only in the request headers callback.
pub(crate) fn body_bytes() -> Option<u64> {
    let length = host::request_header("content-length")?;
    std::str::from_utf8(&length).ok()?.parse().ok()
}

/// A compressed body is passed on as it came: unpacking it in the gateway would cost more than a good pick saves.
fn is_plain() -> bool {
    host::request_header("content-encoding")
        .is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"identity"))
}
