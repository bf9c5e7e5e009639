//! Traffic beside clients that attack the gateway, and what the others notice of it.
//!
//! [`attack`] is what hostile clients send and how often, [`attackers`] sends it, [`run`] is one run of honest traffic with or
//! without them, and [`report`] compares both. The attack is on routing and not on capacity: what ranks serve of it takes less
//! than a tenth of their time, and most of it they refuse or never get whole.

pub mod attack;
pub mod attackers;
pub mod report;
pub mod run;
