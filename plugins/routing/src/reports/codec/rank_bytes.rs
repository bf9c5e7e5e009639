//! One rank of a table as bytes.

use super::ReportsError;
use super::varint::{Reader, push_varint};
use crate::Report;
use crate::reports::{Process, RankReport};

/// How many [`numbers`] there are; their flags are the lowest bits.
const NUMBERS: usize = 8;
const START_TIME: u16 = 1 << 3;
const PROMPT_TOKENS: u16 = 1 << 4;
const KV_USAGE: u16 = 1 << 8;
const IS_AWAKE_KNOWN: u16 = 1 << 9;
const IS_AWAKE: u16 = 1 << 10;
const TAKEN: u16 = 1 << 11;
/// The start time is an earlier page's.
const OLD_START_TIME: u16 = 1 << 12;
/// The counter of prompt tokens is an earlier page's.
const OLD_PROMPT_TOKENS: u16 = 1 << 13;
const BORN: u16 = 1 << 14;
const UNUSED: u16 = 1 << 15;
/// Flags that mean nothing without another one.
const NEEDS: [(u16, u16); 3] = [
    (IS_AWAKE, IS_AWAKE_KNOWN),
    (OLD_START_TIME, START_TIME),
    (OLD_PROMPT_TOKENS, PROMPT_TOKENS),
];

pub(super) fn push_rank(out: &mut Vec<u8>, rank: &RankReport) {
    let flags = flags(rank);
    out.extend(flags.to_le_bytes());
    push_varint(out, u64::from(rank.failures));
    push_varint(out, u64::from(rank.life));
    push_varint(out, rank.tried_ms);
    if let Some(taken_ms) = rank.taken_ms {
        // Mostly 0 or small. It wraps when a clock was set back.
        push_varint(out, rank.tried_ms.wrapping_sub(taken_ms));
    }
    if rank.born_ms > 0 {
        push_varint(out, rank.born_ms);
    }
    for number in numbers(rank).into_iter().flatten() {
        push_varint(out, number);
    }
    if let Some(kv_usage) = rank.report.kv_usage.filter(is_share) {
        out.extend(kv_usage.to_le_bytes());
    }
}

pub(super) fn read_rank(reader: &mut Reader<'_>) -> Result<RankReport, ReportsError> {
    let flags = u16::from_le_bytes(reader.array()?);
    if !is_possible(flags) {
        return Err(ReportsError::Malformed);
    }
    let (failures, life) = (reader.small_varint()?, reader.small_varint()?);
    let tried_ms = reader.varint()?;
    let tried_after_ms = read_if(flags & TAKEN != 0, || reader.varint())?;
    let born_ms = read_if(flags & BORN != 0, || reader.varint())?;
    if born_ms == Some(0) {
        return Err(ReportsError::Malformed);
    }
    let mut numbers = [None; NUMBERS];
    for (place, number) in numbers.iter_mut().enumerate() {
        *number = read_if(flags >> place & 1 != 0, || reader.varint())?;
    }
    let kv_usage = read_if(flags & KV_USAGE != 0, || read_share(reader))?;
    Ok(RankReport {
        report: report(flags, numbers, kv_usage)?,
        taken_ms: tried_after_ms.map(|after_ms| tried_ms.wrapping_sub(after_ms)),
        tried_ms,
        failures,
        life,
        born_ms: born_ms.unwrap_or(0),
        process: process(numbers),
    })
}

/// What is a number and may be unknown, in the order of the flags.
fn numbers(rank: &RankReport) -> [Option<u64>; NUMBERS] {
    let (report, process) = (&rank.report, &rank.process);
    [
        report.running.map(u64::from),
        report.waiting.map(u64::from),
        report.capacity_tokens,
        report.start_time_ms.or(process.start_time_ms),
        report.prompt_tokens_total.or(process.prompt_tokens_total),
        report.generation_tokens_total,
        report.prefix_queried_tokens_total,
        report.prefix_hit_tokens_total,
    ]
}

fn flags(rank: &RankReport) -> u16 {
    let (report, process) = (&rank.report, &rank.process);
    let is_old = |now: Option<u64>, kept: Option<u64>| now.is_none() && kept.is_some();
    let old_start_time = is_old(report.start_time_ms, process.start_time_ms);
    let old_prompt_tokens = is_old(report.prompt_tokens_total, process.prompt_tokens_total);
    let numbers = numbers(rank).into_iter().rev();
    let known = numbers.fold(0, |bits, number| bits << 1 | u16::from(number.is_some()));
    [
        (KV_USAGE, report.kv_usage.as_ref().is_some_and(is_share)),
        (IS_AWAKE_KNOWN, report.is_awake.is_some()),
        (IS_AWAKE, report.is_awake == Some(true)),
        (TAKEN, rank.taken_ms.is_some()),
        (BORN, rank.born_ms > 0),
        (OLD_START_TIME, old_start_time),
        (OLD_PROMPT_TOKENS, old_prompt_tokens),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .fold(known, |flags, (flag, _)| flags | flag)
}

fn is_possible(flags: u16) -> bool {
    let lacks = |(flag, needed): &(u16, u16)| flags & flag != 0 && flags & needed == 0;
    flags & UNUSED == 0 && !NEEDS.iter().any(lacks)
}

fn report(
    flags: u16,
    numbers: [Option<u64>; NUMBERS],
    kv_usage: Option<f64>,
) -> Result<Report, ReportsError> {
    let [
        running,
        waiting,
        capacity_tokens,
        start_time_ms,
        prompt_tokens_total,
        generation_tokens_total,
        prefix_queried_tokens_total,
        prefix_hit_tokens_total,
    ] = numbers;
    Ok(Report {
        running: requests(running)?,
        waiting: requests(waiting)?,
        kv_usage,
        capacity_tokens,
        start_time_ms: start_time_ms.filter(|_| flags & OLD_START_TIME == 0),
        prompt_tokens_total: prompt_tokens_total.filter(|_| flags & OLD_PROMPT_TOKENS == 0),
        generation_tokens_total,
        prefix_queried_tokens_total,
        prefix_hit_tokens_total,
        is_awake: (flags & IS_AWAKE_KNOWN != 0).then_some(flags & IS_AWAKE != 0),
    })
}

fn process(numbers: [Option<u64>; NUMBERS]) -> Process {
    let [_, _, _, start_time_ms, prompt_tokens_total, ..] = numbers;
    Process {
        start_time_ms,
        prompt_tokens_total,
    }
}

fn requests(number: Option<u64>) -> Result<Option<u32>, ReportsError> {
    number
        .map(|number| u32::try_from(number).map_err(|_| ReportsError::Malformed))
        .transpose()
}

fn read_share(reader: &mut Reader<'_>) -> Result<f64, ReportsError> {
    let share = f64::from_le_bytes(reader.array()?);
    is_share(&share)
        .then_some(share)
        .ok_or(ReportsError::Malformed)
}

/// -0 is none, so that there is one way to write 0.
fn is_share(value: &f64) -> bool {
    (0.0..=1.0).contains(value) && value.is_sign_positive()
}

fn read_if<T>(
    is_there: bool,
    read: impl FnOnce() -> Result<T, ReportsError>,
) -> Result<Option<T>, ReportsError> {
    is_there.then(read).transpose()
}
