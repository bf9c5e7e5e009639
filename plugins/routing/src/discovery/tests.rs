use proptest::prelude::*;

use super::*;

fn globs(patterns: &[&str]) -> Vec<Glob> {
    let parsed = patterns.iter().map(|pattern| Glob::parse(pattern));
    parsed.collect::<Option<_>>().unwrap()
}

/// So many patterns, of which no two fit into one narrow question.
fn long(count: usize) -> Vec<Glob> {
    let names = (0..count).map(|number| format!("{number:0>60}"));
    names.map(|name| Glob::parse(&name).unwrap()).collect()
}

fn dump(cluster: &str, addresses: &[&str]) -> Vec<u8> {
    let endpoint = |address: &&str| {
        format!(
            r#"{{"endpoint":{{"address":{{"socket_address":{{"address":"{address}","port_value":8000}}}}}}}}"#
        )
    };
    let endpoints: Vec<String> = addresses.iter().map(endpoint).collect();
    let endpoints = endpoints.join(",");
    format!(
        r#"{{"configs":[{{"endpoint_config":{{"cluster_name":"{cluster}","endpoints":[{{"lb_endpoints":[{endpoints}]}}]}}}}]}}"#
    )
    .into_bytes()
}

/// Asks what is due, and answers all of it with this.
fn round(discovery: &mut Discovery, answer: Result<&[u8], NoAnswer>, now_ms: u64) -> Vec<Answered> {
    let due = discovery.due(now_ms);
    due.iter().for_each(|(id, _)| discovery.asked(*id, now_ms));
    let answers = due.iter();
    answers
        .map(|(id, _)| discovery.answered(*id, answer, now_ms))
        .collect()
}

#[test]
fn endpoints_are_there_once_every_question_was_answered() {
    let mut discovery = Discovery::new(&globs(&["pool"]));
    let due = discovery.due(0);
    assert_eq!(due.len(), 2, "both tables");
    due.iter().for_each(|(id, _)| discovery.asked(*id, 0));
    assert!(discovery.due(1).is_empty());
    let body = dump("pool", &["10.0.0.1", "10.0.0.2"]);
    assert_eq!(discovery.answered(due[0].0, Ok(&body), 5), Answered::News);
    assert_eq!((discovery.found(), discovery.addresses()), (None, 0));
    assert_eq!(discovery.answered(due[1].0, Ok(b"{}"), 6), Answered::News);
    assert_eq!(discovery.found().unwrap().len(), 2);
    assert_eq!(discovery.addresses(), 2);
    assert!(discovery.due(999).is_empty());
    assert_eq!(discovery.due(1000).len(), 2);
}

#[test]
fn the_same_endpoints_are_no_news() {
    let mut discovery = Discovery::new(&globs(&["pool"]));
    let body = dump("pool", &["10.0.0.1", "10.0.0.2"]);
    assert_eq!(round(&mut discovery, Ok(&body), 0), [Answered::News; 2]);
    assert_eq!(round(&mut discovery, Ok(&body), 1000), [Answered::Same; 2]);
    let turned = dump("pool", &["10.0.0.2", "10.0.0.1"]);
    assert_eq!(
        round(&mut discovery, Ok(&turned), 2000),
        [Answered::Same; 2]
    );
}

#[test]
fn an_envoy_that_takes_no_large_expression_is_asked_by_small_ones() {
    let mut discovery = Discovery::new(&long(9));
    let due = discovery.due(0);
    assert_eq!(due.len(), 2);
    due.iter().for_each(|(id, _)| discovery.asked(*id, 0));
    let refused = Err(NoAnswer::Status(400));
    assert_eq!(discovery.answered(due[0].0, refused, 1), Answered::Same);
    // The second refusal is of a question that is no more.
    assert_eq!(discovery.answered(due[1].0, refused, 1), Answered::Same);
    let mut asked = 0;
    while discovery.found().is_none() {
        let due = discovery.due(2);
        assert!((1..=MOST_WAITING).contains(&due.len()));
        asked += due.len();
        round(&mut discovery, Ok(b"{}"), 2);
    }
    assert_eq!(asked, 18);
    // The reach stays when the patterns change.
    discovery.look_for(&long(3));
    assert_eq!(discovery.due(3).len(), 6);
    assert_eq!(round(&mut discovery, refused, 3), [Answered::Failed; 6]);
}

