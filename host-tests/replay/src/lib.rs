//! Replays traces of requests through routing policies over simulated ranks, as discrete events: no sockets, no clock.
//!
//! The deployed decision ([`ours`]) is driven as it is; other routers ([`peers`]) are re-implemented from what is documented
//! of them. Ranks ([`engine`]) schedule as vLLM does, at the speeds of two engines that differ much ([`profile`]). One seed
//! gives one result on every machine. The whole matrix of traces, engines, loads, policies and seeds ([`matrix`]) becomes
//! a table ([`table`]) and charts ([`charts`]).

pub mod baselines;
pub mod charts;
pub mod closed_loop;
pub mod disaggregated;
pub mod engine;
pub mod engines;
pub mod events;
pub mod figures;
pub mod gateways;
pub mod matrix;
pub mod order;
pub mod ours;
pub mod peers;
pub mod policies;
pub mod policy;
pub mod profile;
pub mod public_traces;
pub mod readme;
pub mod reports;
pub mod saturation;
pub mod settings;
pub mod simulation;
pub mod table;
pub mod trial;
pub mod tried;
pub mod unknowns;
pub mod verdict;
pub mod workload;
