//! The known members of events: their field names and types, and which of them are ignored. Unknown
//! members are handled like attributes.
//!
//! Source: mParticle's events API schema and JSON reference. The mapping uses this table, and
//! `docs/mapping.md` is checked against it.

use FieldType::{
    Attributes, Boolean, Decimal, Ignored, Inline, Integer, NameOnly, Objects, Text, TextList,
};

/// The type of a field. mParticle sometimes sends numbers and booleans as strings, and Iterable
/// fixes a field's type by its first value. Therefore every known field has one type.
#[derive(Clone, Copy, Debug)]
pub enum FieldType {
    /// A string. Numbers and booleans are quoted.
    Text,
    /// An integer.
    Integer,
    /// A number, written with a fraction even if it is whole, so that its type is double.
    Decimal,
    /// A boolean.
    Boolean,
    /// An array of strings. A single value becomes an array of one.
    TextList,
    /// An array of objects with these members.
    Objects(&'static [Field]),
    /// An object whose members become fields of the event.
    Inline(&'static [Field]),
    /// An object with members chosen by the sender.
    Attributes,
    /// Usable only in the event name template.
    NameOnly,
    /// Known, but of no use to a marketer: a device token, a file, or a duplicate of another
    /// member.
    Ignored,
}

/// A known member of mParticle's `data`.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The member's name at mParticle.
    pub source: &'static str,
    /// The field's name at Iterable.
    pub target: &'static str,
    /// The field's type.
    pub field_type: FieldType,
}

const fn field(name: &'static str, field_type: FieldType) -> Field {
    Field {
        source: name,
        target: name,
        field_type,
    }
}

const fn renamed(source: &'static str, target: &'static str, field_type: FieldType) -> Field {
    Field {
        source,
        target,
        field_type,
    }
}

const PRODUCT: &[Field] = &[
    field("id", Text),
    field("name", Text),
    field("brand", Text),
    field("category", Text),
    field("variant", Text),
    field("position", Integer),
    field("price", Decimal),
    field("quantity", Decimal),
    field("coupon_code", Text),
    field("added_to_cart_time_ms", Integer),
    field("total_product_amount", Decimal),
    field("custom_attributes", Attributes),
];

const PROMOTION: &[Field] = &[
    field("id", Text),
    field("name", Text),
    field("creative", Text),
    field("position", Text),
];

pub const COMMERCE: &[Field] = &[
    field("event_name", NameOnly),
    field("custom_event_type", Ignored),
    field("currency_code", Text),
    field("screen_name", Text),
    field("is_non_interactive", Boolean),
    field(
        "product_action",
        Inline(&[
            field("action", Text),
            field("checkout_step", Integer),
            field("checkout_options", Text),
            field("product_action_list", Text),
            field("product_list_source", Text),
            field("transaction_id", Text),
            field("affiliation", Text),
            field("total_amount", Decimal),
            field("tax_amount", Decimal),
            field("shipping_amount", Decimal),
            field("coupon_code", Text),
            field("products", Objects(PRODUCT)),
        ]),
    ),
    field(
        "promotion_action",
        Inline(&[
            field("action", Text),
            field("promotions", Objects(PROMOTION)),
        ]),
    ),
    field(
        "product_impressions",
        Objects(&[
            field("product_impression_list", Text),
            field("products", Objects(PRODUCT)),
        ]),
    ),
    field(
        "shopping_cart",
        Inline(&[renamed("products", "shopping_cart", Objects(PRODUCT))]),
    ),
];

pub const CUSTOM: &[Field] = &[
    field("event_name", NameOnly),
    field("custom_event_type", Text),
];

pub const SESSION_END: &[Field] = &[field("session_duration_ms", Integer)];

pub const SCREEN_VIEW: &[Field] = &[field("screen_name", Text), field("activity_type", Ignored)];

pub const APPLICATION_STATE_TRANSITION: &[Field] = &[
    field("application_transition_type", Text),
    field("is_first_run", Boolean),
    field("is_upgrade", Boolean),
    field("successfully_closed", Boolean),
    field("launch_referral", Text),
    field("push_notification_payload", Text),
];

pub const PUSH_REGISTRATION: &[Field] = &[
    field("register", Boolean),
    field("registration_token", Ignored),
];

pub const PUSH_MESSAGE: &[Field] = &[
    field("push_message_type", Text),
    field("message", Text),
    field("network", Text),
    field("application_state", Text),
    field("action_identifier", Text),
    field("push_message_behavior", Text),
    field("push_notification_payload", Text),
    field("push_message_token", Ignored),
];

pub const PUSH_REACTION: &[Field] = &[field("push_notification_payload", Text)];

pub const OPT_OUT: &[Field] = &[field("is_opted_out", Boolean)];

pub const CRASH_REPORT: &[Field] = &[
    field("class_name", Text),
    field("severity", Text),
    field("message", Text),
    field("stack_trace", Text),
    field("exception_handled", Boolean),
    field("topmost_context", Text),
    field("session_number", Integer),
    field("pl_crash_report_file_base64", Ignored),
    field("ios_image_base_address", Ignored),
    field("ios_image_size", Ignored),
    field("breadcrumbs", Ignored),
];

pub const NETWORK_PERFORMANCE: &[Field] = &[
    field("http_verb", Text),
    field("url", Text),
    field("time_elapsed", Integer),
    field("bytes_in", Integer),
    field("bytes_out", Integer),
    field("response_code", Integer),
    field("data", Ignored),
];

pub const BREADCRUMB: &[Field] = &[field("label", Text), field("session_number", Integer)];

pub const PROFILE: &[Field] = &[
    field("profile_event_type", Text),
    field("previous_mpid", Text),
    field("current_mpid", Text),
];

pub const USER_ATTRIBUTE_CHANGE: &[Field] = &[
    field("user_attribute_name", Text),
    field("new", TextList),
    field("old", TextList),
    field("deleted", Boolean),
    field("is_new_attribute", Boolean),
];

pub const USER_IDENTITY_CHANGE: &[Field] = &[
    field(
        "new",
        Inline(&[
            renamed("identity_type", "new_identity_type", Text),
            renamed("identity", "new_identity", Text),
        ]),
    ),
    field(
        "old",
        Inline(&[
            renamed("identity_type", "old_identity_type", Text),
            renamed("identity", "old_identity", Text),
        ]),
    ),
];
