//! Which members of an event become fields, under what name and of which type, and which known ones
//! do not. Members that are not known are kept as attributes are.
//!
//! Members: mParticle's events API schema and JSON reference. The mapping runs on this table,
//! and `docs/mapping.md` is checked against it.

use FieldType::{
    Attributes, Boolean, Decimal, Ignored, Inline, Integer, NameOnly, Objects, Text, TextList,
};

/// What a member holds, and so how it is written. mParticle sends numbers and booleans as text
/// now and then; Iterable fixes a field's type by its first value. So each known field has one.
#[derive(Clone, Copy, Debug)]
pub enum FieldType {
    /// Text; numbers and booleans are put in quotes.
    Text,
    /// A whole number.
    Integer,
    /// A number, written with a fraction even if it is whole, so that its type is double.
    Decimal,
    /// A boolean.
    Boolean,
    /// A list of text; a single value becomes a list of one.
    TextList,
    /// A list of objects with these members.
    Objects(&'static [Field]),
    /// An object whose members stand beside the event's own.
    Inline(&'static [Field]),
    /// An object of the sender's own making.
    Attributes,
    /// Usable in an event's name only.
    NameOnly,
    /// Known, and of no use to a marketer: the address of a device, a file, what another member
    /// says as well.
    Ignored,
}

/// A known member of mParticle's data.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name at mParticle.
    pub source: &'static str,
    /// Its name at Iterable.
    pub target: &'static str,
    /// What it holds.
    pub field_type: FieldType,
}

const fn field(name: &'static str, holds: FieldType) -> Field {
    Field {
        source: name,
        target: name,
        field_type: holds,
    }
}

const fn renamed(from: &'static str, to: &'static str, holds: FieldType) -> Field {
    Field {
        source: from,
        target: to,
        field_type: holds,
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