#[test]
fn many_questions_are_asked_less_often() {
    let mut discovery = Discovery::new(&long(64));
    round(&mut discovery, Err(NoAnswer::Status(400)), 0);
    let mut asked = 0;
    for now_ms in 0..40_000 {
        asked += round(&mut discovery, Ok(b"{}"), now_ms).len();
    }
    assert_eq!(asked, 128 * 5);
}

#[test]
fn a_question_whose_answer_was_lost_is_asked_again() {
    let mut discovery = Discovery::new(&globs(&["pool"]));
    let (id, _) = discovery.due(0)[0].clone();
    discovery.asked(id, 0);
    assert_eq!(discovery.due(LOST_AFTER_MS).len(), 1, "the other one");
    assert_eq!(discovery.due(LOST_AFTER_MS + 1).len(), 2);
}

#[test]
fn answers_that_fail_to_come_are_told_once_and_again_when_they_had_come_meanwhile() {
    let mut discovery = Discovery::new(&globs(&["pool"]));
    let body = dump("pool", &["10.0.0.1"]);
    round(&mut discovery, Ok(&body), 0);
    for start_ms in [1000, 100_000] {
        let mut told = Vec::new();
        for second in 0..30 {
            let now_ms = start_ms + second * 1000;
            let answered = round(&mut discovery, Err(NoAnswer::None), now_ms);
            assert_eq!(answered, [Answered::Failed; 2]);
            told.extend(
                discovery
                    .news_of_trouble(now_ms)
                    .map(|trouble| (second, trouble)),
            );
        }
        assert_eq!(told, [(10, Trouble::NoAnswers(NoAnswer::None))]);
        assert_eq!(discovery.found().unwrap().len(), 2, "what was known stays");
        round(&mut discovery, Ok(&body), start_ms + 31_000);
        assert_eq!(discovery.news_of_trouble(start_ms + 31_000), None);
    }
}

#[test]
fn patterns_that_match_no_cluster_are_told_once() {
    let mut discovery = Discovery::new(&globs(&["misspelt"]));
    let mut told = Vec::new();
    for second in 0..30 {
        round(&mut discovery, Ok(&dump("pool", &[])), second * 1000);
        told.extend(discovery.news_of_trouble(second * 1000));
    }
    assert_eq!(told, [Trouble::NoCluster]);
}

#[test]
fn addresses_that_a_dump_leaves_out_count() {
    let mut discovery = Discovery::new(&globs(&["pool"]));
    let addresses: Vec<String> = (0..1100)
        .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
        .collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let due = discovery.due(0);
    discovery.answered(due[0].0, Ok(&dump("pool", &addresses)), 0);
    discovery.answered(due[1].0, Ok(b"{}"), 0);
    assert_eq!(discovery.found().unwrap().len(), 1024);
    assert_eq!(discovery.addresses(), 1100);
}

proptest! {
    /// Whatever comes in whatever order, at whatever times: no more wait than may, and nothing is taken of earlier questions.
    #[test]
    fn no_more_questions_wait_than_may(
        steps in proptest::collection::vec((0u8..4, 0u64..3000, 0usize..200), 0..200),
    ) {
        let mut discovery = Discovery::new(&long(64));
        let (mut now_ms, mut waiting) = (0, Vec::new());
        for (step, later_ms, which) in steps {
            now_ms += later_ms;
            match step {
                0 => for (id, _) in discovery.due(now_ms) {
                    discovery.asked(id, now_ms);
                    waiting.push(id);
                },
                1 => if !waiting.is_empty() {
                    let id = waiting.swap_remove(which % waiting.len());
                    discovery.answered(id, Err(NoAnswer::Status(400)), now_ms);
                },
                2 => if !waiting.is_empty() {
                    let id = waiting.swap_remove(which % waiting.len());
                    discovery.answered(id, Ok(b"{}"), now_ms);
                },
                _ => discovery.look_for(&long(which % 65)),
            }
            let is_waiting = |one: &&Question| one.is_waiting(now_ms);
            prop_assert!(discovery.questions.iter().filter(is_waiting).count() <= MOST_WAITING);
        }
    }
}
