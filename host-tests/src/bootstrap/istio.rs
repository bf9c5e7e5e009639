//! What Istio generates of `manifests/istio/inferencepool`, without istiod.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Bootstrap, LISTENER};
use crate::{pod_addresses, repository};

/// As `scripts/test-istio cluster` reads it off a gateway.
const FIXTURE: &str = "host-tests/data/istio/gateway.json";
/// The pods that the fixture was made with: two that decode, then two that prefill, of eight ranks each.
const PODS: [&str; 4] = ["10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5"];

/// How the names of the module's filters in Istio 1.30 become those of 1.29, which differs in nothing else: seen by the same
/// dump of a gateway of 1.29.6.
const NAMES_OF_1_29: [(&str, &str); 2] = [
    ("/trafficextension/", "/wasmplugin/"),
    ("~istio-translated-wasmplugin", ""),
];

impl Bootstrap {
    /// As [`of_istio`](Self::of_istio), as Istio 1.29 names it.
    ///
    /// # Errors
    /// As there.
    pub fn of_istio_1_29(pods: [Ipv4Addr; 4]) -> Result<Self> {
        let mut text = Self::of_istio(pods)?.to_json();
        for (new, old) in NAMES_OF_1_29 {
            text = text.replace(new, old);
        }
        Ok(Self(serde_json::from_str(&text)?))
    }

    /// The gateway of Istio 1.30 with the module, with its filters, routes and clusters under Istio's names, before two pods
    /// that decode and two that prefill, of eight ranks from port 8000 on each.
    ///
    /// # Errors
    /// When the fixture or the module is missing.
    pub fn of_istio(pods: [Ipv4Addr; 4]) -> Result<Self> {
        let mut text = repository::read(FIXTURE)?;
        for (old, new) in PODS.iter().zip(pods) {
            text = text.replace(&format!("\"{old}\""), &format!("\"{new}\""));
        }
        let value: Value = serde_json::from_str(&text).context("the fixture is no JSON")?;
        let mut bootstrap = Self(value);
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        bootstrap.set(&format!("{LISTENER}/address"), address);
        let module = repository::module()?;
        Ok(bootstrap
            .admin_at(&pod_addresses::unused(1))
            .module(&module))
    }
}
