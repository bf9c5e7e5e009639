//! What a process uses, as Linux tells.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// Of every Linux on x86_64; on others the figures are only good for comparison.
const PAGE_BYTES: u64 = 4096;

/// CPU time that the living threads of a process took so far, to the nanosecond.
///
/// # Errors
/// When the process has ended.
pub fn cpu_time(process: u32) -> Result<Duration> {
    let threads = PathBuf::from(format!("/proc/{process}/task"));
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(&threads).context("the process has ended")? {
        // A thread may end meanwhile; Envoy's workers do not.
        let Ok(line) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        nanoseconds += first_number(&line).context("no scheduler statistics")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Memory of a process that is in RAM.
///
/// # Errors
/// When the process has ended.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let line = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let (_, behind_size) = line.split_once(' ').context("no memory statistics")?;
    Ok(first_number(behind_size).context("no resident pages")? * PAGE_BYTES)
}

fn first_number(line: &str) -> Option<u64> {
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time_and_memory_is_resident_once_it_is_written() {
        let own = std::process::id();
        let (cpu, memory) = (cpu_time(own).unwrap(), resident_bytes(own).unwrap());
        let written = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(cpu_time(own).unwrap() > cpu);
        assert!(resident_bytes(own).unwrap() > memory + (32 << 20));
        drop(written);
    }
}
