//! What each mParticle event type becomes, against values reasoned from the documents of both
//! sides. Where an expectation comes from stands beside it:
//!
//! - *schema*: mParticle's events API schema and JSON reference, for what comes in;
//! - *Iterable API*: Iterable's API description, `events/trackBulk`, for what goes out;
//! - *field types*: Iterable's "Field Data Types": a field keeps the type of its first value;
//! - *connection*: the source of mParticle's own Iterable connection (Iterable/firehose-iterable).

use crate::support::{batch, everything, map_batch, map_one, sample, spec};
use event_forwarder::{
    api::{Coerce, ContextGroup, Dates, EventSelector, MappingSpec},
    mapping::{MappingWarning, RejectReason, SkipReason},
};
use serde_json::{Value, json};

/// Events without context, so that an expectation shows the event's own fields only.
fn own_fields() -> MappingSpec {
    spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.data_fields.context = vec![];
    })
}

fn own(event_type: &str, data: Value) -> Value {
    map_one(&own_fields(), event_type, data)
}

/// Iterable API: `eventName` is required; `createdAt` is a unix timestamp, in seconds as the
/// connection sends it; one of `email` and `userId`, never both; `id` of letters, digits and
/// hyphens, at most 512 bytes.
#[test]
fn an_event_has_exactly_the_members_that_iterable_documents() {
    let event = own("screen_view", json!({"screen_name": "Home"}));
    let members: Vec<_> = event.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        members,
        ["createdAt", "dataFields", "email", "eventName", "id"]
    );
    assert_eq!(event["createdAt"], 1_764_057_600);
    assert_eq!(event["email"], "ada@example.com");
    let id = event["id"].as_str().unwrap();
    assert!(
        id.len() <= 512
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    );
}

#[test]
fn a_screen_view_is_named_alike_for_all_screens_and_carries_the_screen() {
    let event = own(
        "screen_view",
        json!({"screen_name": "Product Detail", "activity_type": null}),
    );
    assert_eq!(event["eventName"], "Screen View");
    assert_eq!(
        event["dataFields"],
        json!({"screen_name": "Product Detail"})
    );
}

/// schema: `activity_stopped` is sent by Android when an activity is left.
#[test]
fn an_android_activity_that_stopped_is_no_screen_view() {
    let data = json!({"screen_name": "Main", "activity_type": "activity_stopped"});
    let mapped = map_batch(&own_fields(), &batch(&[("screen_view", data)]));
    assert_eq!(mapped.events.len(), 0);
    assert_eq!(mapped.skipped[0].reason, SkipReason::ScreenLeft);
}

#[test]
fn a_session_start_has_no_fields_of_its_own() {
    let event = own("session_start", json!({"custom_attributes": null}));
    assert_eq!(event["eventName"], "Session Start");
    assert_eq!(event["dataFields"], json!({}));
}

/// schema: `session_duration_ms` is an integer; the media documentation shows integers as text.
/// field types: so both must become a long.
#[test]
fn a_session_end_carries_its_duration_as_a_whole_number() {
    for duration in [json!(61000), json!("61000")] {
        let event = own("session_end", json!({"session_duration_ms": duration}));
        assert_eq!(event["eventName"], "Session End");
        assert_eq!(event["dataFields"], json!({"session_duration_ms": 61000}));
    }
}

/// schema: first run and upgrade are flags of `application_initialized`.
#[test]
fn an_application_transition_is_named_by_what_happened() {
    let first_run = own(
        "application_state_transition",
        json!({
            "application_transition_type": "application_initialized",
            "is_first_run": true, "is_upgrade": "false", "successfully_closed": null,
            "launch_referral": null, "push_notification_payload": null
        }),
    );
    assert_eq!(first_run["eventName"], "Application Initialized");
    assert_eq!(
        first_run["dataFields"],
        json!({
            "application_transition_type": "application_initialized",
            "is_first_run": true, "is_upgrade": false
        })
    );
    let foreground = own(
        "application_state_transition",
        json!({
            "application_transition_type": "application_foreground",
            "launch_referral": "https://example.com/?utm_source=mail&utm_campaign=a%20b"
        }),
    );
    assert_eq!(foreground["eventName"], "Application Foreground");
    assert_eq!(
        foreground["dataFields"]["launch_referral"],
        "https://example.com/?utm_source=mail&utm_campaign=a%20b"
    );
}

