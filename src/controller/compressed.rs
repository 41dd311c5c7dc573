//! Watched objects as compressed JSON. The empty fields of a CronJob in memory need more than ten
//! times as much.

use std::{borrow::Cow, marker::PhantomData, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt, runtime::watcher::Event};
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use serde::{Serialize, de::DeserializeOwned};

/// A compressed object with its name, namespace and owners. [`Self::decompress`] returns the rest.
#[derive(Debug)]
pub struct Compressed<K> {
    metadata: ObjectMeta,
    text: Arc<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Compressed<K> {
    fn clone(&self) -> Self {
        Self {
            metadata: self.metadata.clone(),
            text: Arc::clone(&self.text),
            kind: PhantomData,
        }
    }
}

impl<K: Resource + Serialize + DeserializeOwned> Compressed<K> {
    /// Compresses an object.
    pub fn new(object: &K) -> Self {
        Self {
            metadata: ObjectMeta {
                name: object.meta().name.clone(),
                namespace: object.namespace(),
                owner_references: object.meta().owner_references.clone(),
                ..ObjectMeta::default()
            },
            // Serialization can't fail, because the object was parsed from JSON.
            text: compress_prepend_size(&serde_json::to_vec(object).unwrap_or_default()).into(),
            kind: PhantomData,
        }
    }

    /// Compresses the object of a watch event.
    pub fn event(event: Event<K>) -> Event<Self> {
        match event {
            Event::Apply(object) => Event::Apply(Self::new(&object)),
            Event::Delete(object) => Event::Delete(Self::new(&object)),
            Event::InitApply(object) => Event::InitApply(Self::new(&object)),
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        }
    }

    /// Returns the complete object.
    pub fn decompress(&self) -> Option<K> {
        serde_json::from_slice(&decompress_size_prepended(&self.text).ok()?).ok()
    }
}

impl<K: Resource> Resource for Compressed<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::CronJob;
    use serde_json::json;

    use super::*;

    #[test]
    fn decompress_returns_complete_object() {
        let cronjob: CronJob = serde_json::from_value(json!({
            "metadata": {
                "name": "mparticle", "namespace": "marketing", "uid": "u",
                "labels": {"a": "b"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "o", "controller": true}],
            },
            "spec": {"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}},
            "status": {"lastScheduleTime": "2026-01-01T00:00:00Z"},
        }))
        .expect("a CronJob");
        let compressed = Compressed::new(&cronjob);
        assert_eq!(compressed.name_any(), "mparticle");
        assert_eq!(compressed.namespace().as_deref(), Some("marketing"));
        assert_eq!(compressed.owner_references(), cronjob.owner_references());
        assert_eq!(compressed.decompress(), Some(cronjob));
    }
}
