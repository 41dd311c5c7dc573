//! Objects of a watch, kept as compressed text: a CronJob's many empty fields would take more than
//! ten times as much.

use std::{borrow::Cow, marker::PhantomData, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt, runtime::watcher::Event};
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use serde::{Serialize, de::DeserializeOwned};

/// An object of which only the name, the namespace and the owners are at hand; the rest is
/// unpacked when it is read.
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
    /// Packs an object.
    pub fn new(object: &K) -> Self {
        Self {
            metadata: ObjectMeta {
                name: object.meta().name.clone(),
                namespace: object.namespace(),
                owner_references: object.meta().owner_references.clone(),
                ..ObjectMeta::default()
            },
            // What the API server sent as JSON is JSON again.
            text: compress_prepend_size(&serde_json::to_vec(object).unwrap_or_default()).into(),
            kind: PhantomData,
        }
    }

    /// Packs the object of a watch's event.
    pub fn event(event: Event<K>) -> Event<Self> {
        match event {
            Event::Apply(object) => Event::Apply(Self::new(&object)),
            Event::Delete(object) => Event::Delete(Self::new(&object)),
            Event::InitApply(object) => Event::InitApply(Self::new(&object)),
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        }
    }

    /// The whole object.
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
    fn nothing_is_lost_by_packing() {
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
        let packed = Compressed::new(&cronjob);
        assert_eq!(packed.name_any(), "mparticle");
        assert_eq!(packed.namespace().as_deref(), Some("marketing"));
        assert_eq!(packed.owner_references(), cronjob.owner_references());
        assert_eq!(packed.decompress(), Some(cronjob));
    }
}