#[test]
fn first_run_and_uninstall_are_events_of_their_own() {
    assert_eq!(own("first_run", json!({}))["eventName"], "First Run");
    assert_eq!(own("uninstall", json!({}))["eventName"], "Uninstall");
}

/// connection: the name of a custom event is sent unchanged; its attributes are `dataFields`.
#[test]
fn a_custom_event_keeps_its_name_and_the_types_of_its_attributes() {
    let body = json!({
        "event_name": "Quiz Completed", "custom_event_type": "Navigation",
        "custom_attributes": {
            "score": 42, "ratio": 0.75, "passed": true, "zip": "02139", "nothing": null,
            "list": ["x", null, 3], "nested": {"a": {"b": [1, {"c": "deep"}], "n": null}}
        }
    });
    let event = own("custom_event", body);
    assert_eq!(event["eventName"], "Quiz Completed");
    assert_eq!(
        event["dataFields"],
        json!({
            "score": 42, "ratio": 0.75, "passed": true, "zip": "02139",
            "list": ["x", 3], "nested": {"a": {"b": [1, {"c": "deep"}]}},
            "custom_event_type": "Navigation"
        })
    );
}

/// schema: attribute values may be numbers, and mParticle's ids have 64 bits. 2^53 + 1 and the
/// largest 64-bit integer are what a double would change.
#[test]
fn no_number_passes_through_a_double() {
    let body = r#"{"user_identities":{"email":"ada@example.com"},"events":[{"event_type":"custom_event",
        "data":{"event_name":"Numbers","source_message_id":"n-1","timestamp_unixtime_ms":1764057600000,
        "custom_attributes":{"a":9007199254740993,"b":9223372036854775807,"c":-9223372036854775808,
        "d":0.1000000000000000055,"e":1.10}}}]}"#;
    let mapped = map_batch(&own_fields(), body);
    let json = mapped.events[0].json();
    for kept in [
        "\"a\":9007199254740993",
        "\"b\":9223372036854775807",
        "\"c\":-9223372036854775808",
        "\"d\":0.1000000000000000055",
        "\"e\":1.10",
    ] {
        assert!(json.contains(kept), "{kept} in {json}");
    }
}

/// connection, `attemptScalarConversion`: text that is a boolean or a number becomes one.
#[test]
fn attributes_are_coerced_as_the_connection_does_it_when_asked() {
    let spec = spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.data_fields.context = vec![];
        spec.data_fields.coerce = Coerce::LikeMParticle;
    });
    let attributes = json!({
        "score": "42", "ratio": "0.75", "passed": "TRUE", "zip": "02139", "agent": "007",
        "big": "9007199254740993", "exp": "1e3", "whole": "1.0", "empty": "", "dot": ".5",
        "minus": "-.25", "plus": "+7", "word": "Infinity", "blank": " 1 ", "date": "2025-11-25"
    });
    let event = map_one(
        &spec,
        "custom_event",
        json!({"event_name": "E", "custom_attributes": attributes}),
    );
    assert_eq!(
        event["dataFields"],
        json!({
            "score": 42, "ratio": 0.75, "passed": true, "zip": 2139, "agent": 7,
            "big": "9007199254740993", "exp": "1e3", "whole": "1.0", "empty": "", "dot": 0.5,
            "minus": -0.25, "plus": 7, "word": "Infinity", "blank": " 1 ", "date": "2025-11-25"
        })
    );
}

/// field types: Iterable's own form of a date is `yyyy-MM-dd HH:mm:ss +00:00`; Segment's
/// connection leaves days without a time alone.
#[test]
fn dates_become_iterables_form_when_asked() {
    let spec = spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.data_fields.context = vec![];
        spec.data_fields.dates = Dates::Iterable;
    });
    let attributes = json!({
        "utc": "2025-11-25T08:00:00.123Z", "offset": "2025-11-25T09:30:00+01:30",
        "local": "2025-11-25T08:00:00", "day": "2025-11-25", "text": "at 2025-11-25T08:00:00Z"
    });
    let event = map_one(
        &spec,
        "custom_event",
        json!({"event_name": "E", "custom_attributes": attributes}),
    );
    assert_eq!(
        event["dataFields"],
        json!({
            "utc": "2025-11-25 08:00:00 +00:00", "offset": "2025-11-25 08:00:00 +00:00",
            "local": "2025-11-25 08:00:00 +00:00", "day": "2025-11-25",
            "text": "at 2025-11-25T08:00:00Z"
        })
    );
}

