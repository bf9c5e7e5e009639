//! A table as bytes, for one worker to write and the others to read.
//!
//! A version, the number of ranks (two bytes), then for each rank, by rising hash: the hash (eight bytes), flags (two), a
//! few numbers as varints, and the fields that are known. All of it is little-endian. About 60 bytes a rank, 128 at most,
//! so a table of 1,024 ranks is a shared value of some 60 KB. There is one way to write a table, so equal tables are equal
//! bytes and other bytes are refused.

mod rank_bytes;
mod varint;

use std::fmt;

use super::ReportTable;
use crate::config::MAX_RANKS;
use rank_bytes::{push_rank, read_rank};
use varint::Reader;

/// Changes with the layout: workers of two builds must not misread each other.
const VERSION: u8 = 1;
/// Hash, flags, and three varints of a byte.
const SMALLEST_RANK_BYTES: usize = 13;
/// What most ranks need; room for it is made at once.
const USUAL_RANK_BYTES: usize = 64;

/// Why bytes are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportsError {
    /// They begin with another version, or are empty.
    Version,
    /// They break off.
    Truncated,
    /// Something stands behind the last rank.
    Trailing,
    /// A table is not written like this.
    Malformed,
}

impl fmt::Display for ReportsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "reports of another version",
            Self::Truncated => "reports that break off",
            Self::Trailing => "bytes behind the reports",
            Self::Malformed => "malformed reports",
        })
    }
}

impl std::error::Error for ReportsError {}

impl ReportTable {
    /// Writes the table. Cost: linear in the ranks.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len().saturating_mul(USUAL_RANK_BYTES));
        out.push(VERSION);
        let ranks = u16::try_from(self.len()).unwrap_or(u16::MAX);
        out.extend(ranks.to_le_bytes());
        for (address_hash, rank) in self.iter() {
            out.extend(address_hash.to_le_bytes());
            push_rank(&mut out, rank);
        }
        out
    }

    /// Reads a table back; the same as was written, but for a `kv_usage` that is no share, which becomes unknown.
    ///
    /// # Errors
    ///
    /// Whatever [`encode`](Self::encode) cannot have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReportsError> {
        let (version, rest) = bytes.split_first().ok_or(ReportsError::Version)?;
        if *version != VERSION {
            return Err(ReportsError::Version);
        }
        let mut reader = Reader::new(rest);
        let ranks = usize::from(u16::from_le_bytes(reader.array()?));
        if ranks > MAX_RANKS {
            return Err(ReportsError::Malformed);
        }
        if ranks.saturating_mul(SMALLEST_RANK_BYTES) > reader.len() {
            return Err(ReportsError::Truncated);
        }
        let mut table = Self::default();
        for _ in 0..ranks {
            table.read_rank(&mut reader)?;
        }
        let is_whole = reader.len() == 0;
        is_whole.then_some(table).ok_or(ReportsError::Trailing)
    }

    fn read_rank(&mut self, reader: &mut Reader<'_>) -> Result<(), ReportsError> {
        let address_hash = u64::from_le_bytes(reader.array()?);
        let last = self.ranks.last_key_value();
        if last.is_some_and(|(last, _)| *last >= address_hash) {
            return Err(ReportsError::Malformed);
        }
        self.ranks.insert(address_hash, read_rank(reader)?);
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests;
