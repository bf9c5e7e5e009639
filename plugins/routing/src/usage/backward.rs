//! Finds `usage` in the end of a JSON object, reading backwards.
//!
//! From the end of an object it is certain what is a string and what is not, though the beginning is not there: a quote
//! that closes or opens a string has an even number of backslashes before it, one inside a string an odd number. So
//! `"usage"` in a text is never taken for a key. Bytes that cannot be JSON outside of a string end the search: the object
//! was cut at its end, or is none.

/// Where a search stands: in a text whose end was read.
#[derive(Debug, Default)]
struct Search<'a> {
    /// Containers open, seen from the end.
    depth: usize,
    /// Whether the container at depth 2 is an object.
    is_object: bool,
    /// What follows the colon that was read last, if nothing but white space was read since.
    after_colon: Option<&'a [u8]>,
    /// The value of `usage` in an object inside the object.
    inner: Option<&'a [u8]>,
    /// Whether that object has been left, and its name comes next.
    awaits_name: bool,
    /// Whether its name was good.
    is_named: bool,
}

/// What was found out by reading one token.
enum Step<'a> {
    /// This much is left to read.
    On(&'a [u8]),
    /// The beginning of the text lies inside of this token.
    Start,
    Found(&'a [u8]),
    /// No JSON.
    Broken,
}

/// What follows the key `usage` of an object, or of its member `response` or `message`, of which this is the end; `is_cut`
/// says that the beginning may be missing.
pub(super) fn find_usage(text: &[u8], is_cut: bool) -> Option<&[u8]> {
    let mut rest = text.trim_ascii_end();
    rest.ends_with(b"}").then_some(())?;
    let mut search = Search::default();
    loop {
        match search.step(text, rest) {
            Step::On(left) => rest = left,
            Step::Found(value) => return Some(value),
            Step::Start if is_cut => return search.inner,
            Step::Start | Step::Broken => return None,
        }
        if search.depth == 0 {
            return search.inner.filter(|_| rest.trim_ascii().is_empty());
        }
    }
}

impl<'a> Search<'a> {
    /// Reads the last token of `rest`, the part of `text` that was not read.
    fn step(&mut self, text: &'a [u8], rest: &'a [u8]) -> Step<'a> {
        let rest = rest.trim_ascii_end();
        let Some((last, before)) = rest.split_last() else {
            return Step::Start;
        };
        let after_colon = self.after_colon.take();
        match last {
            b':' => self.after_colon = text.get(rest.len()..),
            b',' => {}
            b'}' | b']' => self.enter(*last),
            b'{' | b'[' => self.leave(*last),
            b'"' => return self.string(before, after_colon),
            _ => return scalar(rest),
        }
        Step::On(before)
    }

    fn enter(&mut self, end: u8) {
        self.depth = self.depth.saturating_add(1);
        if self.depth == 2 {
            self.is_object = end == b'}';
        }
    }

    fn leave(&mut self, start: u8) {
        let is_unnamed = self.inner.is_some() && !self.is_named;
        self.awaits_name |= self.depth == 2 && start == b'{' && is_unnamed;
        self.depth = self.depth.saturating_sub(1);
    }

    /// Reads a string whose closing quote stands behind `before`; with a value behind it, it is a key.
    fn string(&mut self, before: &'a [u8], value: Option<&'a [u8]>) -> Step<'a> {
        let escapes = backslashes(before);
        if !escapes.is_multiple_of(2) {
            // One backslash more may stand before the beginning.
            return match escapes == before.len() {
                true => Step::Start,
                false => Step::Broken,
            };
        }
        let Some((left, string)) = opened(before) else {
            return Step::Start;
        };
        if let Some(value) = value {
            if self.depth == 1 && string == b"usage" {
                return Step::Found(value);
            }
            self.note_key(string, value);
        }
        Step::On(left)
    }

    fn note_key(&mut self, key: &[u8], value: &'a [u8]) {
        if self.depth == 2 && self.is_object && self.inner.is_none() && key == b"usage" {
            self.inner = Some(value);
        }
        if self.depth == 1 && std::mem::take(&mut self.awaits_name) {
            self.is_named = key == b"response" || key == b"message";
            self.inner = self.inner.filter(|_| self.is_named);
        }
    }
}

/// What stands before the string that `text` ends with, and the string, both without its opening quote.
fn opened(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = text.len();
    while let Some(quote) = memchr::memrchr(b'"', text.get(..end)?) {
        let before = text.get(..quote)?;
        if backslashes(before).is_multiple_of(2) {
            return Some((before, text.get(quote.saturating_add(1)..)?));
        }
        end = quote;
    }
    None
}

fn backslashes(text: &[u8]) -> usize {
    text.iter().rev().take_while(|byte| **byte == b'\\').count()
}

/// Reads back over a number, `true`, `false` or `null`.
fn scalar(rest: &[u8]) -> Step<'_> {
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let bytes = rest.iter().rev().take_while(is_part).count();
    let start = rest.len().saturating_sub(bytes);
    let Some((left, word)) = rest.split_at_checked(start) else {
        return Step::Broken;
    };
    let is_number = |word: &[u8]| {
        let in_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        word.last().is_some_and(u8::is_ascii_digit) && word.iter().all(in_number)
    };
    if left.is_empty() && !word.is_empty() {
        Step::Start
    } else if matches!(word, b"true" | b"false" | b"null") || is_number(word) {
        Step::On(left)
    } else {
        Step::Broken
    }
}
