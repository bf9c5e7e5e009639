use super::*;

const A: RankId = RankId(0);
const B: RankId = RankId(1);

fn index(capacity_blocks: u32) -> PrefixIndex {
    let mut index = PrefixIndex::new(1000);
    index.set_capacity(A, capacity_blocks);
    index.set_capacity(B, capacity_blocks);
    index
}

/// Blocks of one size.
fn sent(hashes: &[u64]) -> Vec<SentBlock> {
    let blocks = (0..).zip(hashes).map(|(start, hash)| SentBlock {
        chain_hash: *hash,
        start,
    });
    blocks.collect()
}

fn insert(index: &mut PrefixIndex, rank: RankId, hashes: &[u64]) {
    index.insert(rank, &sent(hashes));
}

fn depths(index: &mut PrefixIndex, blocks: &[u64]) -> Vec<u32> {
    let mut depths = Vec::new();
    index.match_depths(blocks.iter().copied(), &mut depths);
    depths
}

/// A prompt of which the rank held so many blocks before.
fn taken(hashes: &[u64], held: u32, aged_blocks: u32) -> TakenBack {
    TakenBack {
        blocks: sent(hashes),
        held,
        aged_blocks,
    }
}

#[test]
fn each_rank_matches_what_it_was_sent() {
    let mut index = index(100);
    insert(&mut index, A, &[1, 2, 3]);
    insert(&mut index, B, &[1, 2, 9]);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4]), [3, 2]);
    assert_eq!(depths(&mut index, &[7, 2, 3]), [0, 0]);
}

#[test]
fn a_rank_keeps_what_it_held_before_a_prompt_that_is_taken_back_and_nothing_else_of_it() {
    let mut index = index(100);
    insert(&mut index, A, &[1, 2, 3]);
    insert(&mut index, B, &[1, 2, 3]);
    index.take_back(A, &taken(&[1, 2, 3], 1, 0));
    index.take_back(A, &taken(&[77], 0, 0));
    assert_eq!(depths(&mut index, &[1, 2, 3]), [1, 3]);
    index.take_back(B, &taken(&[2, 3], 0, 0));
    assert_eq!(
        (depths(&mut index, &[1, 2, 3]), index.len()),
        (vec![1, 1], 1)
    );
    insert(&mut index, A, &[1, 2, 3]);
    assert_eq!(depths(&mut index, &[1, 2, 3]), [3, 1]);
}

#[test]
fn a_prompt_that_is_taken_back_leaves_the_others_as_young_as_they_were() {
    let mut index = index(10);
    insert(&mut index, A, &[1, 2, 3]);
    let large: Vec<u64> = (100..110).collect();
    let inserted = index.insert(A, &sent(&large));
    assert_eq!(
        depths(&mut index, &[1, 2, 3])[0],
        0,
        "there was room for one of both"
    );
    index.take_back(A, &taken(&large, 0, inserted.aged_blocks));
    assert_eq!(depths(&mut index, &[1, 2, 3])[0], 3);
    assert_eq!(depths(&mut index, &large)[0], 0);
    assert_eq!(index.len(), 3, "nothing of it is kept");
}

#[test]
fn what_is_sent_while_a_prompt_is_taken_back_stays() {
    let mut index = index(20);
    let refused: Vec<u64> = (100..115).collect();
    let inserted = index.insert(A, &sent(&refused));
    insert(&mut index, A, &[1, 2, 3]);
    index.take_back(A, &taken(&refused, 0, inserted.aged_blocks));
    assert_eq!(depths(&mut index, &[1, 2, 3])[0], 3);
    insert(&mut index, A, &[1, 2, 3, 4]);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4])[0], 4);
}

#[test]
fn taking_back_what_was_told_keeps_other_prompts_with_the_same_start() {
    let mut index = index(100);
    index.tell(A, &sent(&[1, 2, 7, 8]), 4);
    index.tell(A, &sent(&[1, 2, 9]), 1);
    index.take_back(A, &taken(&[1, 2, 7, 8], 2, 4));
    assert_eq!(depths(&mut index, &[1, 2, 9])[0], 3);
    assert_eq!(depths(&mut index, &[1, 2, 7, 8])[0], 2);
    assert_eq!(index.clocks[0].inserted, 1);
}

