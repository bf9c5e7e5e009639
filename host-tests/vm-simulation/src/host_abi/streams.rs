//! Calls on the stream at work: headers, bodies, properties, and whether it goes on.

use proxy_wasm::types::{BufferType, MapType, Status, StreamType};

use super::{give_bytes, given, status};
use crate::baton::ask;

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    kind: BufferType,
    start: usize,
    length: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let answer = ask(Err(Status::NotFound), |envoy| {
        envoy.buffer(kind, start, length)
    });
    unsafe { give_bytes(answer, data, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_buffer_bytes(
    kind: BufferType,
    start: usize,
    length: usize,
    data: *const u8,
    size: usize,
) -> Status {
    let bytes = unsafe { given(data, size) };
    status(ask(Ok(()), |envoy| {
        envoy.set_buffer(kind, start, length, bytes)
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_pairs(
    kind: MapType,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let answer = ask(Ok(Vec::new()), |envoy| envoy.header_pairs(kind));
    unsafe { give_bytes(answer, data, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_header_map_pairs(
    kind: MapType,
    data: *const u8,
    size: usize,
) -> Status {
    let pairs = unsafe { given(data, size) };
    status(ask(Ok(()), |envoy| envoy.set_header_pairs(kind, pairs)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_value(
    kind: MapType,
    name: *const u8,
    name_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let name = unsafe { given(name, name_size) };
    let answer = ask(Err(Status::NotFound), |envoy| envoy.header(kind, name));
    unsafe { give_bytes(answer, data, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_remove_header_map_value(
    kind: MapType,
    name: *const u8,
    size: usize,
) -> Status {
    let name = unsafe { given(name, size) };
    status(ask(Ok(()), |envoy| envoy.remove_header(kind, name)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_replace_header_map_value(
    kind: MapType,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> Status {
    let (name, value) = unsafe { (given(name, name_size), given(value, value_size)) };
    status(ask(Ok(()), |envoy| envoy.replace_header(kind, name, value)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_add_header_map_value(
    kind: MapType,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> Status {
    let (name, value) = unsafe { (given(name, name_size), given(value, value_size)) };
    status(ask(Ok(()), |envoy| envoy.add_header(kind, name, value)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let path = unsafe { given(path, path_size) };
    let answer = ask(Err(Status::NotFound), |envoy| envoy.property(path));
    unsafe { give_bytes(answer, data, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_property(
    path: *const u8,
    path_size: usize,
    value: *const u8,
    value_size: usize,
) -> Status {
    let (path, value) = unsafe { (given(path, path_size), given(value, value_size)) };
    status(ask(Ok(()), |envoy| envoy.set_property(path, value)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_continue_stream(side: StreamType) -> Status {
    status(ask(Ok(()), |envoy| envoy.continue_stream(side)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_close_stream(side: StreamType) -> Status {
    status(ask(Ok(()), |envoy| envoy.close_stream(side)))
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn proxy_send_local_response(
    code: u32,
    _details: *const u8,
    _details_size: usize,
    _body: *const u8,
    _body_size: usize,
    _headers: *const u8,
    _headers_size: usize,
    _grpc_status: i32,
) -> Status {
    status(ask(Ok(()), |envoy| envoy.send_local_response(code)))
}
