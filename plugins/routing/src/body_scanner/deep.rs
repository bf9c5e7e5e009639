//! Passes over a container that is deeper than what is kept track of.
//!
//! Only brackets are counted and strings passed over: in JSON that is right no more is needed to find the end, and JSON
//! that is not right nobody reads.

/// A container, from its opening bracket to the one that closes it.
#[derive(Clone, Debug, Default)]
pub(super) struct DeepValue {
    open: u64,
    bytes: u64,
    in_string: bool,
    is_escaped: bool,
}

impl DeepValue {
    /// Passes over bytes up to the end of the container; gives how many.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0usize;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            used = used.saturating_add(if self.in_string {
                self.string(rest)
            } else {
                self.structure(rest)
            });
            if self.open == 0 {
                break;
            }
        }
        let used_bytes = u64::try_from(used).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(used_bytes);
        used
    }

    /// Whether the end has been passed.
    pub(super) fn is_closed(&self) -> bool {
        self.bytes > 0 && self.open == 0
    }

    /// Bytes passed over.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn string(&mut self, bytes: &[u8]) -> usize {
        if std::mem::take(&mut self.is_escaped) {
            return 1;
        }
        let Some(run_bytes) = memchr::memchr2(b'"', b'\\', bytes) else {
            return bytes.len();
        };
        self.is_escaped = bytes.get(run_bytes) == Some(&b'\\');
        self.in_string = self.is_escaped;
        run_bytes.saturating_add(1)
    }

    fn structure(&mut self, bytes: &[u8]) -> usize {
        match bytes.first() {
            Some(b'"') => self.in_string = true,
            Some(b'{' | b'[') => self.open = self.open.saturating_add(1),
            Some(b'}' | b']') => self.open = self.open.saturating_sub(1),
            _ => {}
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(pieces: &[&[u8]]) -> (bool, u64) {
        let mut deep = DeepValue::default();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            if !deep.is_closed() {
                deep.skip(piece);
            }
        }
        (deep.is_closed(), deep.bytes())
    }

    #[test]
    fn a_container_ends_with_its_own_bracket_wherever_it_is_split() {
        let value = br#"[{"]":"}\"]\\"},[["\\"]],"{"]"#;
        let with_more = [&value[..], b",1]}"].concat();
        for split in 0..with_more.len() {
            let (one, two) = with_more.split_at(split);
            assert_eq!(
                skipped(&[one, two]),
                (true, value.len() as u64),
                "split at {split}"
            );
        }
    }

    #[test]
    fn a_container_that_is_not_closed_has_no_end() {
        assert_eq!(skipped(&[b"[[\"]]\"]"]), (false, 7));
    }
}
