//! The filter itself: takes its configuration and makes its streams.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use routing::{Config, ConfigErrors, Failure, FilterConfig};

use crate::picker::Picker;
use crate::reader::Reader;
use crate::worker::Worker;
use crate::{bell, host, worker};

/// Which of the two filters this root was configured to be.
#[derive(Debug)]
enum Filter {
    Unconfigured,
    Reader,
    /// With its pools.
    Picker(Rc<[u64]>),
}

/// One configured filter in one VM.
#[derive(Debug)]
pub struct Root {
    id: u32,
    filter: Filter,
}

impl Root {
    /// A root that is not configured yet.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self {
            id,
            filter: Filter::Unconfigured,
        }
    }

    fn become_picker(&mut self, configs: Vec<Config>) {
        for config in &configs {
            log::info!("rank-router: picker of {config}");
        }
        host::tick_every(worker::TICK);
        let before = std::mem::replace(&mut self.filter, Filter::Unconfigured);
        let pools = worker::with(|worker| {
            let pools = configs.into_iter().map(|config| worker.join_pool(config));
            let pools = pools.collect::<Vec<u64>>();
            worker.take_posted(host::now_ms());
            Some(pools)
        });
        self.filter = pools.map_or(Filter::Unconfigured, |pools| Filter::Picker(pools.into()));
        // Only now, so that a pool that stays is never without a picker.
        leave(&before);
    }
}

fn leave(filter: &Filter) {
    if let Filter::Picker(pools) = filter {
        worker::with(|worker| pools.iter().for_each(|pool| worker.leave_pool(*pool)));
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        leave(&self.filter);
        worker::with(|worker| worker.bell.take_down(self.id));
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_bytes: usize, _: usize) {
        let now_ms = host::now_ms();
        worker::with(|worker| {
            let shared = &mut worker.shared;
            let has_failed = worker
                .watch
                .answered(shared, token, headers > 0, body_bytes, now_ms);
            if has_failed {
                worker.metrics.rank_failed(Failure::Scrape);
            }
        });
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _bytes: usize) -> bool {
        host::follow_log_level();
        match FilterConfig::parse(&host::plugin_configuration()) {
            Ok(FilterConfig::Reader) => self.filter = Filter::Reader,
            Ok(FilterConfig::Picker(configs)) => self.become_picker(configs),
            Err(errors) => return refuse(&errors),
        }
        true
    }

    fn on_queue_ready(&mut self, queue: u32) {
        bell::drain(queue);
        worker::decide_due(self.id);
    }

    fn on_tick(&mut self) {
        host::follow_log_level();
        let now_ms = host::now_ms();
        worker::with(|worker| {
            worker.bell.empty();
            worker.tick(now_ms);
            worker.hang_bell(self.id);
        });
        worker::decide_due(self.id);
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.filter {
            Filter::Unconfigured => Box::new(Bystander),
            Filter::Reader => Box::new(Reader::new(id)),
            Filter::Picker(pools) => {
                worker::with(Worker::wake);
                Box::new(Picker::new(id, pools.clone()))
            }
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Logs each mistake on its own line; the host then refuses the configuration.
fn refuse(errors: &ConfigErrors) -> bool {
    errors
        .0
        .iter()
        .for_each(|error| log::error!("rank-router: {error}"));
    false
}

/// A stream of a filter without configuration: everything passes.
#[derive(Debug)]
struct Bystander;

impl Context for Bystander {}
impl HttpContext for Bystander {}
