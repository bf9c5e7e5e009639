//! Notices `kv_transfer_params` in a body.
//!
//! With them a rank reads KV blocks of a request that another rank has served, by ids that the client names: whoever may
//! set them can read what others have sent. They are for the sidecar beside a rank to set and for nobody else. vLLM takes
//! them from three places: as a field of the body, as an entry of `vllm_xargs`, which becomes the `extra_args` of the
//! sampling parameters, and as an entry of those themselves, in `/inference/v1/generate`. Anywhere else, in a message or
//! in the arguments of a tool, they are text.
//!
//! `null` is no value: vLLM takes it for absent, and clients write it for fields that they do not use. Everything else
//! counts, also `{}` and what vLLM would refuse, and also where the same key comes again with `null`.

use crate::json::Event;

/// The key.
const FORBIDDEN: &[u8] = b"kv_transfer_params";
/// Objects in which it counts: by the object they stand in and their key.
const INNER: [(Place, &[u8], Place); 3] = [
    (Place::Top, b"vllm_xargs", Place::Xargs),
    (Place::Top, b"sampling_params", Place::Sampling),
    (Place::Sampling, b"extra_args", Place::ExtraArgs),
];

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
enum Ahead {
    #[default]
    Other,
    Forbidden,
    Inner(Place),
}

/// Watches the events of a body. Cost: a comparison for each event, a copy of at most 18 bytes for a key that counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct KvParams {
    /// Containers that are open.
    depth: u64,
    place: Place,
    key: Key,
    ahead: Ahead,
    are_found: bool,
    is_no_object: bool,
}

impl KvParams {
    /// Whether they were met.
    pub(crate) fn are_found(&self) -> bool {
        self.are_found
    }

    /// Whether the body is no object, so that they cannot be met.
    pub(crate) fn is_no_object(&self) -> bool {
        self.is_no_object
    }

    pub(crate) fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Key(part) if self.is_here() => self.key.push(part),
            Event::KeyEnd if self.is_here() => self.ahead = self.key.end(self.place),
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
            let ahead = self.value(event);
            if let (Ahead::Inner(place), Event::ObjectStart) = (ahead, event) {
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

    /// A value begins, or goes on; gives what it is.
    fn value(&mut self, event: Event<'_>) -> Ahead {
        let is_null = matches!(event, Event::Scalar(run) if run.first() == Some(&b'n'));
        let ahead = std::mem::take(&mut self.ahead);
        self.are_found |= ahead == Ahead::Forbidden && !is_null;
        ahead
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
#[derive(Clone, Debug, Default)]
struct Key {
    name: [u8; FORBIDDEN.len()],
    bytes: usize,
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
    fn end(&mut self, place: Place) -> Ahead {
        let bytes = std::mem::take(&mut self.bytes);
        let name = self.name.get(..bytes).unwrap_or_default();
        if name == FORBIDDEN && place != Place::Sampling {
            return Ahead::Forbidden;
        }
        let mut inner = INNER.iter();
        let found = inner.find(|(outer, key, _)| *outer == place && *key == name);
        found.map_or(Ahead::Other, |(_, _, inner)| Ahead::Inner(*inner))
    }
}

#[cfg(test)]
mod tests;
