//! The C side of the host: functions that the module's SDK imports, and the module's own entry points.
//!
//! In wasm32 Envoy provides the imports; natively the SDK declares the same names as plain C functions, and these
//! definitions are what the linker finds. Each turns pointers into slices, asks the fake Envoy, and hands the answer
//! back as Envoy does: bytes in memory of the module's allocator, empty bytes as a null pointer. Nothing else in this
//! crate is unsafe.
//!
//! # Safety
//!
//! Every pointer comes from the SDK's `hostcalls`, which pass a slice's pointer and length, or the address of a local
//! variable for an answer.

#![allow(unsafe_code)]

use std::ptr::null_mut;
use std::slice::from_raw_parts;

use proxy_wasm::types::{LogLevel, MetricType, Status};

use crate::baton::ask;

mod grpc;
mod streams;

/// What the module exports; the SDK defines it.
pub(crate) mod module {
    use proxy_wasm::types::Action;

    unsafe extern "C" {
        pub(crate) safe fn proxy_on_context_create(context: u32, root: u32);
        pub(crate) safe fn proxy_on_vm_start(context: u32, size: usize) -> bool;
        pub(crate) safe fn proxy_on_configure(context: u32, size: usize) -> bool;
        pub(crate) safe fn proxy_on_tick(context: u32);
        pub(crate) safe fn proxy_on_queue_ready(context: u32, queue: u32);
        pub(crate) safe fn proxy_on_request_headers(
            context: u32,
            headers: usize,
            end: bool,
        ) -> Action;
        pub(crate) safe fn proxy_on_request_body(context: u32, size: usize, end: bool) -> Action;
        pub(crate) safe fn proxy_on_request_trailers(context: u32, trailers: usize) -> Action;
        pub(crate) safe fn proxy_on_response_headers(
            context: u32,
            headers: usize,
            end: bool,
        ) -> Action;
        pub(crate) safe fn proxy_on_response_body(context: u32, size: usize, end: bool) -> Action;
        pub(crate) safe fn proxy_on_response_trailers(context: u32, trailers: usize) -> Action;
        pub(crate) safe fn proxy_on_http_call_response(
            context: u32,
            token: u32,
            headers: usize,
            body_size: usize,
            trailers: usize,
        );
        pub(crate) safe fn proxy_on_log(context: u32);
        pub(crate) safe fn proxy_on_done(context: u32) -> bool;
        pub(crate) safe fn proxy_on_delete(context: u32);
    }
}

/// Bytes that the module passes.
unsafe fn given<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() || size == 0 {
        return &[];
    }
    // SAFETY: see the file's documentation.
    unsafe { from_raw_parts(data, size) }
}

/// Hands bytes to the module, which frees them as a vector of just that capacity.
unsafe fn give_bytes(
    answer: Result<Vec<u8>, Status>,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    let length = bytes.len();
    let memory = match length {
        0 => null_mut(),
        _ => Box::into_raw(bytes.into_boxed_slice()).cast::<u8>(),
    };
    // SAFETY: see the file's documentation.
    unsafe {
        *data = memory;
        *size = length;
    }
    Status::Ok
}

/// Hands a number to the module.
unsafe fn give<T>(answer: Result<T, Status>, place: *mut T) -> Status {
    match answer {
        Ok(value) => {
            // SAFETY: see the file's documentation.
            unsafe { *place = value };
            Status::Ok
        }
        Err(status) => status,
    }
}