/// schema: `action` of a product action. mParticle's outgoing form names the event
/// "eCommerce - AddToCart". field types: amounts are doubles even when whole, positions longs;
/// the JSON reference shows amounts as text and as empty text.
#[test]
fn a_product_action_is_named_by_its_action_and_lists_its_products() {
    let event = own(
        "commerce_event",
        json!({
            "product_action": {
                "action": "add_to_cart", "checkout_step": 0, "transaction_id": null,
                "total_amount": 20, "tax_amount": "", "shipping_amount": "5", "coupon_code": "AUTUMN",
                "products": [
                    {"id": "SKU-1", "name": "Shoe", "category": "Shoes/Running", "brand": null,
                     "position": 1, "price": "12.50", "quantity": 2.5,
                     "total_product_amount": 31.25, "custom_attributes": {"size": "42"}},
                    {"id": 7, "price": "", "quantity": "", "position": ""}
                ]
            },
            "promotion_action": null, "product_impressions": null, "shopping_cart": null,
            "currency_code": "GBP", "is_non_interactive": false, "screen_name": "Cart",
            "event_name": "eCommerce - AddToCart", "custom_event_type": "add_to_cart"
        }),
    );
    assert_eq!(event["eventName"], "eCommerce - AddToCart");
    assert_eq!(
        event["dataFields"],
        json!({
            "action": "add_to_cart", "checkout_step": 0, "total_amount": 20.0,
            "shipping_amount": 5.0, "coupon_code": "AUTUMN",
            "products": [
                {"id": "SKU-1", "name": "Shoe", "category": "Shoes/Running", "position": 1,
                 "price": 12.50, "quantity": 2.5, "total_product_amount": 31.25,
                 "custom_attributes": {"size": "42"}},
                {"id": "7"}
            ],
            "currency_code": "GBP", "is_non_interactive": false, "screen_name": "Cart"
        })
    );
}

/// schema: the ten product actions. The names are those of mParticle's outgoing form.
#[test]
fn every_product_action_has_mparticles_own_name() {
    let names = [
        ("add_to_cart", "eCommerce - AddToCart"),
        ("remove_from_cart", "eCommerce - RemoveFromCart"),
        ("checkout", "eCommerce - Checkout"),
        ("checkout_option", "eCommerce - CheckoutOption"),
        ("click", "eCommerce - Click"),
        ("view_detail", "eCommerce - ViewDetail"),
        ("purchase", "eCommerce - Purchase"),
        ("refund", "eCommerce - Refund"),
        ("add_to_wishlist", "eCommerce - AddToWishlist"),
        ("remove_from_wish_list", "eCommerce - RemoveFromWishList"),
    ];
    for (action, name) in names {
        let event = own(
            "commerce_event",
            json!({"product_action": {"action": action}}),
        );
        assert_eq!(event["eventName"], name);
    }
}

/// schema: a promotion's `position` is text, a product's a number.
#[test]
fn promotions_and_impressions_are_commerce_events_too() {
    let promotion = own(
        "commerce_event",
        json!({"promotion_action": {"action": "click", "promotions": [
            {"id": "promo-1", "name": null, "creative": "banner.png", "position": 2}]}}),
    );
    assert_eq!(promotion["eventName"], "eCommerce - PromotionClick");
    assert_eq!(
        promotion["dataFields"],
        json!({"action": "click", "promotions": [
            {"id": "promo-1", "creative": "banner.png", "position": "2"}]})
    );
    let impression = own(
        "commerce_event",
        json!({"product_impressions": [
            {"product_impression_list": "Suggested", "products": [{"id": "SKU-1", "price": 20}]},
            {"product_impression_list": "Empty", "products": null}]}),
    );
    assert_eq!(impression["eventName"], "eCommerce - Impression");
    assert_eq!(
        impression["dataFields"],
        json!({"product_impressions": [
            {"product_impression_list": "Suggested", "products": [{"id": "SKU-1", "price": 20.0}]},
            {"product_impression_list": "Empty"}]})
    );
}

