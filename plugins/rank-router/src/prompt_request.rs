//! Which requests carry a prompt that can be read as it passes.

use routing::Endpoint;

use crate::host;

/// What the headers say of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PromptRequest {
    /// It holds a prompt.
    Readable(Endpoint),
    /// It holds a prompt, but compressed.
    Compressed(Endpoint),
    /// It holds none that is known.
    Other,
}

impl PromptRequest {
    /// The endpoint of a prompt that can be read.
    pub(crate) fn readable(self) -> Option<Endpoint> {
        match self {
            Self::Readable(endpoint) => Some(endpoint),
            Self::Compressed(_) | Self::Other => None,
        }
    }
}

/// Looks at the request at hand. Only in the request headers callback.
pub(crate) fn look() -> PromptRequest {
    match endpoint() {
        Some(endpoint) if is_plain() => PromptRequest::Readable(endpoint),
        Some(endpoint) => PromptRequest::Compressed(endpoint),
        None => PromptRequest::Other,
    }
}

fn endpoint() -> Option<Endpoint> {
    let method = host::request_header(":method")?;
    let path = host::request_header(":path")?;
    Endpoint::of(&method, &path)
}

/// Whether the client sends its body only when a rank has answered `100 Continue`. Envoy takes the header away where it
/// answers that itself. Only in the request headers callback.
pub(crate) fn waits_for_a_rank() -> bool {
    host::request_header("expect")
        .is_some_and(|expect| expect.eq_ignore_ascii_case(b"100-continue"))
}

/// A compressed body is passed on as it came: unpacking it in the gateway would cost more than a good pick saves.
fn is_plain() -> bool {
    host::request_header("content-encoding")
        .is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"identity"))
}
