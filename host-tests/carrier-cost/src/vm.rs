//! What one VM holds.

use std::cell::RefCell;

use crate::carrier::Carriers;
use crate::load::Load;

/// The state of one worker.
#[derive(Debug, Default)]
pub(crate) struct Vm {
    /// Its number, once it was given one.
    pub(crate) worker: Option<u32>,
    /// Its ends of all carriers.
    pub(crate) carriers: Carriers,
    /// The same kind of ends, with itself as the only other worker.
    pub(crate) mirror: Carriers,
    pub(crate) load: Load,
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
}

pub(crate) fn with<T>(act: impl FnOnce(&mut Vm) -> T) -> T {
    VM.with(|vm| act(&mut vm.borrow_mut()))
}