/// schema: `register` and `is_opted_out` are booleans; a push payload is JSON in a string, or
/// text that is none. The push token addresses a device and says nothing to a marketer.
#[test]
fn push_and_opt_out_events_carry_what_happened() {
    let registration = own(
        "push_registration",
        json!({"register": true, "registration_token": "t"}),
    );
    assert_eq!(registration["dataFields"], json!({"register": true}));
    let message = own(
        "push_message",
        json!({"push_message_type": "received", "message": "On its way", "network": "apn",
               "push_notification_payload": "{\"itbl\":{\"campaignId\":111}}",
               "application_state": "background", "action_identifier": null,
               "push_message_behavior": 2, "push_message_token": "t"}),
    );
    assert_eq!(message["eventName"], "Push Message");
    assert_eq!(
        message["dataFields"],
        json!({"push_message_type": "received", "message": "On its way", "network": "apn",
               "push_notification_payload": "{\"itbl\":{\"campaignId\":111}}",
               "application_state": "background", "push_message_behavior": "2"})
    );
    let reaction = own(
        "push_reaction",
        json!({"push_notification_payload": "not json"}),
    );
    assert_eq!(
        reaction["dataFields"],
        json!({"push_notification_payload": "not json"})
    );
    let opt_out = own("opt_out", json!({"is_opted_out": "true"}));
    assert_eq!(opt_out["eventName"], "Opt Out");
    assert_eq!(opt_out["dataFields"], json!({"is_opted_out": true}));
}

/// schema: `data` of a network event holds a member `data`; `response_code` comes as text or
/// number; a crash report nests breadcrumbs, which are no events of the batch.
#[test]
fn diagnostics_are_mapped_when_asked_for() {
    let crash = own(
        "crash_report",
        json!({"class_name": "E", "severity": "fatal", "message": "m", "stack_trace": "0 a\n1 b",
               "exception_handled": false, "topmost_context": "Cart", "session_number": 25,
               "pl_crash_report_file_base64": "AAECAwQ=", "ios_image_base_address": 18446744069414584320u64,
               "breadcrumbs": [{"event_type": "breadcrumb", "data": {"label": "x"}}]}),
    );
    assert_eq!(
        crash["dataFields"],
        json!({"class_name": "E", "severity": "fatal", "message": "m", "stack_trace": "0 a\n1 b",
               "exception_handled": false, "topmost_context": "Cart", "session_number": 25})
    );
    let network = own(
        "network_performance",
        json!({"http_verb": "GET", "url": "https://api.example.com/v1?q=a%26b", "time_elapsed": 450,
               "bytes_in": 2048, "bytes_out": 128, "response_code": "200", "data": ""}),
    );
    assert_eq!(
        network["dataFields"],
        json!({"http_verb": "GET", "url": "https://api.example.com/v1?q=a%26b", "time_elapsed": 450,
               "bytes_in": 2048, "bytes_out": 128, "response_code": 200})
    );
    let breadcrumb = own(
        "breadcrumb",
        json!({"label": "Opened cart", "session_number": 2}),
    );
    assert_eq!(
        breadcrumb["dataFields"],
        json!({"label": "Opened cart", "session_number": 2})
    );
}

/// schema: an attribute's `new` and `old` are text, a list or null. field types: so both are
/// always lists. mpids are int64 or text.
#[test]
fn profile_events_keep_one_type_for_each_field() {
    let profile = own(
        "profile",
        json!({"profile_event_type": "login", "previous_mpid": -7636538281262557123i64,
               "current_mpid": "7346244611012968789"}),
    );
    assert_eq!(
        profile["dataFields"],
        json!({"profile_event_type": "login", "previous_mpid": "-7636538281262557123",
               "current_mpid": "7346244611012968789"})
    );
    let text = own(
        "user_attribute_change",
        json!({"user_attribute_name": "plan", "new": "gold", "old": null, "deleted": false, "is_new_attribute": true}),
    );
    assert_eq!(
        text["dataFields"],
        json!({"user_attribute_name": "plan", "new": ["gold"], "deleted": false, "is_new_attribute": true})
    );
    let list = own(
        "user_attribute_change",
        json!({"user_attribute_name": "tags", "new": ["a", "b"], "old": "a"}),
    );
    assert_eq!(
        list["dataFields"],
        json!({"user_attribute_name": "tags", "new": ["a", "b"], "old": ["a"]})
    );
    let identity = own(
        "user_identity_change",
        json!({"new": {"identity_type": "email", "identity": "new@example.com"}, "old": null}),
    );
    assert_eq!(
        identity["dataFields"],
        json!({"new_identity_type": "email", "new_identity": "new@example.com"})
    );
    assert_eq!(
        identity["email"], "ada@example.com",
        "the user comes from the batch alone"
    );
}

