//! Shared data: values under keys for all VMs, each with a version.
//!
//! As in Envoy: versions come from one counter for all keys; a version that does not match is refused, but an absent key
//! takes any; nothing is ever removed.

use std::collections::BTreeMap;

use proxy_wasm::types::Status;

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    version: u32,
    /// The module wrote here at some time: the key is one of those it must keep few.
    is_ours: bool,
    /// The value at hand is ours, and counts.
    is_own_value: bool,
}

/// All keys and values.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    entries: BTreeMap<Vec<u8>, Entry>,
    last_version: u32,
    own_bytes: usize,
    own_keys: usize,
}

impl SharedData {
    pub(crate) fn get(&self, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        let entry = self.entries.get(key).ok_or(Status::NotFound)?;
        Ok((entry.value.clone(), entry.version))
    }

    /// The module writes; version 0 overwrites whatever is there.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], version: u32) -> Result<(), Status> {
        let newest = self.entries.get(key).map(|entry| entry.version);
        if version != 0 && newest.is_some_and(|newest| newest != version) {
            return Err(Status::CasMismatch);
        }
        self.write(key, value, true);
        Ok(())
    }

    /// Another plugin writes.
    pub(crate) fn set_by_another(&mut self, key: &[u8], value: &[u8]) {
        self.write(key, value, false);
    }

    /// Another plugin writes what is there already.
    pub(crate) fn touch_by_another(&mut self, key: &[u8]) {
        self.last_version += 1;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.version = self.last_version;
        }
    }

    fn write(&mut self, key: &[u8], value: &[u8], is_own_value: bool) {
        self.last_version += 1;
        let was_ours = match self.entries.get(key) {
            Some(entry) => {
                let counted = if entry.is_own_value {
                    entry.value.len()
                } else {
                    0
                };
                self.own_bytes -= counted;
                entry.is_ours
            }
            None => false,
        };
        if is_own_value {
            self.own_bytes += value.len();
            self.own_keys += usize::from(!was_ours);
        }
        let entry = Entry {
            value: value.to_vec(),
            version: self.last_version,
            is_ours: was_ours || is_own_value,
            is_own_value,
        };
        self.entries.insert(key.to_vec(), entry);
    }

    /// Keys that the module ever wrote.
    pub(crate) fn own_keys(&self) -> usize {
        self.own_keys
    }

    /// Bytes of the values that the module wrote.
    pub(crate) fn own_bytes(&self) -> usize {
        self.own_bytes
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.entries.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_over_only_at_its_version() {
        let mut data = SharedData::default();
        assert_eq!(data.get(b"k"), Err(Status::NotFound));
        assert_eq!(
            data.set(b"k", b"one", 77),
            Ok(()),
            "an absent key takes any"
        );
        let (value, version) = data.get(b"k").unwrap();
        assert_eq!(value, b"one");
        assert_eq!(
            data.set(b"k", b"two", version + 1),
            Err(Status::CasMismatch)
        );
        assert_eq!(data.set(b"k", b"two", version), Ok(()));
        assert_eq!(data.set(b"k", b"three", version), Err(Status::CasMismatch));
        assert_eq!(data.set(b"k", b"four", 0), Ok(()));
        assert_eq!(data.get(b"k").unwrap().0, b"four");
        data.touch_by_another(b"k");
        let newest = data.get(b"k").unwrap().1;
        assert_eq!(
            data.set(b"k", b"five", newest - 1),
            Err(Status::CasMismatch)
        );
        assert_eq!(data.set(b"k", b"five", newest), Ok(()));
    }

    #[test]
    fn only_what_the_module_wrote_counts() {
        let mut data = SharedData::default();
        data.set_by_another(b"theirs", &[0; 100]);
        assert_eq!((data.own_keys(), data.own_bytes()), (0, 0));
        data.set(b"ours", &[0; 8], 0).unwrap();
        data.set(b"theirs", &[0; 4], 0).unwrap();
        assert_eq!((data.own_keys(), data.own_bytes()), (2, 12));
        data.set_by_another(b"ours", &[0; 100]);
        assert_eq!((data.own_keys(), data.own_bytes()), (2, 4));
        data.set(b"ours", &[0; 6], 0).unwrap();
        assert_eq!((data.own_keys(), data.own_bytes()), (2, 10));
    }
}
