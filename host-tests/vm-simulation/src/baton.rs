//! The fake Envoy as a baton: whoever holds it runs, everybody else waits for it.
//!
//! A VM's thread gets the whole Envoy for one callback and sends it back afterwards, so one thread runs at a time and
//! nothing is shared. That makes a run a function of its seed.
//!
//! A VM that traps inside a callback loses the baton at that host call and becomes a *ghost*: its thread runs the
//! callback to its end, because natively nothing can stop it there, but the world has moved on without it, and every
//! further host call is answered with nothing and has no effect.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::sync::mpsc::Sender;

use proxy_wasm::types::{LogLevel, Status};

use crate::envoy::Envoy;

/// How a callback ended.
pub(crate) enum Report {
    /// It returned this.
    Returned(Box<Envoy>, u32),
    /// The VM trapped, as the scheduler wanted it.
    Trapped(Box<Envoy>),
    /// The module panicked.
    Panicked(Box<Envoy>, String),
    /// A ghost panicked; its thread stays.
    Lost,
}

#[derive(Default)]
struct Hand {
    envoy: Option<Box<Envoy>>,
    reports: Option<Sender<Report>>,
}

thread_local! {
    static HAND: RefCell<Hand> = RefCell::default();
}

/// Makes this thread a VM's: it may hold the baton, and a panic in it is reported here.
pub(crate) fn enlist(reports: Sender<Report>) {
    HAND.with_borrow_mut(|hand| hand.reports = Some(reports));
}

/// Ends the enlistment: nothing is reported from this thread any more.
pub(crate) fn discharge() {
    HAND.with_borrow_mut(|hand| *hand = Hand::default());
}

/// Takes the baton for a callback.
pub(crate) fn take(envoy: Box<Envoy>) {
    HAND.with_borrow_mut(|hand| hand.envoy = Some(envoy));
}

/// Ends a callback; false when the VM became a ghost in it.
pub(crate) fn give_back(returned: u32) -> bool {
    let envoy = HAND.with_borrow_mut(|hand| hand.envoy.take());
    envoy.is_some_and(|envoy| send(Report::Returned(envoy, returned)))
}

/// A host call: asks the Envoy, or answers a ghost.
pub(crate) fn ask<T>(
    of_a_ghost: Result<T, Status>,
    act: impl FnOnce(&mut Envoy) -> Result<T, Status>,
) -> Result<T, Status> {
    let asked = HAND.try_with(|hand| {
        let mut hand = hand.borrow_mut();
        let envoy = hand.envoy.as_mut()?;
        (!envoy.traps_now()).then(|| act(envoy))
    });
    match asked.ok().flatten() {
        Some(answer) => answer,
        None => {
            become_ghost();
            of_a_ghost
        }
    }
}

fn become_ghost() {
    let envoy = HAND.try_with(|hand| hand.borrow_mut().envoy.take());
    if let Ok(Some(envoy)) = envoy {
        send(Report::Trapped(envoy));
    }
}

fn send(report: Report) -> bool {
    HAND.with_borrow(|hand| {
        let reports = hand.reports.as_ref();
        reports.is_some_and(|reports| reports.send(report).is_ok())
    })
}

/// Prepares the process: the SDK's logger, which must not be set up by two threads at once, and a hook for panics.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default_hook = std::panic::take_hook();
        // Sets a hook of its own, which would unwrap a host call.
        proxy_wasm::set_log_level(LogLevel::Debug);
        std::panic::set_hook(Box::new(move |info| match is_vm() {
            true => end_vm(info),
            false => default_hook(info),
        }));
    });
}

fn is_vm() -> bool {
    HAND.try_with(|hand| hand.try_borrow().is_ok_and(|hand| hand.reports.is_some()))
        .unwrap_or(false)
}

/// A module's panic must not unwind: the SDK's entry points are C functions, and the process would end. So the
/// thread says what happened and never goes on.
fn end_vm(info: &PanicHookInfo<'_>) {
    let envoy = HAND.with_borrow_mut(|hand| hand.envoy.take());
    send(match envoy {
        Some(envoy) => Report::Panicked(envoy, info.to_string()),
        None => Report::Lost,
    });
    loop {
        std::thread::park();
    }
}