/// mParticle's media documentation: a custom event of the type media, with every integer as
/// text and `source_message_id` null.
#[test]
fn media_events_and_numbers_as_text_read_like_any_other() {
    let data = |time: Value, id: Value| {
        json!({"custom_event_type": "media", "event_name": "Play", "timestamp_unixtime_ms": time,
               "event_id": id, "source_message_id": null,
               "custom_attributes": {"content_duration": "120000"}})
    };
    let text = own(
        "custom_event",
        data(json!("1764057600000"), json!("-109840007014118971")),
    );
    let number = own(
        "custom_event",
        data(
            json!(1_764_057_600_000i64),
            json!(-109_840_007_014_118_971i64),
        ),
    );
    assert_eq!(text, number);
    assert_eq!(text["eventName"], "Play");
    assert_eq!(text["createdAt"], 1_764_057_600);
}

/// schema: the enumeration of types may grow.
#[test]
fn a_type_that_was_never_seen_is_kept_with_all_its_members() {
    let data = json!({"hologram": "x", "size": 3, "deep": {"a": 1}});
    let event = own("hologram_view", data.clone());
    assert_eq!(event["eventName"], "hologram_view");
    assert_eq!(
        event["dataFields"],
        json!({"hologram": "x", "size": 3, "deep": {"a": 1}})
    );
    let mapped = map_batch(&MappingSpec::default(), &batch(&[("hologram_view", data)]));
    assert_eq!(mapped.skipped[0].reason, SkipReason::NotSelected);
    assert_eq!(mapped.skipped[0].event_type, "hologram_view");
}

/// schema: types may get further members. They are kept by their own names and types, but never in
/// the place of what is known.
#[test]
fn a_member_that_was_never_seen_is_kept() {
    let mut replayed: Value = serde_json::from_str(&sample("22")).unwrap();
    let data = &mut replayed["events"][0]["data"];
    data["future_field"] = json!({"a": 1});
    data["future.flag"] = json!(true);
    data["future_nothing"] = json!(null);
    data["platform"] = json!("not the device's");
    let mapped = map_batch(&MappingSpec::default(), &replayed.to_string());
    let event: Value = serde_json::from_str(mapped.events[0].json()).unwrap();
    assert_eq!(
        event["dataFields"],
        json!({"screen_name": "Replayed", "session_uuid": "A1A1A1A1-0000-4000-8000-00000000000A",
               "application_name": "Sample Shop", "application_version": "4.2.0",
               "platform": "iOS", "os_version": "18.1", "device_model": "iPhone15,2",
               "future_field": {"a": 1}, "future_flag": true})
    );
    assert_eq!(mapped.warnings.count(MappingWarning::FieldDuplicate), 1);
    assert_eq!(mapped.warnings.count(MappingWarning::FieldRenamed), 1);
}

/// schema: `pre_attribution` is one of the types, with no members of its own; the common ones are
/// what it has.
#[test]
fn a_pre_attribution_event_carries_what_it_has() {
    let event = own(
        "pre_attribution",
        json!({"session_id": -2271440000000000817i64, "session_uuid": "S-1", "event_id": 5,
               "custom_attributes": {"network": "organic"}, "event_num": 1, "device_current_state": {}}),
    );
    assert_eq!(event["eventName"], "Pre Attribution");
    assert_eq!(event["createdAt"], 1_764_057_600);
    assert_eq!(event["email"], "ada@example.com");
    assert_eq!(event["dataFields"], json!({"network": "organic"}));
}

/// JSON reference: `schema_version` says by which form a batch was made; 2 is today's. Nothing of what
/// an event becomes hangs on it: identities as an object or as a list, ids as numbers or as text.
#[test]
fn a_batch_of_the_first_schema_version_reads_like_one_of_the_second() {
    let body = batch(&[
        (
            "screen_view",
            json!({"screen_name": "Home", "event_id": -109840007014118971i64}),
        ),
        (
            "breadcrumb",
            json!({"source_message_id": null, "event_id": 7, "label": "x"}),
        ),
    ]);
    let second: Value = serde_json::from_str(&body).unwrap();
    let mut first = second.clone();
    first["schema_version"] = json!(1);
    first["mpid"] = json!("-7636538281262557123");
    first["user_identities"] = json!({"customer_id": "cust-1001", "email": "ada@example.com"});
    first["events"][0]["data"]["event_id"] = json!("-109840007014118971");
    first["events"][0]["data"]["timestamp_unixtime_ms"] = json!("1764057600000");
    first["events"][1]["data"]["event_id"] = json!("7");
    let events = |batch: &Value| {
        let mapped = map_batch(&everything(), &batch.to_string());
        let events = mapped.events.iter().map(|event| event.json().to_owned());
        events.collect::<Vec<_>>()
    };
    assert_eq!(events(&first).len(), 2);
    assert_eq!(events(&first), events(&second));
    first.as_object_mut().unwrap().remove("schema_version");
    assert_eq!(events(&first), events(&second));
}