#[test]
fn a_rank_over_its_capacity_loses_leaves_before_roots() {
    let mut index = index(4);
    insert(&mut index, A, &[1, 2, 3]);
    insert(&mut index, A, &[11, 12]);
    assert_eq!(depths(&mut index, &[1, 2, 3]), [2, 0]);
    assert_eq!(depths(&mut index, &[11, 12]), [2, 0]);
}

#[test]
fn a_prompt_larger_than_the_cache_keeps_its_start() {
    let mut index = index(3);
    insert(&mut index, A, &[1, 2, 3, 4, 5]);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4, 5]), [3, 0]);
    assert_eq!(index.len(), 3);
}

#[test]
fn use_keeps_blocks_alive() {
    let mut index = index(5);
    insert(&mut index, A, &[1, 2]);
    insert(&mut index, A, &[5, 6]);
    insert(&mut index, A, &[7]);
    insert(&mut index, A, &[1, 2]);
    insert(&mut index, A, &[8, 9, 10]);
    assert_eq!(depths(&mut index, &[1, 2]), [2, 0]);
    assert_eq!(depths(&mut index, &[5, 6]), [0, 0]);
}

#[test]
fn using_the_youngest_again_does_not_make_other_blocks_older() {
    let mut index = index(4);
    insert(&mut index, A, &[1, 2]);
    insert(&mut index, A, &[5, 6]);
    (0..100).for_each(|_| insert(&mut index, A, &[5, 6]));
    assert_eq!(depths(&mut index, &[1, 2]), [2, 0]);
}

#[test]
fn using_an_old_block_again_makes_others_older_by_its_share_of_the_cache() {
    let mut index = index(100);
    insert(&mut index, A, &(0..40).collect::<Vec<u64>>());
    insert(&mut index, A, &(100..140).collect::<Vec<u64>>());
    assert_eq!(index.clocks[0].inserted, 80);
    // Each of 40 blocks becomes younger by 40 of 100.
    let again = index.insert(A, &sent(&(0..40).collect::<Vec<u64>>()));
    assert_eq!((again.young, again.aged_blocks), (0, 16));
    assert_eq!(index.clocks[0].inserted, 96);
}

#[test]
fn uses_in_the_older_half_of_a_full_cache_are_counted() {
    let mut index = index(100);
    let early = sent(&(0..20).collect::<Vec<u64>>());
    let filled = |index: &mut PrefixIndex, from: u64, count: u64| {
        insert(index, A, &(from..from + count).collect::<Vec<u64>>());
    };
    index.insert(A, &early);
    filled(&mut index, 1000, 79);
    let before = index.insert(A, &early);
    assert_eq!(
        (before.old_blocks, before.blocks),
        (0, 20),
        "99 of 100 blocks: nothing goes"
    );
    filled(&mut index, 2000, 40);
    assert_eq!(index.insert(A, &early).old_blocks, 0, "in the younger half");
    filled(&mut index, 3000, 60);
    assert_eq!(index.insert(A, &early).old_blocks, 20);
    index.forget(A);
    index.insert(A, &early);
    filled(&mut index, 4000, 60);
    assert_eq!(
        index.insert(A, &early).old_blocks,
        0,
        "a cold cache has room"
    );
}

/// Conversations that grow by some blocks a turn, dropped at times, through an index and through a cache that
/// drops the least recently used block, the last of a prompt first. Gives the blocks that each matched.
fn matched_by_index_and_by_cache(capacity: usize, sessions: u64, seed: u64) -> (u32, u32) {
    let mut index = index(u32::try_from(capacity).unwrap());
    let mut cache: Vec<u64> = Vec::new();
    let mut lengths = vec![0u64; usize::try_from(sessions).unwrap()];
    let (mut by_index, mut by_cache) = (0, 0);
    let mut dice = seed;
    for turn in 0..1200 {
        dice = crate::chain(dice, turn);
        let session = dice % sessions;
        let length = &mut lengths[usize::try_from(session).unwrap()];
        *length = if dice.is_multiple_of(31) {
            2
        } else {
            *length + 1 + dice / 64 % 5
        };
        let epoch = if *length == 2 { turn << 32 } else { 0 };
        let prompt: Vec<u64> = (0..*length)
            .map(|place| session << 16 | place | epoch)
            .collect();
        by_index += depths(&mut index, &prompt)[0];
        let held = prompt
            .iter()
            .take_while(|block| cache.contains(block))
            .count();
        by_cache += u32::try_from(held).unwrap();
        insert(&mut index, A, &prompt);
        for block in prompt.iter().rev() {
            cache.retain(|held| held != block);
            cache.push(*block);
        }
        cache.drain(..cache.len().saturating_sub(capacity));
    }
    (by_index, by_cache)
}

