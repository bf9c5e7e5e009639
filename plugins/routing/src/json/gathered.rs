//! Gathers short parts of a string into longer ones.
//!
//! Code and prose in JSON have an escape every thirty bytes or so. A call for each run between them would cost more than
//! its bytes, so runs are copied, eight bytes at a time, until there are enough.

use super::part_unless_empty;

/// Bytes gathered before they are handed out.
const GATHERED_BYTES: usize = 1024;
const WORD_BYTES: usize = 8;

const ONES: u64 = u64::from_ne_bytes([1; WORD_BYTES]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; WORD_BYTES]);

/// Bytes on their way to one longer part. The last word may be written past the limit.
pub(super) struct Gathered {
    bytes: [u8; GATHERED_BYTES + WORD_BYTES],
    filled: usize,
}

impl Default for Gathered {
    fn default() -> Self {
        Self {
            bytes: [0; GATHERED_BYTES + WORD_BYTES],
            filled: 0,
        }
    }
}

impl Gathered {
    /// Takes bytes up to a quote, a backslash or the end; gives how many.
    pub(super) fn run(&mut self, bytes: &[u8], part: &mut impl FnMut(&[u8])) -> usize {
        let mut used = 0usize;
        let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
        for word in words {
            let taken = plain_bytes(*word);
            self.word(*word, taken, part);
            used = used.saturating_add(taken);
            if taken < WORD_BYTES {
                return used;
            }
        }
        for byte in rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\')) {
            self.push(*byte, part);
            used = used.saturating_add(1);
        }
        used
    }

    /// Takes one byte.
    pub(super) fn push(&mut self, byte: u8, part: &mut impl FnMut(&[u8])) {
        self.word([byte; WORD_BYTES], 1, part);
    }

    /// Hands out what there is.
    pub(super) fn flush(&mut self, part: &mut impl FnMut(&[u8])) {
        let filled = std::mem::take(&mut self.filled);
        part_unless_empty(self.bytes.get(..filled).unwrap_or_default(), part);
    }

    /// Takes the first `taken` bytes of a word; copying all of it is one instruction.
    fn word(&mut self, word: [u8; WORD_BYTES], taken: usize, part: &mut impl FnMut(&[u8])) {
        if self.filled >= GATHERED_BYTES {
            self.flush(part);
        }
        let free = self.bytes.get_mut(self.filled..).unwrap_or_default();
        if let Some(free) = free.first_chunk_mut::<WORD_BYTES>() {
            *free = word;
            self.filled = self.filled.saturating_add(taken);
        }
    }
}

/// How many bytes of a word stand before its first quote or backslash.
///
/// Exact for the first: a byte that equals becomes zero, and a zero below borrows into higher bytes only
/// ("Bit Twiddling Hacks", Sean Eron Anderson, "Determine if a word has a zero byte").
fn plain_bytes(word: [u8; WORD_BYTES]) -> usize {
    let word = u64::from_le_bytes(word);
    let zeros = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes & HIGH_BITS;
    let repeated = |byte: u8| u64::from_ne_bytes([byte; WORD_BYTES]);
    let found = zeros(word ^ repeated(b'"')) | zeros(word ^ repeated(b'\\'));
    usize::try_from(found.trailing_zeros() >> 3).unwrap_or(WORD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(bytes: &[u8]) -> (usize, Vec<u8>) {
        let mut all = Vec::new();
        let mut gathered = Gathered::default();
        let used = gathered.run(bytes, &mut |part: &[u8]| all.extend_from_slice(part));
        gathered.flush(&mut |part: &[u8]| all.extend_from_slice(part));
        (used, all)
    }

    #[test]
    fn a_run_ends_before_the_first_quote_or_backslash_wherever_it_is() {
        for end in [b'"', b'\\'] {
            for place in 0..40 {
                let mut bytes = vec![b'a'; 40];
                bytes[place] = end;
                bytes.push(end);
                assert_eq!(gathered(&bytes), (place, vec![b'a'; place]));
            }
        }
    }

    #[test]
    fn every_other_byte_is_plain() {
        for byte in (0..=255).filter(|byte| !matches!(byte, b'"' | b'\\')) {
            let bytes = [byte; 21];
            assert_eq!(gathered(&bytes), (21, bytes.to_vec()), "{byte}");
            let mut followed = bytes.to_vec();
            followed.insert(3, b'"');
            assert_eq!(gathered(&followed), (3, vec![byte; 3]), "{byte}");
        }
    }

    #[test]
    fn long_runs_are_handed_out_in_order() {
        let bytes: Vec<u8> = (0..10_000u32)
            .map(|number| b'a' + u8::try_from(number % 26).unwrap())
            .collect();
        assert_eq!(gathered(&bytes), (bytes.len(), bytes));
    }
}
