//! A proxy-wasm module that measures ways in which the workers of one Envoy can tell each other events.
//!
//! The program `carrier` of host-tests asks each worker by a request of its own, because a connection stays on its
//! worker, and gets the figures as the answer: see `command.rs`. Events are sent when it asks for one, and received as the
//! carrier has it: see `load.rs`. The configuration is the period of ticks in milliseconds. Only workers are asked, so the VM of Envoy's main thread takes no part.

mod carrier;
mod clock;
mod command;
mod cost;
mod keys;
mod load;
mod mailboxes;
mod ring;
mod vm;

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

#[cfg(target_arch = "wasm32")]
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(crate::Root));
    }}
}

/// The only root.
#[derive(Debug)]
pub struct Root;

#[derive(Debug)]
struct Stream;

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _bytes: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        let period_ms = str::from_utf8(&text).ok().and_then(|ms| ms.parse().ok());
        period_ms.is_some_and(|ms| hostcalls::set_tick_period(Duration::from_millis(ms)).is_ok())
    }

    fn on_tick(&mut self) {
        vm::with(|vm| vm.load.tick(&mut vm.carriers));
    }

    fn on_queue_ready(&mut self, _queue: u32) {
        vm::with(|vm| vm.load.mail(&mut vm.carriers));
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _ends: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        let answer = vm::with(|vm| command::answer(vm, &path));
        self.send_http_response(200, Vec::new(), Some(answer.as_bytes()));
        Action::Pause
    }
}