#[test]
fn the_index_matches_as_much_as_a_cache_of_that_size_would() {
    for (capacity, sessions) in [(300, 4), (300, 8), (300, 16), (1000, 20), (1000, 60)] {
        let (index, cache) = matched_by_index_and_by_cache(capacity, sessions, 7);
        let share = f64::from(index) / f64::from(cache);
        assert!(
            (0.85..1.1).contains(&share),
            "{index}, not {cache} blocks with {sessions} sessions in {capacity}"
        );
    }
}

#[test]
fn a_prompt_that_was_used_again_still_loses_its_leaves_first() {
    let mut index = index(4);
    insert(&mut index, A, &[1, 2, 3]);
    insert(&mut index, A, &[1, 2, 3]);
    insert(&mut index, A, &[11, 12]);
    assert_eq!(depths(&mut index, &[1, 2, 3]), [2, 0]);
}

#[test]
fn a_conversation_that_grows_never_matches_more_than_the_cache_holds() {
    let mut index = index(4);
    for turn in 1..=6 {
        let blocks: Vec<u64> = (1..=2 * turn).collect();
        insert(&mut index, A, &blocks);
        assert!(
            depths(&mut index, &blocks)[0] <= 4,
            "{} of 4 blocks in turn {turn}",
            depths(&mut index, &blocks)[0]
        );
    }
}

#[test]
fn a_forgotten_rank_holds_nothing_and_learns_anew() {
    let mut index = index(10);
    insert(&mut index, A, &[1, 2]);
    insert(&mut index, B, &[1, 2]);
    index.forget(A);
    assert_eq!(depths(&mut index, &[1, 2]), [0, 2]);
    insert(&mut index, A, &[1]);
    assert_eq!(depths(&mut index, &[1, 2]), [1, 2]);
}

#[test]
fn an_unknown_rank_is_ignored() {
    let mut index = index(10);
    insert(&mut index, RankId(9), &[1]);
    index.forget(RankId(9));
    assert!(index.is_empty());
}

#[test]
fn memory_is_bounded_though_every_block_is_alive() {
    let mut index = PrefixIndex::new(50);
    index.set_capacity(A, 1_000_000);
    for start in 0..100u64 {
        let blocks: Vec<u64> = (start * 10..start * 10 + 10).collect();
        insert(&mut index, A, &blocks);
        assert!(index.len() <= 50);
    }
    assert_eq!(depths(&mut index, &[990, 991]), [2]);
}

#[test]
fn dead_blocks_are_swept() {
    let mut index = PrefixIndex::new(100_000);
    index.set_capacity(A, 10);
    for hash in 0..10_000u64 {
        insert(&mut index, A, &[hash]);
    }
    assert!(
        index.len() < 100,
        "{} blocks in memory, 10 of them alive",
        index.len()
    );
}

#[test]
fn a_forgotten_rank_stays_cold_when_its_capacity_grows() {
    let mut index = index(10);
    insert(&mut index, A, &[1, 2]);
    index.forget(A);
    index.set_capacity(A, 1_000_000);
    assert_eq!(depths(&mut index, &[1, 2]), [0, 0]);
    insert(&mut index, A, &[3]);
    assert_eq!(depths(&mut index, &[3]), [1, 0]);
}

#[test]
fn a_rank_forgotten_many_times_stays_cold() {
    let mut index = index(u32::MAX / 2);
    insert(&mut index, A, &[1, 2]);
    for times in 1..9 {
        index.forget(A);
        assert_eq!(
            depths(&mut index, &[1, 2]),
            [0, 0],
            "forgotten {times} times"
        );
    }
}

