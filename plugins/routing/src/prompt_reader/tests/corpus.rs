//! Real-shaped bodies of every endpoint, from `corpus`, at every split point.

use std::path::PathBuf;

use super::*;
use crate::Prefaces;

/// Bodies of an endpoint, with the names of their files.
fn corpus(endpoint: Endpoint) -> Vec<(String, Vec<u8>)> {
    files(endpoint.name())
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(folder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let mut bodies: Vec<(String, Vec<u8>)> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    bodies.sort();
    bodies
}

fn pieces_at(body: &[u8], at: usize) -> [&[u8]; 2] {
    let (head, tail) = body.split_at(at);
    [head, tail]
}

#[test]
fn every_endpoint_has_bodies_and_all_of_them_are_understood() {
    for endpoint in Endpoint::ALL {
        let bodies = corpus(endpoint);
        assert!(bodies.len() >= 2, "{endpoint:?} has {}", bodies.len());
        for (name, body) in bodies {
            let prompt = read_pieces(endpoint, &[&body]);
            assert_eq!(prompt.body_end, BodyEnd::Whole, "{name}");
        }
    }
}

#[test]
fn every_split_point_gives_the_same_prompt() {
    let odd = files("odd")
        .into_iter()
        .map(|(name, body)| (ChatCompletions, name, body));
    let bodies = Endpoint::ALL.into_iter().flat_map(|endpoint| {
        corpus(endpoint)
            .into_iter()
            .map(move |(name, body)| (endpoint, name, body))
    });
    for (endpoint, name, body) in bodies.chain(odd) {
        let whole = read_pieces(endpoint, &[&body]);
        for at in 0..=body.len().min(20_000) {
            let pieces = pieces_at(&body, at);
            assert_eq!(
                read_pieces(endpoint, &pieces),
                whole,
                "{name}, split at {at}"
            );
        }
    }
}

#[test]
fn every_body_has_the_blocks_of_its_tree() {
    for endpoint in Endpoint::ALL {
        for (name, body) in corpus(endpoint) {
            // serde_json refuses numbers beyond a double, which vLLM's parser takes.
            let Ok(tree) = serde_json::from_slice(&body) else {
                assert!(name.contains("spellings"), "{name} is no JSON");
                continue;
            };
            let prompt = read_pieces(endpoint, &[&body]);
            assert_eq!(hashes(&prompt), twin::blocks(endpoint, &tree), "{name}");
        }
    }
}

#[test]
fn a_body_that_is_known_has_leading_blocks_wherever_it_is_cut() {
    for endpoint in Endpoint::ALL {
        for (name, body) in corpus(endpoint) {
            let mut prefaces = Prefaces::default();
            let mut read = |bytes: usize, is_end| {
                let mut reader = PromptReader::new(endpoint, BLOCK);
                reader.feed(&body[..bytes]);
                reader.finish_with(is_end, &mut prefaces)
            };
            let whole = hashes(&read(body.len(), true));
            for at in 0..body.len() {
                let cut = hashes(&read(at, false));
                assert!(whole.starts_with(&cut), "{name}, cut at {at}");
            }
        }
    }
}
