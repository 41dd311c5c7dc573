//! Request bodies for `events/trackBulk`, made of encoded events.
//!
//! Iterable documents neither limit. 1,000 events and 4,000,000 bytes are what its other
//! integrations keep to (RudderStack, Tealium, Segment).

/// The most events in one request.
pub const MAX_EVENTS: usize = 1_000;
/// The most bytes of one request's body.
pub const MAX_BYTES: usize = 4_000_000;

const HEAD: &str = "{\"events\":[";
const TAIL: &str = "]}";

/// The most bytes that one event may have to fit into a request.
pub const MAX_EVENT_BYTES: usize = MAX_BYTES - HEAD.len() - TAIL.len();

/// Encodes as few requests as the limits allow, with the events in their order.
pub fn requests<'e>(events: impl IntoIterator<Item = &'e str>) -> Vec<String> {
    let mut requests = Vec::new();
    let mut request = String::new();
    let mut count = 0;
    for event in events {
        let is_full =
            count == MAX_EVENTS || request.len() + 1 + event.len() + TAIL.len() > MAX_BYTES;
        if count > 0 && is_full {
            request.push_str(TAIL);
            requests.push(std::mem::take(&mut request));
            count = 0;
        }
        request.push_str(if count == 0 { HEAD } else { "," });
        request.push_str(event);
        count += 1;
    }
    if count > 0 {
        request.push_str(TAIL);
        requests.push(request);
    }
    requests
}
