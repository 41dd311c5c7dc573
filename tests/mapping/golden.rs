//! The mapping of every mParticle event type, compared with values from the documentation of
//! mParticle and Iterable. A comment names the source of each expectation:
//!
//! - *schema*: mParticle's events API schema and JSON reference, for the input;
//! - *Iterable API*: Iterable's API description, `events/trackBulk`, for the output;
//! - *field types*: Iterable's "Field Data Types": a field keeps the type of its first value;
//! - *connection*: the source of mParticle's Iterable connection (Iterable/firehose-iterable).

use crate::support::{batch, everything, map_batch, map_one, sample, spec};
use event_forwarder::{
    api::{Coerce, ContextGroup, Dates, EventSelector, MappingSpec},
    mapping::{MappingWarning, RejectReason, SkipReason},
};
use serde_json::{Value, json};

/// Returns a mapping without context, so that expectations only contain the event's fields.
fn without_context() -> MappingSpec {
    spec(|spec| {
        spec.events = vec![EventSelector::All];
        spec.data_fields.context = vec![];
    })
}

fn map_without_context(event_type: &str, data: Value) -> Value {
    map_one(&without_context(), event_type, data)
}

/// Iterable API: `eventName` is required. `createdAt` is a Unix timestamp, which the connection
/// sends in seconds. An event has either `email` or `userId`. `id` has letters, digits and hyphens,
/// 512 bytes at most.
#[test]
fn event_has_only_documented_members() {
    let event = map_without_context("screen_view", json!({"screen_name": "Home"}));
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
fn screen_views_share_one_name_and_keep_screen() {
    let event = map_without_context(
        "screen_view",
        json!({"screen_name": "Product Detail", "activity_type": null}),
    );
    assert_eq!(event["eventName"], "Screen View");
    assert_eq!(
        event["dataFields"],
        json!({"screen_name": "Product Detail"})
    );
}

/// schema: Android sends `activity_stopped` when an activity stops.
#[test]
fn stopped_android_activity_is_skipped() {
    let data = json!({"screen_name": "Main", "activity_type": "activity_stopped"});
    let mapped = map_batch(&without_context(), &batch(&[("screen_view", data)]));
    assert_eq!(mapped.events.len(), 0);
    assert_eq!(mapped.skipped[0].reason, SkipReason::ScreenLeft);
}

#[test]
fn session_start_has_no_fields() {
    let event = map_without_context("session_start", json!({"custom_attributes": null}));
    assert_eq!(event["eventName"], "Session Start");
    assert_eq!(event["dataFields"], json!({}));
}

/// schema: `session_duration_ms` is an integer, and the media documentation has integers as
/// strings. field types: both must therefore become a long.
#[test]
fn session_end_has_integer_duration() {
    for duration in [json!(61000), json!("61000")] {
        let event = map_without_context("session_end", json!({"session_duration_ms": duration}));
        assert_eq!(event["eventName"], "Session End");
        assert_eq!(event["dataFields"], json!({"session_duration_ms": 61000}));
    }
}

/// schema: first run and upgrade are flags of `application_initialized`.
#[test]
fn application_transition_is_named_by_its_type() {
    let first_run = map_without_context(
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
    let foreground = map_without_context(
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
fn first_run_and_uninstall_are_separate_events() {
    assert_eq!(
        map_without_context("first_run", json!({}))["eventName"],
        "First Run"
    );
    assert_eq!(
        map_without_context("uninstall", json!({}))["eventName"],
        "Uninstall"
    );
}

/// connection: the name of a custom event is unchanged, and its attributes become `dataFields`.
#[test]
fn custom_event_keeps_name_and_attribute_types() {
    let body = json!({
        "event_name": "Quiz Completed", "custom_event_type": "Navigation",
        "custom_attributes": {
            "score": 42, "ratio": 0.75, "passed": true, "zip": "02139", "nothing": null,
            "list": ["x", null, 3], "nested": {"a": {"b": [1, {"c": "deep"}], "n": null}}
        }
    });
    let event = map_without_context("custom_event", body);
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

/// schema: attribute values can be numbers, and mParticle's IDs have 64 bits. A double cannot
/// represent 2^53 + 1 or the largest 64-bit integer.
#[test]
fn numbers_keep_full_precision() {
    let body = r#"{"user_identities":{"email":"ada@example.com"},"events":[{"event_type":"custom_event",
        "data":{"event_name":"Numbers","source_message_id":"n-1","timestamp_unixtime_ms":1764057600000,
        "custom_attributes":{"a":9007199254740993,"b":9223372036854775807,"c":-9223372036854775808,
        "d":0.1000000000000000055,"e":1.10}}}]}"#;
    let mapped = map_batch(&without_context(), body);
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

/// connection, `attemptScalarConversion`: converts strings that contain a boolean or a number.
#[test]
fn attributes_are_coerced_like_mparticle_when_configured() {
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

/// field types: Iterable's date format is `yyyy-MM-dd HH:mm:ss +00:00`. Segment's connection does
/// not change dates without a time.
#[test]
fn dates_use_iterable_format_when_configured() {
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

/// schema: `action` of a product action. mParticle's outgoing name of the event is "eCommerce -
/// AddToCart". field types: amounts are doubles even without a fraction, and positions are longs.
/// The JSON reference has amounts as strings and as empty strings.
#[test]
fn product_action_has_action_name_and_products() {
    let event = map_without_context(
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

/// schema: the ten product actions, with mParticle's outgoing names.
#[test]
fn product_actions_have_mparticle_names() {
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
        let event = map_without_context(
            "commerce_event",
            json!({"product_action": {"action": action}}),
        );
        assert_eq!(event["eventName"], name);
    }
}

/// schema: a promotion's `position` is a string, and a product's is a number.
#[test]
fn promotions_and_impressions_are_commerce_events() {
    let promotion = map_without_context(
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
    let impression = map_without_context(
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

/// schema: `register` and `is_opted_out` are booleans. A push payload is a string, with or without
/// JSON. The push token is omitted because it only addresses a device.
#[test]
fn push_and_opt_out_events_keep_their_fields() {
    let registration = map_without_context(
        "push_registration",
        json!({"register": true, "registration_token": "t"}),
    );
    assert_eq!(registration["dataFields"], json!({"register": true}));
    let message = map_without_context(
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
    let reaction = map_without_context(
        "push_reaction",
        json!({"push_notification_payload": "not json"}),
    );
    assert_eq!(
        reaction["dataFields"],
        json!({"push_notification_payload": "not json"})
    );
    let opt_out = map_without_context("opt_out", json!({"is_opted_out": "true"}));
    assert_eq!(opt_out["eventName"], "Opt Out");
    assert_eq!(opt_out["dataFields"], json!({"is_opted_out": true}));
}

/// schema: `data` of a network event has a member `data`. `response_code` is a string or a number.
/// A crash report contains breadcrumbs, which are not events of the batch.
#[test]
fn diagnostics_are_mapped_when_selected() {
    let crash = map_without_context(
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
    let network = map_without_context(
        "network_performance",
        json!({"http_verb": "GET", "url": "https://api.example.com/v1?q=a%26b", "time_elapsed": 450,
               "bytes_in": 2048, "bytes_out": 128, "response_code": "200", "data": ""}),
    );
    assert_eq!(
        network["dataFields"],
        json!({"http_verb": "GET", "url": "https://api.example.com/v1?q=a%26b", "time_elapsed": 450,
               "bytes_in": 2048, "bytes_out": 128, "response_code": 200})
    );
    let breadcrumb = map_without_context(
        "breadcrumb",
        json!({"label": "Opened cart", "session_number": 2}),
    );
    assert_eq!(
        breadcrumb["dataFields"],
        json!({"label": "Opened cart", "session_number": 2})
    );
}

/// schema: an attribute's `new` and `old` are a string, an array or null. field types: both are
/// therefore always arrays. mpids are int64 or strings.
#[test]
fn profile_events_have_one_type_per_field() {
    let profile = map_without_context(
        "profile",
        json!({"profile_event_type": "login", "previous_mpid": -7636538281262557123i64,
               "current_mpid": "7346244611012968789"}),
    );
    assert_eq!(
        profile["dataFields"],
        json!({"profile_event_type": "login", "previous_mpid": "-7636538281262557123",
               "current_mpid": "7346244611012968789"})
    );
    let text = map_without_context(
        "user_attribute_change",
        json!({"user_attribute_name": "plan", "new": "gold", "old": null, "deleted": false, "is_new_attribute": true}),
    );
    assert_eq!(
        text["dataFields"],
        json!({"user_attribute_name": "plan", "new": ["gold"], "deleted": false, "is_new_attribute": true})
    );
    let list = map_without_context(
        "user_attribute_change",
        json!({"user_attribute_name": "tags", "new": ["a", "b"], "old": "a"}),
    );
    assert_eq!(
        list["dataFields"],
        json!({"user_attribute_name": "tags", "new": ["a", "b"], "old": ["a"]})
    );
    let identity = map_without_context(
        "user_identity_change",
        json!({"new": {"identity_type": "email", "identity": "new@example.com"}, "old": null}),
    );
    assert_eq!(
        identity["dataFields"],
        json!({"new_identity_type": "email", "new_identity": "new@example.com"})
    );
    assert_eq!(
        identity["email"], "ada@example.com",
        "only the batch identifies the user"
    );
}

/// mParticle's media documentation: a custom event of the type media, with every integer as a
/// string and `source_message_id` null.
#[test]
fn numbers_as_strings_map_like_numbers() {
    let data = |time: Value, id: Value| {
        json!({"custom_event_type": "media", "event_name": "Play", "timestamp_unixtime_ms": time,
               "event_id": id, "source_message_id": null,
               "custom_attributes": {"content_duration": "120000"}})
    };
    let text = map_without_context(
        "custom_event",
        data(json!("1764057600000"), json!("-109840007014118971")),
    );
    let number = map_without_context(
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

/// schema: new event types can be added.
#[test]
fn unknown_event_type_keeps_all_members() {
    let data = json!({"hologram": "x", "size": 3, "deep": {"a": 1}});
    let event = map_without_context("hologram_view", data.clone());
    assert_eq!(event["eventName"], "hologram_view");
    assert_eq!(
        event["dataFields"],
        json!({"hologram": "x", "size": 3, "deep": {"a": 1}})
    );
    let mapped = map_batch(&MappingSpec::default(), &batch(&[("hologram_view", data)]));
    assert_eq!(mapped.skipped[0].reason, SkipReason::NotSelected);
    assert_eq!(mapped.skipped[0].event_type, "hologram_view");
}

/// schema: new members can be added. They keep their names and types, but do not replace known
/// fields.
#[test]
fn unknown_member_is_kept() {
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

/// schema: `pre_attribution` is an event type with only the common members.
#[test]
fn pre_attribution_event_keeps_common_members() {
    let event = map_without_context(
        "pre_attribution",
        json!({"session_id": -2271440000000000817i64, "session_uuid": "S-1", "event_id": 5,
               "custom_attributes": {"network": "organic"}, "event_num": 1, "device_current_state": {}}),
    );
    assert_eq!(event["eventName"], "Pre Attribution");
    assert_eq!(event["createdAt"], 1_764_057_600);
    assert_eq!(event["email"], "ada@example.com");
    assert_eq!(event["dataFields"], json!({"network": "organic"}));
}

/// JSON reference: `schema_version` is the version of a batch's format; 2 is the current one. The
/// mapping does not depend on it: identities are an object or an array, IDs are numbers or strings.
#[test]
fn schema_versions_1_and_2_map_alike() {
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
fn context_is_added_when_configured() {
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

/// By default, events that mParticle's connection forwards (custom events, purchases, push),
/// diagnostics and profile changes are skipped.
#[test]
fn default_forwards_events_that_connection_does_not() {
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
fn malformed_events_are_rejected_with_reason() {
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
