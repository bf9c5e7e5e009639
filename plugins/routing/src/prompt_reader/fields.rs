//! Which fields of which endpoint make the prompt.
//!
//! A template prints what the sections hold in the order of their numbers, whatever their order in the body.

use crate::{Endpoint, FRONT_FIELDS};

use super::bypass::BypassField;
use super::place::{Kind, Target};

/// Sections of a prompt.
pub(super) const SECTIONS: usize = 3;

/// Tools, which most templates print first.
const TOOLS: usize = 0;
/// What comes before the main part: a system prompt, a query.
const LEAD: usize = 1;
/// The main part.
pub(super) const MAIN: usize = 2;

/// Top-level fields that change every token behind them, whatever their order.
pub(super) const FRONT: [&[u8]; FRONT_FIELDS] = [
    b"model",
    b"cache_salt",
    b"chat_template",
    b"chat_template_kwargs",
    b"documents",
    b"add_special_tokens",
    b"reasoning_effort",
    b"reasoning",
    b"thinking",
    b"truncate_prompt_tokens",
    b"truncation_side",
    b"mm_processor_kwargs",
    b"previous_response_id",
    b"features",
];

/// The place of the model among them.
pub(super) const MODEL: usize = 0;

/// Where a top-level value goes.
pub(super) fn target(endpoint: Endpoint, key: &[u8]) -> Target {
    if let Some((section, kind)) = section(endpoint, key) {
        return Target::Section(section, kind);
    }
    if key == b"stream" {
        return Target::Streamed;
    }
    if let Some(field) = BypassField::of(endpoint, key) {
        return Target::Bypass(field);
    }
    if (endpoint, key) == (Endpoint::Generate, &b"sampling_params"[..]) {
        return Target::Sampling;
    }
    let front = FRONT.iter().position(|field| *field == key);
    front.map_or(Target::Skip, Target::Front)
}

/// Where a value of the sampling parameters goes.
pub(super) fn sampling_target(key: &[u8]) -> Target {
    BypassField::of_sampling(key).map_or(Target::Skip, Target::Bypass)
}

fn section(endpoint: Endpoint, key: &[u8]) -> Option<(usize, Kind)> {
    use Endpoint::{
        ChatCompletions, Completions, Generate, Messages, Pooling, Rerank, Responses, Score,
        Tokenize,
    };
    Some(match (endpoint, key) {
        (Completions | Tokenize, b"prompt") | (Generate, b"token_ids") => (MAIN, Kind::Items),
        (ChatCompletions | Responses | Messages | Tokenize | Pooling, b"tools") => {
            (TOOLS, Kind::Value)
        }
        (Messages | Tokenize, b"system") | (Responses, b"instructions") => (LEAD, Kind::System),
        (ChatCompletions | Messages | Tokenize | Pooling, b"messages") => (MAIN, Kind::Messages),
        (Responses, b"input") => (MAIN, Kind::Messages),
        (Pooling, b"input" | b"inputs" | b"texts") => (MAIN, Kind::Items),
        (Rerank, b"query") => (LEAD, Kind::Items),
        (Score, b"text_1" | b"queries" | b"data_1") => (LEAD, Kind::Items),
        (Rerank, b"documents") => (MAIN, Kind::Items),
        (Score, b"text_2" | b"documents" | b"items" | b"data_2") => (MAIN, Kind::Items),
        _ => return None,
    })
}

/// Where a value of a message goes. Marks for a cache of somebody else are no part of a prompt.
pub(super) fn message_target(key: &[u8], key_hash: u64) -> Target {
    match key {
        b"role" => Target::Role,
        b"content" | b"output" => Target::Content,
        b"cache_control" => Target::Skip,
        _ => Target::MessageOther(key_hash),
    }
}

/// Where a value of a part goes; the result of a tool holds parts of its own.
pub(super) fn part_target(key: &[u8], key_hash: u64) -> Target {
    match key {
        b"text" => Target::PartText,
        b"content" => Target::Content,
        b"cache_control" => Target::Skip,
        _ => Target::PartOther {
            key: key_hash,
            is_media: is_media(key),
        },
    }
}

/// Fields that hold an image, a sound or a film, or where it is.
fn is_media(key: &[u8]) -> bool {
    const MEDIA: [&[u8]; 9] = [
        b"image_url",
        b"image",
        b"source",
        b"input_audio",
        b"audio_url",
        b"video_url",
        b"file_data",
        b"image_embeds",
        b"audio_embeds",
    ];
    MEDIA.contains(&key)
}
