//! All that runs on a host: simulated ranks, a real Envoy under test, replay of traces.
//!
//! Nothing here is part of the product. [`envoy`] starts a real Envoy from the configurations in `manifests/envoy`,
//! adapted by [`bootstrap`]; [`connection`] and [`upload`] speak to it with control over each frame; the simulated ranks
//! stand behind it, in this process or as a [`rank_process`]; [`caller`] tells how requests end; [`trace`], [`prompt_text`] and [`replay`] make the load of a demo and [`summary`] its figures.
//! [`oracle`] compares the router's block hashes with what traces say.

pub mod apart;
pub mod bootstrap;
pub mod caller;
pub mod carrier;
pub mod chaos;
pub mod config_files;
pub mod connection;
pub mod conversation;
pub mod distribution;
pub mod envoy;
pub mod gateway_client;
pub mod gateway_log;
pub mod held;
pub mod histogram;
pub mod hit_rate;
pub mod istio_manifest;
pub mod live_scene;
pub mod lone_rank;
pub mod mixture;
pub mod option_value;
pub mod oracle;
pub mod outcome;
pub mod pod_addresses;
pub mod pool_endpoint;
pub mod process_usage;
pub mod prompt_text;
pub mod provocation;
pub mod rank_pair;
pub mod rank_process;
pub mod replay;
pub mod reply;
pub mod repository;
pub mod scene;
pub mod sim;
pub mod summary;
pub mod table;
pub mod trace;
pub mod traffic;
pub mod two_models;
pub mod upload;
pub mod workers;
