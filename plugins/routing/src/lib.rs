//! Decides which rank should answer a prompt: pure code without host, clock, randomness or log.
//!
//! The module in the gateway is glue around this crate: it gathers what a callback gives it, makes one call
//! here and acts on the answer. So the same code runs natively in tests and replay and in wasm32 in Envoy,
//! and the same inputs give the same pick everywhere.
//!
//! A request's way through the crate: [`Endpoint::of`] says whether it carries a prompt, a [`PromptReader`] turns
//! its body, chunk by chunk, into a [`Prompt`] (chained hashes of blocks), [`Pool::pick`] compares the ranks by
//! what the [`PrefixIndex`] and the [`LoadTable`] know of them and returns a [`Pick`].

#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test")
)]

mod block_stream;
mod body_scanner;
mod canonical;
mod config;
mod config_error;
mod cost;
mod discovery;
mod endpoint;
mod endpoint_dump;
mod exchange;
mod feedback;
mod filter_config;
mod glob;
mod hash;
mod health;
mod homes;
mod json;
mod key_watch;
mod load;
mod membership;
mod metrics_page;
mod miss_weight;
mod peer_loads;
mod peers;
mod pick;
mod pool;
mod prefaces;
mod prefix_index;
mod prompt;
mod prompt_reader;
mod rank;
mod refusal;
mod refused_keys;
mod report;
mod reports;
mod role;
mod routing_headers;
mod scrapes;
mod sealed;
mod seats;
mod section;
#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod spelling;
mod token_rate;
mod usage;
mod usual_request;
mod wire;

pub use block_stream::{BlockStream, RawBlock};
pub use body_scanner::BodyScanner;
pub use config::{Config, RawConfig};
pub use config_error::{ConfigError, ConfigErrors};
pub use cost::{Cost, CostWeights, Work};
pub use discovery::{Answered, DISCOVERY_TIMEOUT_MS, Discovery, NoAnswer, QuestionId, Trouble};
pub use endpoint::Endpoint;
pub use endpoint_dump::{
    DumpError, EndpointDump, EndpointTable, FoundEndpoint, MAX_DUMP_BYTES, Reach, query_escape,
};
pub use exchange::{BlockCut, Decidable, Due, Exchanges, Limits, ReadToEnd};
pub use feedback::{Ages, Change, Expected, Told};
pub use filter_config::FilterConfig;
pub use glob::Glob;
pub use hash::{chain, hash_bytes, hash_seeded};
pub use health::{
    Admission, Attempt, Counts, Failure, HealthTable, Patience, Spell, Standing, Verdict, Waiting,
};
pub use json::{Event, JsonError, JsonScanner};
pub use load::{Charge, LoadTable, RankLoad};
pub use membership::{Condition, Member, Membership, MembershipError};
pub use metrics_page::MetricsPage;
pub use miss_weight::{MissWeight, in_use};
pub use peers::{
    BEAT_MS, Heard, LEASE_MS, News, Office, Peers, RankKey, Sent, SentBlock, SentBlocks,
    SharedMemory, Span, Stored, TakenBack, Totals,
};
pub use pick::{Candidate, Reason, best_first};
pub use pool::{Insertion, Learnt, Leg, LegPlan, Moved, Pick, Pool};
pub use prefaces::{FRONT_FIELDS, Preface, Prefaces};
pub use prefix_index::{Inserted, PrefixIndex};
pub use prompt::{Block, BodyEnd, Outcome, Prompt};
pub use prompt_reader::PromptReader;
pub use rank::{RankId, RankRange, rank_list};
pub use refusal::{REFUSAL_HEADERS, REFUSAL_STATUS, Refusal};
pub use refused_keys::{RefusedKeys, default_refused_keys};
pub use report::Report;
pub use reports::{RankReport, ReportTable, ReportsError};
pub use role::{Role, RoleMatcher, RoleRules};
pub use routing_headers::{
    DESTINATION_HEADER, MODEL_HEADER, NEXT_PREFILLER_HEADER, PREFILLER_HEADER, STRIPPED_HEADERS,
};
pub use scrapes::{SCRAPE_TIMEOUT_MS, Scrapes};
pub use sealed::{seal, unseal};
pub use section::Section;
pub use token_rate::{TokenRate, TokenRates};
pub use usage::{AnswerKind, Usage, UsageReader};

#[cfg(feature = "schema")]
pub use config::config_schema;
