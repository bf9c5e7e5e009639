//! The memory that all VMs of one Envoy see, as far as it is needed here.

/// What stands under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The bytes; empty where nothing was ever stored.
    pub bytes: Vec<u8>,
    /// Changes with each store; `None` where nothing was ever stored.
    pub version: Option<u32>,
}

/// Shared data of Envoy, and a number for each slot that is cheap to look at.
///
/// Envoy's shared data costs 0.8 to 3.4 us to get, whatever is in it, and 0.2 to 0.7 us to set; a metric costs 0.1 us
/// each way. So a reader looks at a metric first, and gets data only when it moved.
pub trait SharedMemory {
    /// What stands under a key.
    fn get(&self, key: &str) -> Stored;

    /// Stores bytes; with a version only if that is still the version, else false.
    fn set(&self, key: &str, bytes: &[u8], version: Option<u32>) -> bool;

    /// A number that changes when `slot` has told something.
    fn told(&mut self, slot: u16) -> u64;

    /// Changes that number.
    fn tell(&mut self, slot: u16);
}
