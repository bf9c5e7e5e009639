//! Lines of a page that comes in pieces.

use memchr::memchr;

/// Longer lines are left out. The longest that matters, `vllm:cache_config_info` of vLLM 0.25.1, has 822 bytes.
pub(super) const MAX_LINE_BYTES: usize = 4096;

/// Puts lines together and hands each out once, without its line feed.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The start of the line that the last piece broke off.
    carried: Vec<u8>,
    /// Whether that line is too long already.
    is_overlong: bool,
}

impl Lines {
    pub(super) fn feed(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        while let Some((line, rest)) = memchr(b'\n', bytes).and_then(|end| cut(bytes, end)) {
            self.end_line(line, sink);
            bytes = rest;
        }
        self.carry(bytes);
    }

    /// Ends the last line.
    pub(super) fn finish(mut self, sink: &mut impl FnMut(&[u8])) {
        self.end_line(b"", sink);
    }

    fn end_line(&mut self, line: &[u8], sink: &mut impl FnMut(&[u8])) {
        let is_whole = self.carried.is_empty() && !self.is_overlong;
        if is_whole && line.len() <= MAX_LINE_BYTES {
            return sink(line);
        }
        self.carry(line);
        if !self.is_overlong {
            sink(&self.carried);
        }
        self.carried.clear();
        self.is_overlong = false;
    }

    fn carry(&mut self, part: &[u8]) {
        let bytes = self.carried.len().saturating_add(part.len());
        self.is_overlong |= bytes > MAX_LINE_BYTES;
        if self.is_overlong {
            self.carried.clear();
        } else {
            self.carried.extend_from_slice(part);
        }
    }
}

/// What is before and behind the line feed at `end`.
fn cut(bytes: &[u8], end: usize) -> Option<(&[u8], &[u8])> {
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, &mut |line| out.push(line.to_vec()));
        }
        lines.finish(&mut |line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn any_split_gives_the_same_lines() {
        let page = b"one\n\ntwo\r\nthree";
        let expected: [&[u8]; 4] = [b"one", b"", b"two\r", b"three"];
        for first in 0..=page.len() {
            for second in first..=page.len() {
                let pieces = [&page[..first], &page[first..second], &page[second..]];
                assert_eq!(lines(pieces), expected, "{first} {second}");
            }
        }
    }

    #[test]
    fn a_line_feed_at_the_end_leaves_an_empty_line() {
        assert_eq!(lines([&b"one\n"[..]]), [&b"one"[..], b""]);
    }

    #[test]
    fn only_a_line_beyond_the_limit_is_left_out_however_it_is_split() {
        let longest = vec![b'a'; MAX_LINE_BYTES];
        let longer = vec![b'b'; MAX_LINE_BYTES + 1];
        let page = [&longest[..], &longer, b"c"].join(&b'\n');
        for piece in [1, 7, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, page.len()] {
            assert_eq!(lines(page.chunks(piece)), [&longest[..], b"c"], "{piece}");
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            lines.feed(&[b'x'; 1000], &mut |_| panic!("a line came"));
            assert!(lines.carried.capacity() <= 2 * MAX_LINE_BYTES);
        }
        lines.finish(&mut |_| panic!("a line came"));
    }
}