#[test]
fn less_capacity_drops_the_oldest() {
    let mut index = index(10);
    insert(&mut index, A, &[1, 2, 3]);
    insert(&mut index, A, &[5, 6, 7]);
    index.set_capacity(A, 4);
    assert_eq!(depths(&mut index, &[1, 2, 3]), [1, 0]);
    assert_eq!(depths(&mut index, &[5, 6, 7]), [3, 0]);
    index.set_capacity(A, 0);
    assert_eq!(depths(&mut index, &[5, 6, 7]), [0, 0]);
}

#[test]
fn a_rank_matches_only_up_to_its_first_gap() {
    let mut index = index(10);
    insert(&mut index, A, &[1, 2, 3, 4]);
    insert(&mut index, B, &[2, 3]);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4]), [4, 0]);
    insert(&mut index, B, &[4]);
    insert(&mut index, B, &[1]);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4]), [4, 4]);
    index.forget(B);
    insert(&mut index, B, &[1, 2]);
    insert(&mut index, B, &[4]);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4]), [4, 2]);
    assert_eq!(depths(&mut index, &[9, 1, 2]), [0, 0]);
}

#[test]
fn nothing_is_matched_by_an_empty_prompt_and_in_an_empty_index() {
    let mut index = index(10);
    assert_eq!(depths(&mut index, &[1]), [0, 0]);
    insert(&mut index, A, &[]);
    assert_eq!(depths(&mut index, &[]), [0, 0]);
    assert_eq!((index.len(), index.is_empty()), (0, true));
    assert!(depths(&mut PrefixIndex::new(0), &[1]).is_empty());
}

#[test]
fn blocks_that_another_rank_holds_need_no_room() {
    let mut index = PrefixIndex::new(4);
    index.set_capacity(A, 100);
    index.set_capacity(B, 100);
    insert(&mut index, A, &[1, 2, 3, 4]);
    insert(&mut index, B, &[1, 2, 3, 4]);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4]), [4, 4]);
}

#[test]
fn a_full_index_evicts_the_leaves_of_the_oldest_prompt() {
    let mut index = PrefixIndex::new(16);
    index.set_capacity(A, 1000);
    insert(&mut index, A, &[1, 2, 3, 4, 5, 6, 7, 8]);
    insert(&mut index, A, &[11, 12, 13, 14, 15, 16, 17, 18]);
    insert(&mut index, A, &[21, 22, 23, 24]);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4, 5, 6, 7, 8]), [4]);
    assert_eq!(depths(&mut index, &[11, 12, 13, 14, 15, 16, 17, 18]), [8]);
    assert_eq!(depths(&mut index, &[21, 22, 23, 24]), [4]);
}

#[test]
fn blocks_whose_hashes_differ_in_one_bit_are_told_apart() {
    let mut index = index(1000);
    insert(&mut index, A, &[0]);
    insert(&mut index, B, &[u64::MAX]);
    (0..64).for_each(|bit| assert_eq!(depths(&mut index, &[1 << bit]), [0, 0]));
    assert_eq!(depths(&mut index, &[0]), [1, 0]);
    assert_eq!(depths(&mut index, &[u64::MAX]), [0, 1]);
}

#[test]
fn the_clock_may_wrap() {
    let mut index = index(4);
    index.clocks[0].inserted = u32::MAX - 2;
    insert(&mut index, A, &[1, 2]);
    insert(&mut index, A, &[5, 6, 7]);
    assert_eq!(depths(&mut index, &[1, 2]), [1, 0]);
    assert_eq!(depths(&mut index, &[5, 6, 7]), [3, 0]);
}

#[test]
fn a_holder_is_as_small_as_the_memory_of_the_index_assumes() {
    assert_eq!(size_of::<Holder>(), 8);
}

