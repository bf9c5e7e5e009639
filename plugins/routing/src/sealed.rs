//! Bytes that show whether they are what was written.
//!
//! Every plugin of the gateway can write into shared data. A list of ranks with one wrong byte would still be a list, of
//! ranks that do not exist.

use crate::hash_bytes;
use crate::wire::Wire;

/// Puts the hash of bytes before them.
#[must_use]
pub fn seal(bytes: &[u8]) -> Vec<u8> {
    [&hash_bytes(bytes).to_le_bytes()[..], bytes].concat()
}

/// The bytes behind their hash; `None` where they are not those that were sealed.
#[must_use]
pub fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let mut wire = Wire(sealed);
    let hash = wire.u64()?;
    (hash == hash_bytes(wire.0)).then_some(wire.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_is_unsealed() {
        for bytes in [&b""[..], b"a", b"a list of ranks"] {
            let sealed = seal(bytes);
            assert_eq!(unseal(&sealed), Some(bytes));
            for place in 0..sealed.len() {
                let mut spoilt = sealed.clone();
                spoilt[place] ^= 1;
                assert_eq!(unseal(&spoilt), None, "byte {place}");
                assert_eq!(unseal(&sealed[..place]), None, "cut at {place}");
            }
        }
    }
}
