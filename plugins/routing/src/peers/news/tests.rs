use super::*;
use proptest::prelude::*;

const KEY: RankKey = RankKey { pool: 3, rank: 4 };

fn load(queued_tokens: u64, held_tokens: u64, in_flight: u32) -> RankLoad {
    RankLoad {
        queued_tokens,
        held_tokens,
        in_flight,
        incomplete: in_flight / 2,
    }
}

fn written() -> Vec<u8> {
    let mut bytes = Vec::new();
    write_told(&mut bytes, 5_000_000);
    let totals = Totals {
        held: 1,
        in_flight: 2,
        incomplete: 1,
        queued_tokens: 3,
    };
    write_totals(&mut bytes, totals);
    write_load(&mut bytes, KEY, load(700, 9000, 5));
    let blocks = [(11, 0), (12, 1)].map(|(chain_hash, start)| SentBlock { chain_hash, start });
    write_prompt(&mut bytes, KEY, 900, 6, &blocks);
    let span = Span {
        from_ms: 1000,
        to_ms: 1030,
    };
    write_taken_back(&mut bytes, KEY, 950, 6, 1, &blocks);
    write_doubted(&mut bytes, KEY);
    write_delivered(&mut bytes, KEY, 77);
    write_forgotten(&mut bytes, KEY, 900);
    write_capacity(&mut bytes, KEY, 896);
    write_failed(&mut bytes, KEY, 2, span);
    write_answered(&mut bytes, KEY, span, true);
    write_standing(&mut bytes, KEY, &[7; Spell::BYTES]);
    bytes
}

fn shown(bytes: &[u8]) -> Vec<String> {
    let mut wire = Wire(bytes);
    let events = std::iter::from_fn(|| read(&mut wire));
    events
        .map(|event| match event {
            News::Prompt {
                key,
                at_ms,
                aged_blocks,
                blocks,
            } => format!(
                "{} at {at_ms} from {aged_blocks} {:?}",
                key.rank,
                blocks
                    .iter()
                    .map(|b| (b.chain_hash, b.start))
                    .collect::<Vec<_>>()
            ),
            News::Told { at_us } => format!("told {at_us}"),
            News::Totals(t) => format!(
                "{} {} {} {}",
                t.held, t.in_flight, t.incomplete, t.queued_tokens
            ),
            News::Load { key, load } => format!(
                "{} {} {} {} {} {}",
                key.pool,
                key.rank,
                load.queued_tokens,
                load.held_tokens,
                load.in_flight,
                load.incomplete
            ),
            News::TakenBack {
                key,
                at_ms,
                aged_blocks,
                held,
                blocks,
            } => format!(
                "{} took {aged_blocks} back at {at_ms} behind {held} of {}",
                key.rank,
                blocks.iter().count()
            ),
            News::Doubted { key } => format!("{} doubted", key.rank),
            News::Delivered { key, kind } => format!("{} delivered {kind}", key.rank),
            News::Forgotten { key, at_ms } => format!("{} forgotten {at_ms}", key.rank),
            News::Capacity { key, share } => format!("{} has {share}", key.rank),
            News::Failed { code, span, .. } => {
                format!("failed {code} {} {}", span.from_ms, span.to_ms)
            }
            News::Standing { spell, .. } => format!("standing {}", spell[0]),
            News::Answered {
                span, is_streamed, ..
            } => {
                format!("answered {} {} {is_streamed}", span.from_ms, span.to_ms)
            }
        })
        .collect()
}

const ALL: [&str; 12] = [
    "told 5000000",
    "1 2 1 3",
    "3 4 700 9000 5 2",
    "4 at 900 from 6 [(11, 0), (12, 1)]",
    "4 took 6 back at 950 behind 1 of 2",
    "4 doubted",
    "4 delivered 77",
    "4 forgotten 900",
    "4 has 896",
    "failed 2 1000 1030",
    "answered 1000 1030 true",
    "standing 7",
];

#[test]
fn events_are_read_as_they_were_written() {
    assert_eq!(shown(&written()), ALL);
}

#[test]
fn events_that_are_cut_anywhere_are_read_up_to_the_cut() {
    let bytes = written();
    let mut seen = 0;
    for end in 0..bytes.len() {
        let events = shown(&bytes[..end]);
        assert_eq!(events, ALL[..events.len()]);
        assert!(events.len() >= seen);
        seen = events.len();
    }
    assert_eq!(seen, ALL.len() - 1);
}

#[test]
fn an_event_never_holds_more_blocks_than_its_limit() {
    let block = SentBlock {
        chain_hash: 1,
        start: 2,
    };
    let mut bytes = Vec::new();
    write_prompt(&mut bytes, KEY, 0, 0, &vec![block; BLOCKS_PER_EVENT + 9]);
    let Some(News::Prompt { blocks, .. }) = read(&mut Wire(&bytes)) else {
        panic!("no prompt")
    };
    assert_eq!(blocks.iter().count(), BLOCKS_PER_EVENT);
}

#[test]
fn counts_that_no_worker_has_are_not_read() {
    for (load, is_read) in [
        (load(MOST_TOKENS, MOST_TOKENS, MOST_REQUESTS), true),
        (load(MOST_TOKENS + 1, 1, 1), false),
        (load(1, MOST_TOKENS + 1, 1), false),
        (load(1, 1, MOST_REQUESTS + 1), false),
    ] {
        let mut bytes = Vec::new();
        write_load(&mut bytes, KEY, load);
        assert_eq!(read(&mut Wire(&bytes)).is_some(), is_read);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(shown(&bytes).len() <= bytes.len());
    }
}
