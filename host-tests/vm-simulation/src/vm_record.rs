//! What Envoy keeps of a VM and of the contexts in it.

use std::collections::BTreeMap;

use crate::stream::StreamId;

/// The thread that has no requests.
pub(crate) const MAIN_THREAD: usize = 0;

/// A VM; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VmId(pub(crate) u32);

/// One of the two filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub(crate) enum Plugin {
    Reader,
    Picker,
}

impl Plugin {
    /// In the order of the filter chain.
    pub(crate) const CHAIN: [Self; 2] = [Self::Reader, Self::Picker];

    pub(crate) fn place(self) -> usize {
        self as usize
    }
}

/// A configured filter in a VM.
#[derive(Debug, Default)]
pub(crate) struct Root {
    /// Streams made by it; it stays until they are gone.
    pub(crate) streams: usize,
    pub(crate) is_draining: bool,
    /// `on_done` said that it is not done.
    pub(crate) is_pending: bool,
    pub(crate) tick_period_ms: u32,
    pub(crate) tick_epoch: u32,
}

/// What a context number means.
#[derive(Debug)]
pub(crate) enum Context {
    Root(Root),
    Stream {
        stream: StreamId,
        plugin: Plugin,
        root: u32,
    },
}

/// A VM that lives.
#[derive(Debug)]
pub(crate) struct VmRecord {
    pub(crate) thread: usize,
    /// A canary is no VM of its thread and has no timers.
    pub(crate) is_canary: bool,
    pub(crate) contexts: BTreeMap<u32, Context>,
    /// The root that new streams of a filter get.
    pub(crate) roots: [Option<u32>; 2],
    /// Metrics by the number that this VM knows them by.
    pub(crate) metrics: BTreeMap<u32, String>,
    next_context: u32,
    next_number: u32,
}

impl VmRecord {
    pub(crate) fn new(thread: usize, is_canary: bool) -> Self {
        Self {
            thread,
            is_canary,
            contexts: BTreeMap::new(),
            roots: [None; 2],
            metrics: BTreeMap::new(),
            next_context: 0,
            next_number: 0,
        }
    }

    /// Numbers start at 1 in each VM, so those of two VMs are the same.
    pub(crate) fn add_context(&mut self, context: Context) -> u32 {
        self.next_context += 1;
        self.contexts.insert(self.next_context, context);
        self.next_context
    }

    /// A new number for a call or a metric.
    pub(crate) fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    pub(crate) fn root(&self, id: u32) -> Option<&Root> {
        match self.contexts.get(&id) {
            Some(Context::Root(root)) => Some(root),
            _ => None,
        }
    }

    pub(crate) fn root_mut(&mut self, id: u32) -> Option<&mut Root> {
        match self.contexts.get_mut(&id) {
            Some(Context::Root(root)) => Some(root),
            _ => None,
        }
    }

    /// The root of a context, itself for a root.
    pub(crate) fn root_of(&self, context: u32) -> Option<u32> {
        match self.contexts.get(&context)? {
            Context::Root(_) => Some(context),
            Context::Stream { root, .. } => Some(*root),
        }
    }
}
