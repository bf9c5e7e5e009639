//! The last bytes of what passes.

/// A ring of bytes that keeps the last ones.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    most_bytes: usize,
    ring: Vec<u8>,
    /// Where the oldest byte of a full ring is.
    start: usize,
    is_cut: bool,
}

impl Tail {
    /// Keeps `most_bytes`; takes memory as bytes come.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            ring: Vec::new(),
            start: 0,
            is_cut: false,
        }
    }

    /// Cost: a copy of the bytes that are kept.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let kept_from = bytes.len().saturating_sub(self.most_bytes);
        self.is_cut |= kept_from > 0;
        let kept = bytes.get(kept_from..).unwrap_or_default();
        let free = self.most_bytes.saturating_sub(self.ring.len());
        let (new, over) = kept.split_at_checked(free).unwrap_or((kept, &[]));
        self.ring.extend_from_slice(new);
        self.overwrite(over);
    }

    /// Whether earlier bytes are gone.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The bytes, oldest first.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let start = self.start.min(self.ring.len());
        self.ring.rotate_left(start);
        self.ring
    }

    /// Puts bytes in place of the oldest ones of a full ring.
    fn overwrite(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.is_cut = true;
            let old = self.ring.get_mut(self.start..).unwrap_or_default();
            let (fitting, rest) = bytes.split_at_checked(old.len()).unwrap_or((bytes, &[]));
            if let Some(old) = old.get_mut(..fitting.len()) {
                old.copy_from_slice(fitting);
            }
            let next = self.start.saturating_add(fitting.len());
            self.start = if next < self.ring.len() { next } else { 0 };
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_however_they_came() {
        let bytes: Vec<u8> = (0..=99).collect();
        for most in [1, 7, 99, 100, 101] {
            for piece in [1, 3, 7, 8, 50, 100] {
                let mut tail = Tail::new(most);
                bytes.chunks(piece).for_each(|bytes| tail.push(bytes));
                assert_eq!(tail.is_cut(), most < 100, "{most} of pieces of {piece}");
                assert_eq!(tail.into_bytes(), bytes[100 - most.min(100)..]);
            }
        }
    }

    #[test]
    fn nothing_is_kept_of_nothing() {
        let mut tail = Tail::new(4);
        tail.push(b"");
        assert!(!tail.is_cut());
        assert!(tail.into_bytes().is_empty());
    }
}