#[test]
fn context_is_added_by_choice() {
    let spec = spec(|spec| {
        spec.data_fields.context = vec![
            ContextGroup::Session,
            ContextGroup::Application,
            ContextGroup::Device,
            ContextGroup::Location,
            ContextGroup::Locale,
            ContextGroup::Source,
        ];
    });
    let data = json!({"screen_name": "Home", "session_uuid": "S-1",
        "location": {"latitude": 51.5, "longitude": 0, "country_code": "GB", "accuracy": 50.0}});
    let event = map_one(&spec, "screen_view", data);
    assert_eq!(
        event["dataFields"],
        json!({
            "screen_name": "Home", "session_uuid": "S-1",
            "application_name": "Sample Shop", "application_version": "4.2.0",
            "platform": "iOS", "os_version": "18.1", "device_model": "iPhone15,2",
            "latitude": 51.5, "longitude": 0.0, "country_code": "GB",
            "locale_language": "en", "locale_country": "GB", "timezone_offset": "0",
            "channel": "native", "mpid": "-7636538281262557123", "environment": "production"
        })
    );
}

/// The forwarding that the mission asks for: what the connection takes (custom events,
/// purchases, push) is left to it, diagnostics and profile plumbing are left out.
#[test]
fn by_default_what_mparticles_own_connection_does_not_take_is_forwarded() {
    let purchase = json!({"product_action": {"action": "purchase"}});
    let refund = json!({"product_action": {"action": "refund"}});
    let types: Vec<(&str, Value)> = vec![
        ("session_start", json!({})),
        ("session_end", json!({})),
        ("screen_view", json!({"screen_name": "Home"})),
        (
            "application_state_transition",
            json!({"application_transition_type": "application_exit"}),
        ),
        ("first_run", json!({})),
        ("uninstall", json!({})),
        ("commerce_event", refund),
        (
            "commerce_event",
            json!({"promotion_action": {"action": "view"}}),
        ),
        ("commerce_event", purchase),
        ("custom_event", json!({"event_name": "A"})),
        (
            "custom_event",
            json!({"event_name": "Play", "custom_event_type": "media"}),
        ),
        ("push_registration", json!({})),
        ("push_message", json!({})),
        ("push_reaction", json!({})),
        ("opt_out", json!({})),
        ("crash_report", json!({})),
        ("network_performance", json!({})),
        ("breadcrumb", json!({})),
        ("profile", json!({})),
        ("user_attribute_change", json!({})),
        ("user_identity_change", json!({})),
        ("pre_attribution", json!({})),
    ];
    let mapped = map_batch(&MappingSpec::default(), &batch(&types));
    let forwarded: Vec<_> = mapped
        .events
        .iter()
        .map(|event| event.source().event)
        .collect();
    assert_eq!(forwarded, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(
        mapped
            .skipped
            .iter()
            .all(|skipped| skipped.reason == SkipReason::NotSelected)
    );
    assert_eq!(mapped.skipped.len(), types.len() - 8);

    let all = map_batch(&everything(), &batch(&types));
    assert_eq!(all.events.len(), types.len());
}

#[test]
fn an_event_that_nothing_tells_from_another_is_rejected() {
    let body = r#"{"user_identities":{"email":"ada@example.com"},"events":[
        {"event_type":"session_start","data":null},{"event_type":"session_start"},
        {"event_type":"session_start","data":{}},{"event_type":"session_start","data":"x"},
        {"event_type":"","data":{}},{"data":{}},null,"text",7,[]]}"#;
    let mapped = map_batch(&everything(), body);
    let reasons: Vec<_> = mapped
        .rejected
        .iter()
        .map(|rejected| rejected.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            RejectReason::NoIdOrTime,
            RejectReason::NoIdOrTime,
            RejectReason::NoIdOrTime,
            RejectReason::DataNotAnObject,
            RejectReason::NoEventType,
            RejectReason::NoEventType,
            RejectReason::EventNotAnObject,
            RejectReason::EventNotAnObject,
            RejectReason::EventNotAnObject,
            RejectReason::EventNotAnObject,
        ]
    );
    assert!(mapped.rejected[3].detail.contains("$.events[3].data"));
}
