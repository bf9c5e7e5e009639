//! gRPC in an Envoy whose gRPC services all fail at once: no call or stream is ever open.

use proxy_wasm::types::Status;

use super::{give, give_bytes};
use crate::baton::ask;

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn proxy_grpc_call(
    _service: *const u8,
    _service_size: usize,
    _name: *const u8,
    _name_size: usize,
    _method: *const u8,
    _method_size: usize,
    _metadata: *const u8,
    _metadata_size: usize,
    _message: *const u8,
    _message_size: usize,
    _timeout_ms: u32,
    _token: *mut u32,
) -> Status {
    Status::InternalFailure
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn proxy_grpc_stream(
    _service: *const u8,
    _service_size: usize,
    _name: *const u8,
    _name_size: usize,
    _method: *const u8,
    _method_size: usize,
    _metadata: *const u8,
    _metadata_size: usize,
    _token: *mut u32,
) -> Status {
    Status::InternalFailure
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_grpc_send(
    _token: u32,
    _message: *const u8,
    _size: usize,
    _end: bool,
) -> Status {
    Status::NotFound
}

#[unsafe(no_mangle)]
extern "C" fn proxy_grpc_cancel(_token: u32) -> Status {
    Status::NotFound
}

#[unsafe(no_mangle)]
extern "C" fn proxy_grpc_close(_token: u32) -> Status {
    Status::NotFound
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_status(
    code: *mut u32,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let (number, message) =
        ask(Ok((0, Vec::new())), |envoy| envoy.call_status()).unwrap_or((0, Vec::new()));
    unsafe {
        give(Ok(number), code);
        give_bytes(Ok(message), data, size)
    }
}
