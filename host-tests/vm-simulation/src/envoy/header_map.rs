//! Headers, and the form in which they pass the border to the module.

/// Headers in their order; names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderMap(Vec<(Vec<u8>, Vec<u8>)>);

impl HeaderMap {
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let mut map = Self::default();
        for (name, value) in pairs {
            map.add(name.as_bytes(), value.as_bytes());
        }
        map
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first value of a header: Envoy gives no other.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let name = name.to_ascii_lowercase();
        let found = self.0.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.as_slice())
    }

    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(key, _)| *key != name);
    }

    pub(crate) fn replace(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// Count, then lengths of each name and value, then names and values each with a zero byte; all little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut bytes = word(self.0.len()).to_vec();
        for (name, value) in &self.0 {
            bytes.extend(word(name.len()));
            bytes.extend(word(value.len()));
        }
        for (name, value) in &self.0 {
            bytes.extend([name, b"\0".as_slice(), value, b"\0"].concat());
        }
        bytes
    }

    /// Reads what [`Self::encode`] writes. Empty when it is something else.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (count, mut lengths) = take_word(bytes)?;
        let mut text = lengths.get(count.checked_mul(8)?..)?;
        let mut map = Self::default();
        for _ in 0..count {
            let (name_length, rest) = take_word(lengths)?;
            let (value_length, rest) = take_word(rest)?;
            lengths = rest;
            map.add(
                text.get(..name_length)?,
                text.get(name_length + 1..)?.get(..value_length)?,
            );
            text = text.get(name_length + value_length + 2..)?;
        }
        Some(map)
    }
}

fn word(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("headers are short")
        .to_le_bytes()
}

fn take_word(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*word)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_the_first_value_wins() {
        let mut map = HeaderMap::of(&[("A", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(map.get(b"a"), Some(b"1".as_slice()));
        map.replace(b"A", b"4");
        assert_eq!(map.get(b"a"), Some(b"4".as_slice()));
        assert_eq!(map.len(), 2);
        map.remove(b"a");
        assert_eq!(map.get(b"A"), None);
    }

    #[test]
    fn what_is_written_is_read() {
        for pairs in [
            &[("a", "1"), ("bb", ""), ("c", "333")][..],
            &[("", "")],
            &[],
        ] {
            let map = HeaderMap::of(pairs);
            assert_eq!(HeaderMap::decode(&map.encode()), map);
        }
        let bytes = HeaderMap::of(&[("a", "1")]).encode();
        assert_eq!(bytes, b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\x001\0");
        for cut in 0..bytes.len() {
            assert_eq!(HeaderMap::decode(&bytes[..cut]), HeaderMap::default());
        }
    }
}
