//! Loopback addresses for pods, so that every test has its own.
//!
//! A pod's ranks have fixed ports, as on a real pod, so tests that run at the same time need different addresses. Linux
//! answers on all of 127.0.0.0/8.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Gives `count` addresses (up to 250 in a process) that no other test has: 127.x.y.z with x and y from the process
/// number.
#[must_use]
pub fn unused(count: u32) -> Vec<Ipv4Addr> {
    let first = NEXT.fetch_add(count, Ordering::Relaxed);
    (first..first + count).map(address).collect()
}

fn address(number: u32) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [_, _, _, last] = number.to_be_bytes();
    // 127.64 to 127.127: away from the addresses that demos and people use.
    Ipv4Addr::new(127, 64 | (high & 63), low, last)
}