fn status(answer: Result<(), Status>) -> Status {
    answer.err().unwrap_or(Status::Ok)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(level: LogLevel, message: *const u8, size: usize) -> Status {
    let message = unsafe { given(message, size) };
    status(ask(Ok(()), |envoy| envoy.log(level, message)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_log_level(level: *mut LogLevel) -> Status {
    // One level for all: the SDK keeps it in a static that all simulations of a process share.
    unsafe { give(Ok(LogLevel::Debug), level) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> Status {
    unsafe { give(ask(Ok(0), |envoy| envoy.current_time()), time) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> Status {
    status(ask(Ok(()), |envoy| envoy.set_tick_period(period)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_shared_data(
    key: *const u8,
    key_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
    version: *mut u32,
) -> Status {
    let key = unsafe { given(key, key_size) };
    match ask(Err(Status::NotFound), |envoy| envoy.get_shared_data(key)) {
        Ok((value, newest)) => unsafe {
            give(Ok(newest), version);
            give_bytes(Ok(value), data, size)
        },
        Err(status) => status,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_shared_data(
    key: *const u8,
    key_size: usize,
    value: *const u8,
    value_size: usize,
    version: u32,
) -> Status {
    let (key, value) = unsafe { (given(key, key_size), given(value, value_size)) };
    status(ask(Ok(()), |envoy| {
        envoy.set_shared_data(key, value, version)
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_register_shared_queue(
    name: *const u8,
    size: usize,
    queue: *mut u32,
) -> Status {
    let name = unsafe { given(name, size) };
    unsafe { give(ask(Ok(0), |envoy| envoy.register_queue(name)), queue) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_resolve_shared_queue(
    vm_id: *const u8,
    vm_id_size: usize,
    name: *const u8,
    size: usize,
    queue: *mut u32,
) -> Status {
    let (vm_id, name) = unsafe { (given(vm_id, vm_id_size), given(name, size)) };
    let answer = ask(Err(Status::NotFound), |envoy| {
        envoy.resolve_queue(vm_id, name)
    });
    unsafe { give(answer, queue) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_dequeue_shared_queue(
    queue: u32,
    data: *mut *mut u8,
    size: *mut usize,
) -> Status {
    let answer = ask(Err(Status::Empty), |envoy| envoy.dequeue(queue));
    unsafe { give_bytes(answer, data, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_enqueue_shared_queue(
    queue: u32,
    value: *const u8,
    size: usize,
) -> Status {
    let value = unsafe { given(value, size) };
    status(ask(Ok(()), |envoy| envoy.enqueue(queue, value)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(
    kind: MetricType,
    name: *const u8,
    size: usize,
    metric: *mut u32,
) -> Status {
    let name = unsafe { given(name, size) };
    unsafe { give(ask(Ok(0), |envoy| envoy.define_metric(kind, name)), metric) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_metric(metric: u32, value: *mut u64) -> Status {
    unsafe { give(ask(Ok(0), |envoy| envoy.get_metric(metric)), value) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_record_metric(metric: u32, value: u64) -> Status {
    status(ask(Ok(()), |envoy| envoy.record_metric(metric, value)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_increment_metric(metric: u32, offset: i64) -> Status {
    status(ask(Ok(()), |envoy| envoy.increment_metric(metric, offset)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_effective_context(context: u32) -> Status {
    status(ask(Ok(()), |envoy| envoy.set_effective_context(context)))
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn proxy_http_call(
    cluster: *const u8,
    cluster_size: usize,
    headers: *const u8,
    headers_size: usize,
    _body: *const u8,
    _body_size: usize,
    _trailers: *const u8,
    _trailers_size: usize,
    timeout_ms: u32,
    token: *mut u32,
) -> Status {
    let (cluster, headers) =
        unsafe { (given(cluster, cluster_size), given(headers, headers_size)) };
    let answer = ask(Err(Status::InternalFailure), |envoy| {
        envoy.http_call(cluster, headers, timeout_ms)
    });
    unsafe { give(answer, token) }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_done() -> Status {
    status(ask(Ok(()), |envoy| envoy.done()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_call_foreign_function(
    _name: *const u8,
    _name_size: usize,
    _arguments: *const u8,
    _arguments_size: usize,
    _data: *mut *mut u8,
    _size: *mut usize,
) -> Status {
    // An Envoy that has none of them.
    Status::NotFound
}
