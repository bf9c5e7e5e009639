//! The configuration: anything gives a configuration that can be used or mistakes that can be read, and no panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::{Config, FilterConfig, Pool, Work};

/// A pool of more ranks takes long to make and is no other.
const MOST_RANKS_OF_A_POOL: usize = 16;

fuzz_target!(|json: &[u8]| {
    match FilterConfig::parse(json) {
        Ok(FilterConfig::Reader) => {}
        Ok(FilterConfig::Picker(pools)) => pools.iter().for_each(check),
        Err(errors) => {
            assert!(!errors.0.is_empty());
            assert!(!errors.to_string().is_empty());
        }
    }
});

fn check(config: &Config) {
    assert!(config.is_discovered() || !config.ranks().is_empty());
    assert!(config.ranks().len() <= 1024);
    assert!((64..=4096).contains(&config.block_bytes()));
    assert!(config.decide_after_bytes() >= 1024);
    assert!((2..=10_000).contains(&config.decide_after_idle_ms()));
    assert!(config.rank_capacity_blocks() > 0);
    assert!(!config.pool().is_empty());
    assert!(!config.to_string().is_empty());
    let highest = config.weights().cost(&Work {
        queued_tokens: u64::MAX,
        uncached_tokens: u64::MAX,
        miss_weight: config.weights().miss_weight.unwrap_or(100.0),
        held_tokens: u64::MAX,
        in_use: 1.0,
        in_flight: u32::MAX,
    });
    assert!(highest.total_seconds().is_finite());
    if (1..=MOST_RANKS_OF_A_POOL).contains(&config.ranks().len()) {
        let pick = Pool::new(config.clone())
            .pick(None, 7, 0)
            .expect("there is a rank");
        assert!(config.ranks().contains(&pick.ranks[0]));
    }
}
