use super::*;
use crate::hash_bytes;

fn stream(parts: &[&[u8]]) -> BlockStream {
    let mut stream = BlockStream::new(4);
    parts.iter().for_each(|part| stream.push(part));
    stream
}

#[test]
fn blocks_do_not_depend_on_where_the_parts_were_cut() {
    let bytes = b"abcdefghijklmnopqr";
    let whole = stream(&[bytes]);
    let ends: Vec<u32> = whole.blocks().iter().map(|block| block.end_bytes).collect();
    assert_eq!(ends, [4, 8, 12, 16]);
    for at in 0..bytes.len() {
        let cut = stream(&[&bytes[..at], &bytes[at..]]);
        assert_eq!(cut.blocks(), whole.blocks(), "cut at {at}");
        assert_eq!(cut.tail(), whole.tail());
    }
}

#[test]
fn a_seed_changes_blocks_words_and_the_rest() {
    let cut = |seed: u64, word: u64| {
        let mut stream = BlockStream::new(4).seeded(seed);
        stream.push(b"abcdef");
        stream.fold(0, word);
        (stream.blocks()[0].hash, stream.tail())
    };
    assert_eq!(cut(0, 9), {
        let mut stream = stream(&[b"abcdef"]);
        stream.fold(0, 9);
        (stream.blocks()[0].hash, stream.tail())
    });
    let [(plain, plain_tail), (one, one_tail), (two, two_tail)] =
        [0, 1, 2].map(|seed| cut(seed, 9));
    assert!(plain != one && one != two && plain_tail != one_tail && one_tail != two_tail);
    // What a word adds depends on the seed.
    assert_ne!(one.wrapping_sub(cut(1, 8).0), 1);
    assert_eq!(plain.wrapping_sub(cut(0, 8).0), 1);
}

#[test]
fn a_word_folds_the_same_into_a_block_whole_or_in_hand() {
    let mut early = stream(&[b"ab"]);
    early.fold(0, 9);
    early.push(b"cd");
    let mut late = stream(&[b"abcd"]);
    late.fold(0, 9);
    assert_eq!(early.blocks(), late.blocks());
    assert_ne!(early.blocks(), stream(&[b"abcd"]).blocks());
}

#[test]
fn the_number_of_blocks_is_bounded_but_bytes_are_counted() {
    // Eight sizes, each twice the one before.
    let most = 4 * BLOCKS_OF_ONE_SIZE * 255;
    let long = vec![b'a'; most + 99];
    let stream = stream(&[&long]);
    assert_eq!(
        stream.blocks().last().unwrap().end_bytes,
        u32::try_from(most).unwrap()
    );
    assert_eq!(stream.blocks().len(), MAX_BLOCKS);
    assert_eq!(stream.prompt_bytes(), u64::try_from(long.len()).unwrap());
    assert_eq!(stream.tail(), None);
}

#[test]
fn blocks_double_after_each_512_of_one_size() {
    let stream = stream(&[&[b'a'; 4 * 512 + 8 * 512 + 16]]);
    let ends: Vec<u32> = stream
        .blocks()
        .iter()
        .map(|block| block.end_bytes)
        .collect();
    assert_eq!(ends[510..514], [2044, 2048, 2056, 2064]);
    assert_eq!(ends[1022..], [6136, 6144, 6160]);
}

#[test]
fn a_million_tokens_fit_the_budget_of_blocks() {
    let mut stream = BlockStream::new(256);
    let text = vec![b'a'; 4_000_000];
    stream.push(&text);
    assert!(stream.blocks().len() < MAX_BLOCKS);
    let last = stream.blocks().last().unwrap().end_bytes;
    assert!(last > 3_980_000, "the last whole block ends at {last}");
}

#[test]
fn an_empty_stream_has_no_block_and_no_tail() {
    let stream = stream(&[b""]);
    assert_eq!(
        (
            stream.blocks(),
            stream.tail(),
            stream.prompt_bytes(),
            stream.position()
        ),
        (&[][..], None, 0, 0)
    );
}

