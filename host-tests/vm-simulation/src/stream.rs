//! A request in Envoy, from its headers to its log entry.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::envoy::HeaderMap;
use crate::ranks::{Exchange, Flag};
use crate::vm_record::{Plugin, VmId};

/// A stream; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u32);

/// Another filter that answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum LocalReply {
    Never,
    BeforeReader,
    BetweenFilters,
    BehindPicker,
}

/// A piece of a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientStep {
    pub(crate) after_ns: u64,
    pub(crate) bytes: Range<usize>,
    /// The last piece, with its end in the same frame.
    pub(crate) is_end: bool,
    /// No piece but trailers, which end the request.
    pub(crate) is_trailers: bool,
}

/// What a client will do.
#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) headers: HeaderMap,
    pub(crate) has_body: bool,
    pub(crate) body: Vec<u8>,
    /// The body says what a client must not say: no rank may get all of it.
    pub(crate) is_forbidden: bool,
    pub(crate) steps: Vec<ClientStep>,
    pub(crate) abort_after_ns: Option<u64>,
    pub(crate) local_reply: LocalReply,
    /// The status of a rank's answer, where it is not drawn.
    pub(crate) verdict: Option<u32>,
    /// Prompt tokens and cached tokens that the answer tells; a rank tells the truth.
    pub(crate) usage: Option<(u64, u64)>,
    /// The whole of a prompt that no other client sends: asked again after rest, it must be unknown unless it was served.
    pub(crate) again: Option<Vec<u8>>,
}

impl ClientPlan {
    /// Whether the client ever ends its request.
    pub(crate) fn has_end(&self) -> bool {
        let is_end = |step: &ClientStep| step.is_end || step.is_trailers;
        !self.has_body || self.steps.iter().any(is_end)
    }
}

/// What Envoy lets a filter see at the moment: pointers that it sets before a callback and clears after it.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtHand {
    pub(crate) request_headers: bool,
    pub(crate) request_trailers: bool,
    pub(crate) response_headers: bool,
    pub(crate) response_trailers: bool,
    pub(crate) request_body: Vec<u8>,
    pub(crate) response_body: Vec<u8>,
}

/// How far a request has come on its way to the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Not at the picker yet.
    Before,
    /// The picker holds the headers; this waits behind them.
    Held {
        body: Vec<u8>,
        is_end: bool,
        has_trailers: bool,
    },
    /// The picker said that it goes on, in a callback that is not over.
    Resumed {
        body: Vec<u8>,
        is_end: bool,
        has_trailers: bool,
    },
    /// At the router.
    Passed,
}

/// A stream that Envoy has open.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) vm: VmId,
    pub(crate) thread: usize,
    /// The roots that its filters were made by.
    pub(crate) roots: [u32; 2],
    pub(crate) contexts: [Option<u32>; 2],
    /// Filters that got the request's headers: only they get anything else.
    pub(crate) has_headers: [bool; 2],
    pub(crate) at_hand: [AtHand; 2],
    pub(crate) request_headers: HeaderMap,
    pub(crate) response_headers: Option<HeaderMap>,
    pub(crate) trailers: HeaderMap,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) plan: ClientPlan,
    pub(crate) next_step: usize,
    /// Envoy reads no more from the client until the picker lets go.
    pub(crate) is_blocked: bool,
    /// When the client last sent something.
    pub(crate) last_byte_ns: u64,
    pub(crate) way: Way,
    pub(crate) exchange: Exchange,
    /// All of the request has come.
    pub(crate) is_whole: bool,
    pub(crate) code: Option<u32>,
    pub(crate) flag: Option<Flag>,
}

impl Stream {
    pub(crate) fn new(vm: VmId, thread: usize, roots: [u32; 2], plan: ClientPlan) -> Self {
        Self {
            vm,
            thread,
            roots,
            contexts: [None; 2],
            has_headers: [false; 2],
            at_hand: [AtHand::default(), AtHand::default()],
            request_headers: plan.headers.clone(),
            response_headers: None,
            trailers: HeaderMap::of(&[("x-trailer", "1")]),
            properties: BTreeMap::new(),
            plan,
            next_step: 0,
            is_blocked: false,
            last_byte_ns: 0,
            way: Way::Before,
            exchange: Exchange::default(),
            is_whole: false,
            code: None,
            flag: None,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.way, Way::Held { .. } | Way::Resumed { .. })
    }

    pub(crate) fn at_hand(&mut self, plugin: Plugin) -> &mut AtHand {
        &mut self.at_hand[plugin.place()]
    }
}
