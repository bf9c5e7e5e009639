//! What it takes to bring keys and values from a prefill rank to a decode rank.

/// The speed of transfers, each as if it were alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Time before the first byte moves: posting the descriptors of all blocks.
    pub latency_ms: f64,
    /// Bytes a millisecond after that.
    pub bytes_per_ms: f64,
}

impl Transfer {
    /// What vLLM's own counters say of its NIXL connector in a run with three prefill servers and a decode server: means over
    /// 2,018 transfers of 167 MB, 38.7 ms each, of which posting took 6.7 (vllm-project/vllm#50913, 2026-08). 5.2 GB/s is a
    /// fraction of what networks carry; the many small blocks are what costs.
    pub const NIXL: Self = Self {
        latency_ms: 6.7,
        bytes_per_ms: 167e6 / (38.7 - 6.7),
    };

    /// Milliseconds for the keys and values of so many tokens; none for none.
    #[must_use]
    pub fn ms(&self, tokens: u64, kv_bytes_per_token: f64) -> f64 {
        if tokens == 0 {
            return 0.0;
        }
        self.latency_ms + tokens as f64 * kv_bytes_per_token / self.bytes_per_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_takes_its_latency_and_its_bytes() {
        let transfer = Transfer {
            latency_ms: 2.0,
            bytes_per_ms: 1000.0,
        };
        assert_eq!(transfer.ms(30, 500.0), 2.0 + 15.0);
        assert_eq!(transfer.ms(0, 500.0), 0.0, "nothing to fetch");
    }

    #[test]
    fn the_default_is_as_fast_as_published() {
        let ms = Transfer::NIXL.ms(1, 167e6);
        assert!((ms - 38.7).abs() < 1e-9, "{ms}");
    }
}
