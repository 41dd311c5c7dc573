use indexmap::{IndexMap, map::Entry};
use serde::Serialize;
use serde_json::Value;

/// An event as stored in the project.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredEvent {
    /// The event's ID. An event without one gets a generated ID, as in Iterable.
    pub id: String,
    /// Number of writes; above 1, the event was overwritten (section 1.6).
    pub writes: u32,
    /// The event as last sent, without the filtered-out fields; `null` if only counts are kept.
    pub event: Value,
}

/// The project's custom events, in the order of their first writes.
#[derive(Debug, Default)]
pub(super) struct Events {
    by_id: IndexMap<String, StoredEvent>,
    writes: u64,
}

impl Events {
    /// Stores an event; an existing event with the same ID is overwritten (section 1.6).
    pub(super) fn write(&mut self, id: Option<&str>, event: Value) {
        self.writes += 1;
        let id = id.map_or_else(|| format!("generated-{}", self.writes), str::to_owned);
        match self.by_id.entry(id) {
            Entry::Occupied(mut stored) => {
                let stored = stored.get_mut();
                stored.writes += 1;
                stored.event = event;
            }
            Entry::Vacant(free) => {
                let id = free.key().clone();
                free.insert(StoredEvent {
                    id,
                    writes: 1,
                    event,
                });
            }
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&StoredEvent> {
        self.by_id.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &StoredEvent> {
        self.by_id.values()
    }

    pub(super) fn stored(&self) -> u64 {
        self.by_id.len() as u64
    }

    pub(super) fn writes(&self) -> u64 {
        self.writes
    }
}