#[test]
fn what_was_used_a_moment_ago_is_left_as_it_is() {
    let mut index = index(160);
    let long: Vec<u64> = (0..20).collect();
    assert_eq!(index.insert(A, &sent(&long)).young, 0);
    assert_eq!(index.insert(A, &sent(&long)).young, 20);
    insert(&mut index, A, &(100..110).collect::<Vec<u64>>());
    assert_eq!(
        index.insert(A, &sent(&long)).young,
        20,
        "ten of 160 blocks later"
    );
    insert(&mut index, A, &[110]);
    assert_eq!(
        index.insert(A, &sent(&long)).young,
        1,
        "eleven of 160 blocks later all but the first, which is touched always"
    );
    assert_eq!(index.insert(A, &sent(&long)).young, 20);
}

#[test]
fn the_rest_of_a_prompt_whose_start_is_young_makes_the_same_index() {
    let (mut whole, mut rest) = (index(160), index(160));
    let turns = [0..20, 0..30, 0..45]
        .map(|hashes: std::ops::Range<u64>| sent(&hashes.collect::<Vec<u64>>()));
    for turn in &turns {
        let young = whole.insert(A, turn).young;
        rest.insert(A, &turn[young..]);
        let asked: Vec<u64> = (0..50).collect();
        assert_eq!(depths(&mut whole, &asked), depths(&mut rest, &asked));
        assert_eq!(whole.clocks[0].inserted, rest.clocks[0].inserted);
    }
    // In the last turn 20 blocks become younger by 25 and 10 by 15, of 160: 4 more than the 45 that are new.
    assert_eq!(whole.clocks[0].inserted, 49);
}

#[test]
fn large_blocks_take_more_of_a_rank_than_small_ones() {
    let mut index = index(1000);
    let blocks = [(1, 0), (2, 1), (3, 2), (4, 4), (5, 8)]
        .map(|(chain_hash, start)| SentBlock { chain_hash, start });
    index.insert(A, &blocks);
    assert_eq!(index.clocks[0].inserted, 12);
    index.insert(A, &blocks[..3]);
    assert_eq!(index.clocks[0].inserted, 12);
}

#[test]
fn what_was_told_is_matched_like_what_was_sent_here() {
    let mut index = index(160);
    index.tell(A, &sent(&[1, 2, 3]), 3);
    assert!(index.is_empty());
    assert_eq!(depths(&mut index, &[1, 2, 3, 4]), [3, 0]);
    // The next turn was told from its first new block on.
    let turn = sent(&[1, 2, 3, 4, 5]);
    index.tell(A, &turn[3..], 2);
    assert_eq!(depths(&mut index, &[1, 2, 3, 4, 5, 6]), [5, 0]);
    assert_eq!(index.clocks[0].inserted, 5);
    insert(&mut index, A, &[1, 2, 3, 4, 5]);
    assert_eq!(index.clocks[0].inserted, 5);
}

#[test]
fn a_told_prompt_of_a_rank_is_found_behind_blocks_that_another_holds() {
    let mut index = index(160);
    insert(&mut index, A, &[1, 2, 3]);
    index.tell(B, &sent(&[1, 2]), 2);
    assert_eq!(depths(&mut index, &[1, 2, 3]), [3, 2]);
}

#[test]
fn a_told_prompt_ages_like_any_other_though_nobody_asked() {
    let mut index = index(4);
    index.tell(A, &sent(&[1, 2, 3]), 3);
    insert(&mut index, A, &[11, 12]);
    assert_eq!(depths(&mut index, &[1, 2, 3]), [2, 0]);
    index.tell(A, &sent(&[21, 22]), 2);
    index.forget(A);
    assert_eq!(depths(&mut index, &[21, 22]), [0, 0]);
}

#[test]
fn a_told_prompt_makes_the_rank_older_by_what_was_told() {
    let mut index = index(160);
    index.tell(A, &sent(&[1, 2, 3, 4, 5]), 2);
    assert_eq!(index.clocks[0].inserted, 2);
    index.tell(A, &sent(&[1, 2, 3]), 0);
    assert_eq!(index.clocks[0].inserted, 2);
}

#[test]
fn a_prompt_that_was_told_and_never_got_to_its_rank_is_not_matched() {
    let mut index = index(160);
    index.tell(A, &sent(&[1, 2, 3]), 3);
    index.take_back(A, &taken(&[1, 2, 3], 0, 3));
    assert_eq!(depths(&mut index, &[1, 2, 3]), [0, 0]);
}

