//! The objects of `manifests/istio`, and what they say of the module.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::repository;

/// An object, with the file that it is in.
#[derive(Clone, Debug)]
pub struct IstioManifest {
    /// The file.
    pub path: PathBuf,
    /// The object.
    pub object: Value,
}

impl IstioManifest {
    /// Every object of every folder.
    ///
    /// # Errors
    /// When one is no valid YAML; the error says in which file.
    pub fn all() -> Result<Vec<Self>> {
        let mut manifests = Vec::new();
        for folder in std::fs::read_dir(repository::root().join("manifests/istio"))? {
            for file in std::fs::read_dir(folder?.path())? {
                let path = file?.path();
                let text = std::fs::read_to_string(&path)?;
                let objects: Vec<Value> = serde_saphyr::from_multiple(&text)
                    .with_context(|| format!("{} is no valid YAML", path.display()))?;
                manifests.extend(objects.into_iter().map(|object| Self {
                    path: path.clone(),
                    object,
                }));
            }
        }
        Ok(manifests)
    }

    /// Whether it only changes an object of another folder.
    #[must_use]
    pub fn is_patch(&self) -> bool {
        self.object.pointer("/spec/targetRefs").is_none()
    }

    /// What a WasmPlugin or TrafficExtension says of the module, if it does.
    #[must_use]
    pub fn module(&self) -> Option<&Value> {
        let parts = ["/spec", "/spec/wasm"].into_iter();
        parts
            .filter_map(|part| self.object.pointer(part))
            .find(|part| part.get("pluginConfig").is_some())
    }

    /// The filter's configuration, if there is one. What is null in a patch takes a field away.
    #[must_use]
    pub fn plugin_config(&self) -> Option<Value> {
        let fields = self.module()?["pluginConfig"].as_object()?.iter();
        let left = fields.filter(|(_, value)| !value.is_null());
        let left = left.map(|(field, value)| (field.clone(), value.clone()));
        Some(left.collect())
    }
}