#[test]
fn weight_counts_up_to_the_block_it_came_before() {
    let mut stream = stream(&[b"abcd"]);
    stream.weigh(100);
    stream.push(b"efgh");
    let ends: Vec<u32> = stream
        .blocks()
        .iter()
        .map(|block| block.end_bytes)
        .collect();
    assert_eq!((ends, stream.prompt_bytes()), (vec![4, 108], 108));
}

#[test]
fn the_order_of_words_in_a_block_does_not_matter_and_their_block_does() {
    let folded = |words: [(usize, u64); 2]| {
        let mut stream = stream(&[b"abcdefgh"]);
        words
            .into_iter()
            .for_each(|(position, word)| stream.fold(position, word));
        stream.blocks().to_vec()
    };
    assert_eq!(folded([(0, 1), (0, 2)]), folded([(0, 2), (0, 1)]));
    assert_ne!(folded([(0, 1), (1, 2)]), folded([(0, 2), (1, 1)]));
}

#[test]
fn forgetting_leaves_the_blocks_before_or_nothing() {
    let mut stream = stream(&[b"abcdefghij"]);
    stream.truncate(1);
    assert_eq!(stream.blocks().len(), 1);
    stream.fold(1, 7);
    stream.restart();
    stream.push(b"abcd");
    assert_eq!(stream.blocks(), self::stream(&[b"abcd"]).blocks());
    assert_eq!(stream.prompt_bytes(), 4);
}

#[test]
fn a_block_size_of_nothing_is_one_byte() {
    let mut stream = BlockStream::new(0);
    stream.push(b"abc");
    assert_eq!(stream.blocks().len(), 3);
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What a stream is asked to do.
    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        /// Folds a word into the block in which the next byte will be.
        Fold(u64),
        Weigh(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => vec(any::<u8>(), 0..20).prop_map(Step::Push),
            1 => any::<u64>().prop_map(Step::Fold),
            1 => (0u64..1000).prop_map(Step::Weigh),
        ];
        vec(step, 0..12)
    }

    /// The blocks and the tail, made from the whole text.
    fn cut(steps: &[Step], block_bytes: usize) -> (Vec<RawBlock>, Option<u64>) {
        let (mut text, mut folds, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push(part) => text.extend_from_slice(part),
                Step::Fold(word) => folds.push((text.len() / block_bytes, *word)),
                Step::Weigh(bytes) => weights.push((text.len(), *bytes)),
            }
        }
        let word = |block: usize| {
            folds
                .iter()
                .filter(|fold| fold.0 == block)
                .fold(0u64, |sum, fold| sum.wrapping_add(fold.1))
        };
        let mut blocks = Vec::new();
        let mut tail = None;
        for (number, bytes) in text.chunks(block_bytes).enumerate() {
            let hash = hash_bytes(bytes).wrapping_add(word(number));
            let end = number * block_bytes + bytes.len();
            let weight: u64 = weights
                .iter()
                .filter(|weight| weight.0 < end)
                .map(|weight| weight.1)
                .sum();
            if bytes.len() == block_bytes {
                let end_bytes = u32::try_from(end).unwrap() + u32::try_from(weight).unwrap();
                blocks.push(RawBlock { hash, end_bytes });
            } else {
                tail = Some(hash);
            }
        }
        (blocks, tail)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn streaming_gives_what_cutting_the_whole_text_gives(steps in steps(), block_bytes in 1usize..17) {
            let mut stream = BlockStream::new(block_bytes);
            for step in &steps {
                match step {
                    Step::Push(part) => stream.push(part),
                    Step::Fold(word) => stream.fold(stream.position(), *word),
                    Step::Weigh(bytes) => stream.weigh(*bytes),
                }
            }
            let (blocks, tail) = cut(&steps, block_bytes);
            prop_assert_eq!(stream.blocks(), &blocks[..]);
            prop_assert_eq!(stream.tail(), tail);
        }
    }
}