#[test]
fn told_prompts_take_bounded_memory() {
    let mut index = PrefixIndex::new(1000);
    index.set_capacity(A, 1_000_000);
    for start in 0..1000u64 {
        let blocks: Vec<u64> = (start * 10..start * 10 + 10).collect();
        index.tell(A, &sent(&blocks), 10);
    }
    assert_eq!(depths(&mut index, &[9490]), [0]);
    assert_eq!(depths(&mut index, &[9500, 9501]), [2]);
}

#[test]
fn a_young_root_does_not_go_before_its_new_leaf() {
    let mut index = PrefixIndex::new(2);
    index.set_capacity(A, 32);
    insert(&mut index, A, &[1]);
    insert(&mut index, A, &[1, 2, 3]);
    assert!(depths(&mut index, &[1])[0] == 1);
}

#[test]
fn blocks_are_as_old_as_what_their_rank_was_sent_since() {
    let mut index = index(100);
    let known = |index: &mut PrefixIndex, hashes: &[u64]| index.insert(A, &sent(hashes)).ages;
    assert!(known(&mut index, &[1, 2]).is_empty());
    insert(&mut index, A, &[10, 11, 12]);
    insert(&mut index, B, &[20; 9]);
    assert_eq!(known(&mut index, &[1, 2, 3, 4]), [3, 3]);
    insert(&mut index, A, &(30..60).collect::<Vec<u64>>());
    // The first block is touched always; the second had gained too little to be.
    assert_eq!(known(&mut index, &[1, 2, 3, 4, 5]), [30, 35, 30, 30]);
}

#[test]
fn blocks_that_were_lost_for_want_of_room_are_known_until_as_much_again_has_come() {
    let mut index = index(10);
    insert(&mut index, A, &[1, 2]);
    insert(&mut index, A, &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    assert_eq!(depths(&mut index, &[1, 2]), [0, 0]);
    assert_eq!(index.insert(A, &sent(&[1, 2])).ages, [10, 10]);
    for hash in 100..200 {
        insert(&mut index, A, &[hash]);
    }
    assert!(index.insert(A, &sent(&[1, 2])).ages.is_empty());
}

#[test]
fn what_was_used_within_an_eighth_of_the_room_is_surely_held() {
    let mut index = index(80);
    insert(&mut index, A, &[1, 2]);
    assert!(index.holds_surely(A, 2) && !index.holds_surely(B, 2));
    insert(&mut index, A, &[10, 11, 12, 13, 14, 15, 16, 17]);
    assert!(index.holds_surely(A, 1) && !index.holds_surely(A, 3));
    insert(&mut index, A, &[20, 21, 22]);
    assert!(!index.holds_surely(A, 1));
    assert_eq!(depths(&mut index, &[1, 2]), [2, 0], "held, but not surely");
}

#[test]
fn of_a_rank_that_was_forgotten_no_age_is_known() {
    let mut index = index(10);
    insert(&mut index, A, &[1, 2]);
    index.forget(A);
    assert!(index.insert(A, &sent(&[1, 2])).ages.is_empty());
}

#[test]
fn blocks_made_to_go_to_one_place_are_spread() {
    // All in the first of the index's 304 tables and all at its first place, were hashes taken as they are.
    let blocks: Vec<u64> = (0..40_000u64).map(|number| (304 * number) << 32).collect();
    for secret in [1, 2, 0x5EC2_E75E_C2E7] {
        let mut index = PrefixIndex::keyed(1_000_000, secret);
        index.set_capacity(A, 1_000_000);
        for prompt in blocks.chunks(1000) {
            insert(&mut index, A, prompt);
        }
        assert_eq!(index.len(), 40_000);
        let fullest = index.slots.fullest_table();
        assert!(fullest < 2 * 40_000 / 304, "{fullest} blocks in one table");
    }
}

#[test]
fn an_index_matches_the_same_whatever_its_secret() {
    for secret in [0, 1, u64::MAX] {
        let mut index = PrefixIndex::keyed(1000, secret);
        index.set_capacity(A, 1000);
        insert(&mut index, A, &[11, 12, 13]);
        assert_eq!(depths(&mut index, &[11, 12, 14]), [2]);
    }
}
