//! Notices in a body the keys that are looked for, and how often it names a model.
//!
//! The [list](crate::refused_keys) says whose they are. They count as a field of the body, as an entry of `vllm_xargs`, which
//! becomes the `extra_args` of vLLM's sampling parameters, and as an entry of those themselves, in `/inference/v1/generate`.
//! Anywhere else, in a message or in the arguments of a tool, they are text.
//!
//! `null` is no value: servers take it for absent, and clients write it for fields that they do not use. Everything else
//! counts, also `{}` and what the server would refuse, and also where the same key comes again with `null`.

use crate::json::Event;
use crate::refused_keys::{MAX_KEY_BYTES, WatchedKeys};

/// Objects in which keys count: by the object they stand in and their key.
const INNER: [(Place, &[u8], Place); 3] = [
    (Place::Top, b"vllm_xargs", Place::Xargs),
    (Place::Top, b"sampling_params", Place::Sampling),
    (Place::Sampling, b"extra_args", Place::ExtraArgs),
];

/// The key of the model's name.
const MODEL: &[u8] = b"model";

/// An object whose keys count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Top,
    Xargs,
    Sampling,
    ExtraArgs,
}

/// What the value behind the last key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ahead {
    /// The number of the key, if it is looked for.
    watched: Option<usize>,
    is_model: bool,
    /// What an object there is.
    inner: Option<Place>,
}

/// Watches the events of a body. Cost: a comparison for each event, and for a key that may count a copy of at most 64 bytes
/// and a comparison with each that is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyWatch {
    keys: WatchedKeys,
    /// Containers that are open.
    depth: u64,
    place: Place,
    key: Key,
    ahead: Ahead,
    /// Numbers of the keys that were met, each once, so no more than are looked for.
    found: Vec<usize>,
    models: u32,
    is_no_object: bool,
}

impl KeyWatch {
    pub(crate) fn new(keys: WatchedKeys) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }

    /// Forgets what was met.
    pub(crate) fn start_over(&mut self) {
        *self = Self::new(std::mem::take(&mut self.keys));
    }

    /// The keys that were met, in that order.
    pub(crate) fn found(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(|number| self.keys.name(*number))
    }

    /// How many values of `model` have begun at the top level.
    pub(crate) fn models(&self) -> u32 {
        self.models
    }

    /// Whether the body is no object, so that no key can be met.
    pub(crate) fn is_no_object(&self) -> bool {
        self.is_no_object
    }

    pub(crate) fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Key(part) if self.is_here() => self.key.push(part),
            Event::KeyEnd if self.is_here() => self.ahead = self.key.end(self.place, &self.keys),
            Event::ObjectStart | Event::ArrayStart => self.open(event),
            Event::ObjectEnd | Event::ArrayEnd => self.close(),
            _ if self.depth == 0 => self.is_no_object = true,
            Event::String(_) | Event::StringEnd | Event::Scalar(_) if self.is_here() => {
                self.value(event);
            }
            _ => {}
        }
    }

    /// Whether the innermost container is the object whose keys count.
    fn is_here(&self) -> bool {
        self.depth == self.place.depth()
    }

    fn open(&mut self, event: Event<'_>) {
        self.is_no_object |= self.depth == 0 && event != Event::ObjectStart;
        if self.is_here() {
            let inner = self.value(event);
            if let (Some(place), Event::ObjectStart) = (inner, event) {
                self.place = place;
            }
        }
        self.depth = self.depth.saturating_add(1);
    }

    fn close(&mut self) {
        if self.is_here() {
            self.place = self.place.outer();
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// A value begins, or goes on; gives what an object there is.
    fn value(&mut self, event: Event<'_>) -> Option<Place> {
        let ahead = std::mem::take(&mut self.ahead);
        self.models = self.models.saturating_add(u32::from(ahead.is_model));
        if let Some(number) = ahead.watched {
            self.meet(number, event);
        }
        ahead.inner
    }

    fn meet(&mut self, number: usize, event: Event<'_>) {
        let is_null = matches!(event, Event::Scalar(run) if run.first() == Some(&b'n'));
        let counts = !is_null || WatchedKeys::reads_null(number);
        if counts && !self.found.contains(&number) {
            self.found.push(number);
        }
    }
}

impl Place {
    fn depth(self) -> u64 {
        match self {
            Self::Top => 1,
            Self::Xargs | Self::Sampling => 2,
            Self::ExtraArgs => 3,
        }
    }

    fn outer(self) -> Self {
        match self {
            Self::ExtraArgs => Self::Sampling,
            _ => Self::Top,
        }
    }
}

/// As much of a key as is needed to tell whether it counts.
#[derive(Clone, Debug)]
struct Key {
    name: [u8; MAX_KEY_BYTES],
    bytes: usize,
}

impl Default for Key {
    fn default() -> Self {
        Self {
            name: [0; MAX_KEY_BYTES],
            bytes: 0,
        }
    }
}

impl Key {
    fn push(&mut self, part: &[u8]) {
        let end = self.bytes.saturating_add(part.len());
        if let Some(free) = self.name.get_mut(self.bytes..end) {
            free.copy_from_slice(part);
        }
        self.bytes = end;
    }

    /// What stands behind the key, and starts a new one.
    fn end(&mut self, place: Place, keys: &WatchedKeys) -> Ahead {
        let bytes = std::mem::take(&mut self.bytes);
        let name = self.name.get(..bytes).unwrap_or_default();
        let mut inner = INNER.iter();
        let inner = inner.find(|(outer, key, _)| *outer == place && *key == name);
        Ahead {
            watched: keys.find(name).filter(|_| place != Place::Sampling),
            is_model: place == Place::Top && name == MODEL,
            inner: inner.map(|(_, _, inner)| *inner),
        }
    }
}

#[cfg(test)]
mod tests;
