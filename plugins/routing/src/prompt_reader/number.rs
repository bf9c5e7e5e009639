//! A number that comes in pieces.

/// Longer than any token id is written.
const TEXT_BYTES: usize = 32;

/// The text of a number, in constant memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Number {
    text: [u8; TEXT_BYTES],
    bytes: usize,
}

impl Number {
    pub(super) fn push(&mut self, part: &[u8]) {
        let free = self.text.get_mut(self.bytes..).unwrap_or_default();
        for (to, from) in free.iter_mut().zip(part) {
            *to = *from;
        }
        self.bytes = self.bytes.saturating_add(part.len());
    }

    /// The token id, however it is spelt (`7`, `7.0`, `70e-1`), and starts anew; `None` for what is no whole number of 32
    /// bits.
    pub(super) fn take(&mut self) -> Option<u32> {
        let bytes = std::mem::take(&mut self.bytes);
        let text = std::str::from_utf8(self.text.get(..bytes)?).ok()?;
        if let Ok(id) = text.parse() {
            return Some(id);
        }
        let number: f64 = text.parse().ok()?;
        let is_id = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        is_id.then(|| format!("{number:.0}").parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_id_is_one_number_however_it_is_spelt() {
        let read = |text: &str| {
            let mut number = Number::default();
            text.as_bytes().chunks(2).for_each(|part| number.push(part));
            number.take()
        };
        for text in ["120", "120.0", "1.2e2", "12E1", "1200e-1"] {
            assert_eq!(read(text), Some(120), "{text}");
        }
        assert_eq!(read("4294967295"), Some(u32::MAX));
        for text in [
            "-1",
            "0.5",
            "4294967296",
            "true",
            "null",
            "NaN",
            "inf",
            "",
            &"1".repeat(40),
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn taking_starts_anew() {
        let mut number = Number::default();
        number.push(b"12");
        assert_eq!(number.take(), Some(12));
        number.push(b"3");
        assert_eq!(number.take(), Some(3));
    }
}
