//! What keeps clients from doing harm, and parts of the module: taken away or changed for a test.

use serde_json::{Value, json};

use super::Bootstrap;

/// One of the module's two filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleFilter {
    /// The one that reads bodies.
    Reader,
    /// The one that picks.
    Picker,
}

impl ModuleFilter {
    fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Picker => "picker",
        }
    }

    fn is(self, filter: &Value) -> bool {
        let text = filter.pointer("/typed_config/config/configuration/value");
        let own: Option<Value> = text
            .and_then(Value::as_str)
            .and_then(|text| serde_json::from_str(text).ok());
        own.is_some_and(|own| own["filter"] == self.name())
    }
}

impl Bootstrap {
    /// Takes one of the module's filters out of the chain, wherever it stands.
    #[must_use]
    pub fn without_module_filter(mut self, missing: ModuleFilter) -> Self {
        if let Some(filters) = self.connection_manager()["http_filters"].as_array_mut() {
            filters.retain(|filter| !missing.is(filter));
        }
        self
    }

    /// Lets headers of clients that steer through to the filters, so that it shows what the module makes of them.
    #[must_use]
    pub fn without_early_header_mutation(mut self) -> Self {
        if let Some(manager) = self.connection_manager().as_object_mut() {
            manager.remove("early_header_mutation_extensions");
        }
        self
    }

    /// Says whether Envoy leaves it to a rank to answer `Expect: 100-continue`, as Istio's gateways do, or answers it itself.
    #[must_use]
    pub fn proxy_100_continue(mut self, is_proxied: bool) -> Self {
        self.connection_manager()["proxy_100_continue"] = json!(is_proxied);
        self
    }

    /// Sets how many bytes of heap there are, of which the manifest says when requests are refused and reset.
    #[must_use]
    pub fn heap_limit(mut self, bytes: u64) -> Self {
        let monitors = self.0.pointer_mut("/overload_manager/resource_monitors");
        for monitor in monitors.and_then(Value::as_array_mut).into_iter().flatten() {
            if monitor["name"] == "envoy.resource_monitors.fixed_heap" {
                monitor["typed_config"]["max_heap_size_bytes"] = json!(bytes);
            }
        }
        self
    }

    /// Sets how many connections clients may have in all.
    #[must_use]
    pub fn connection_limit(mut self, connections: u64) -> Self {
        let monitors = self.0.pointer_mut("/overload_manager/resource_monitors");
        for monitor in monitors.and_then(Value::as_array_mut).into_iter().flatten() {
            if monitor["name"] == "envoy.resource_monitors.global_downstream_max_connections" {
                monitor["typed_config"]["max_active_downstream_connections"] = json!(connections);
            }
        }
        self
    }
}
