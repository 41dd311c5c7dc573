use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DATA_KEY, DATA_KEY_MESSAGE, OBJECT_NAME, OBJECT_NAME_MESSAGE, pattern_rule};

/// How mParticle events are converted to Iterable events.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MappingSpec {
    /// Events to forward. All others are skipped and counted as NotSelected. Default [SessionStart,
    /// SessionEnd, ScreenView, Commerce, ApplicationStateTransition, FirstRun, Uninstall], the user
    /// actions that mParticle's Iterable connection does not forward. Other values: CustomEvent,
    /// Media (custom events of type media), Purchase (Commerce includes all commerce events except
    /// purchases), PushRegistration, PushMessage, PushReaction, OptOut, CrashReport,
    /// NetworkPerformance, Breadcrumb, Profile, UserAttributeChange, UserIdentityChange,
    /// PreAttribution, Unknown (types that this version does not support), and All. Don't add
    /// CustomEvent, Purchase, or the push types while mParticle's Iterable connection is active:
    /// Iterable would store those events twice. Example: [SessionStart, ScreenView].
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<EventSelector>,

    /// Names of events in Iterable: a template for each type, which can contain a field of the
    /// event in braces. Example: {screenView: "Viewed {screen_name}"}.
    pub event_name: EventNameSpec,

    /// How the user of an event is identified. Example: {userIdFrom: mpid}.
    pub identity: IdentitySpec,

    /// Data fields of events: everything except name, time, and user. Example: {context: [Session,
    /// Application, Device, Locale]}.
    pub data_fields: DataFieldsSpec,

    /// What happens to events from mParticle's development environment: Skip or Forward. Default
    /// Skip, to keep test data out of a production project. Example: Forward, for a project with
    /// test data.
    pub development: SkipOrForward,

    /// What happens to events that mParticle replays (with a replay ID, or marked as historical):
    /// Forward or Skip. Default Forward: a replayed event has the event ID of its first delivery,
    /// so it overwrites that event and creates no duplicate. Example: Skip.
    pub replays: SkipOrForward,

    /// What happens to mParticle alias requests, which merge two profiles and are not events: Skip,
    /// or Reject to the dead-letter queue. Default Skip. Example: Reject.
    pub alias_requests: SkipOrReject,

    /// Custom rules: a jq program that processes every selected event. If unset, none. Example:
    /// {jq: "del(.dataFields.internal_note)"}.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<TransformSpec>,
}

impl Default for MappingSpec {
    fn default() -> Self {
        use EventSelector::*;
        Self {
            events: vec![
                SessionStart,
                SessionEnd,
                ScreenView,
                Commerce,
                ApplicationStateTransition,
                FirstRun,
                Uninstall,
            ],
            event_name: EventNameSpec::default(),
            identity: IdentitySpec::default(),
            data_fields: DataFieldsSpec::default(),
            development: SkipOrForward::Skip,
            replays: SkipOrForward::Forward,
            alias_requests: SkipOrReject::Skip,
            transform: None,
        }
    }
}

/// A group of mParticle events.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSelector {
    /// Every event.
    All,
    /// `session_start`
    SessionStart,
    /// `session_end`
    SessionEnd,
    /// `screen_view`, except Android's `activity_stopped`
    ScreenView,
    /// `custom_event` of any type except media
    CustomEvent,
    /// `custom_event` of the type media
    Media,
    /// `commerce_event` whose action is not purchase
    Commerce,
    /// `commerce_event` whose action is purchase
    Purchase,
    /// `application_state_transition`
    ApplicationStateTransition,
    /// `first_run`
    FirstRun,
    /// `uninstall`
    Uninstall,
    /// `push_registration`
    PushRegistration,
    /// `push_message`
    PushMessage,
    /// `push_reaction`
    PushReaction,
    /// `opt_out`
    OptOut,
    /// `crash_report`
    CrashReport,
    /// `network_performance`
    NetworkPerformance,
    /// `breadcrumb`
    Breadcrumb,
    /// `profile`
    Profile,
    /// `user_attribute_change`
    UserAttributeChange,
    /// `user_identity_change`
    UserIdentityChange,
    /// `pre_attribution`
    PreAttribution,
    /// A type that this version does not support.
    Unknown,
}

/// Pattern of a string with placeholders in braces.
const TEMPLATE: &str = r"^[^{}]*(\{[^{}]+\}[^{}]*)*$";

const TEMPLATE_MESSAGE: &str =
    "braces must come in pairs around a field name, for example Viewed {screen_name}";

/// Names of events in Iterable. A name is a template: `{screen_name}` is replaced by that field of
/// the event. Every field of the type (see the mapping documentation) and `{event_type}` can be
/// used. A name longer than 256 characters is truncated. Iterable can't rename an event later, and
/// event names are case-sensitive.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct EventNameSpec {
    /// Name of session starts. Default "Session Start". Example: "App Opened".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub session_start: String,
    /// Name of session ends. Default "Session End". Example: "App Closed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub session_end: String,
    /// Name of screen views. The screen is in the field `screen_name`. Default "Screen View".
    /// Example: "Viewed {screen_name}", one name per screen.
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub screen_view: String,
    /// Name of custom events. Default "{event_name}", the name that mParticle's Iterable connection
    /// uses. Example: "App: {event_name}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub custom_event: String,
    /// Name of custom events of type media. Default "{event_name}". Example: "Media: {event_name}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub media: String,
    /// Name of commerce events except purchases. Default "eCommerce - {action}", for example
    /// "eCommerce - AddToCart", the name that mParticle uses. Example: "Shop {action}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub commerce: String,
    /// Name of purchases. Default "eCommerce - {action}". Example: "Order Completed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub purchase: String,
    /// Name of application state transitions. Default "Application {transition}", where the
    /// transition is Initialized, Foreground, Background, or Exit. Example: "App {transition}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub application_state_transition: String,
    /// Name of the first run of an application. Default "First Run". Example: "App Installed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub first_run: String,
    /// Name of uninstalls. Default "Uninstall". Example: "App Removed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub uninstall: String,
    /// Name of push registrations. Default "Push Registration". Example: "Push Token Changed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub push_registration: String,
    /// Name of push messages. Default "Push Message". Example: "Push Received".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub push_message: String,
    /// Name of reactions to push messages. Default "Push Reaction". Example: "Push Opened".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub push_reaction: String,
    /// Name of opt-out events, including opting in again. Default "Opt Out". Example: "Tracking
    /// Choice".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub opt_out: String,
    /// Name of crash reports. Default "Crash Report". Example: "App Crash".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub crash_report: String,
    /// Name of network performance events. Default "Network Performance". Example: "App Request".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub network_performance: String,
    /// Name of breadcrumbs. Default "Breadcrumb". Example: "App Trace".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub breadcrumb: String,
    /// Name of profile events. Default "Profile". Example: "Profile {profile_event_type}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub profile: String,
    /// Name of user attribute changes. Default "User Attribute Change". Example: "Attribute
    /// Changed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub user_attribute_change: String,
    /// Name of user identity changes. Default "User Identity Change". Example: "Identity Changed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub user_identity_change: String,
    /// Name of pre-attribution events. Default "Pre Attribution". Example: "Attribution".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub pre_attribution: String,
    /// Name of events whose type this version does not support. Default "{event_type}". Example:
    /// "mParticle {event_type}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub unknown: String,
}

impl Default for EventNameSpec {
    fn default() -> Self {
        Self {
            session_start: "Session Start".to_owned(),
            session_end: "Session End".to_owned(),
            screen_view: "Screen View".to_owned(),
            custom_event: "{event_name}".to_owned(),
            media: "{event_name}".to_owned(),
            commerce: "eCommerce - {action}".to_owned(),
            purchase: "eCommerce - {action}".to_owned(),
            application_state_transition: "Application {transition}".to_owned(),
            first_run: "First Run".to_owned(),
            uninstall: "Uninstall".to_owned(),
            push_registration: "Push Registration".to_owned(),
            push_message: "Push Message".to_owned(),
            push_reaction: "Push Reaction".to_owned(),
            opt_out: "Opt Out".to_owned(),
            crash_report: "Crash Report".to_owned(),
            network_performance: "Network Performance".to_owned(),
            breadcrumb: "Breadcrumb".to_owned(),
            profile: "Profile".to_owned(),
            user_attribute_change: "User Attribute Change".to_owned(),
            user_identity_change: "User Identity Change".to_owned(),
            pre_attribution: "Pre Attribution".to_owned(),
            unknown: "{event_type}".to_owned(),
        }
    }
}

/// How the user of an event is identified. Depends on `iterable.projectType`: in an Email project
/// by the email identity in lowercase, in a UserId project by the userId, in a Hybrid project by
/// the email, or by the userId if there is no email. Event attributes never identify the user.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentitySpec {
    /// Source of the userId: "customer_id", "mpid" (the mParticle ID), or another mParticle
    /// identity type. Use the same one as mParticle's Iterable connection, so that both identify
    /// the same user. Default "customer_id". Example: "other_id_2".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(r"^[a-z][a-z0-9_]*$", "must be an mParticle identity type in lowercase: customer_id, mpid, or another, for example other_id_2")), length(max = 64))]
    pub user_id_from: String,

    /// What happens to an event without a user: Skip, counted as NoUser; or PlaceholderEmail, only
    /// in Email projects: the address that mParticle's Iterable connection creates,
    /// `<x>@placeholder.email`. x is the mParticle ID if `userIdFrom` is "mpid", else the first one
    /// available of the device IDs (iOS and tvOS: IDFV, IDFA; Android: advertising ID, Android ID),
    /// the customer ID, and `mp_deviceid`. Default Skip. Example: PlaceholderEmail.
    pub without_user: MissingUserPolicy,
}

impl Default for IdentitySpec {
    fn default() -> Self {
        Self {
            user_id_from: "customer_id".to_owned(),
            without_user: MissingUserPolicy::Skip,
        }
    }
}

/// What happens to an event without a user.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingUserPolicy {
    /// Skips and counts the event.
    Skip,
    /// Uses the placeholder address that mParticle's Iterable connection creates.
    PlaceholderEmail,
}

/// Data fields of events: everything except name, time, and user. The first value of a field
/// permanently sets its type in Iterable, and Iterable can't delete fields.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct DataFieldsSpec {
    /// Groups of fields to add to every event, besides its fields and custom attributes: Session
    /// (session_uuid), Application (application_name, application_version), Device (platform,
    /// os_version, device_model), Location (latitude, longitude, and place names), Locale
    /// (locale_language, locale_country, timezone_offset), Source (channel, partner, mpid,
    /// environment). Default [Session, Application, Device]. Example: [Session, Application,
    /// Device, Locale].
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub context: Vec<ContextGroup>,

    /// Conversion of custom attributes from strings to numbers and booleans: Never; or
    /// LikeMParticle, as mParticle's Iterable connection does it: "true" and "false" in any case,
    /// 32-bit integers ("007" is 7), and fractions. Default Never, because "02139" may be a postal
    /// code. Example: LikeMParticle.
    pub coerce: Coerce,

    /// Conversion of ISO 8601 strings with a date and time to Iterable's date format (`yyyy-MM-dd
    /// HH:mm:ss +00:00`): Keep or Iterable. Dates without a time are kept. Default Keep. Example:
    /// Iterable.
    pub dates: Dates,

    /// What happens to a field whose name Iterable's schema rejects (only digits, a leading `_`, a
    /// `,` or `#`): Rename (`,` and `#` become `_`, each leading `_` is removed, digits get the
    /// prefix `field_`) or Drop. Both are counted. Default Rename. Example: Drop.
    pub refused_names: RefusedNames,

    /// What happens to a dot in a field name, which Iterable interprets as a path into an object:
    /// Replace (with `_`) or Keep. Default Replace. Example: Keep.
    pub dots: Dots,

    /// Name of a field for the event time in milliseconds. It preserves the order within a second,
    /// because Iterable's `createdAt` is in whole seconds. If unset, none. Example:
    /// "event_time_ms".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(r"^[A-Za-z][A-Za-z0-9_ -]*$", "must be a valid field name: a letter, then letters, digits, spaces, dashes, and underscores, for example event_time_ms")), length(max = 64))]
    pub milliseconds_field: Option<String>,
}

impl Default for DataFieldsSpec {
    fn default() -> Self {
        Self {
            context: vec![
                ContextGroup::Session,
                ContextGroup::Application,
                ContextGroup::Device,
            ],
            coerce: Coerce::Never,
            dates: Dates::Keep,
            refused_names: RefusedNames::Rename,
            dots: Dots::Replace,
            milliseconds_field: None,
        }
    }
}

/// A group of context fields that can be added to every event.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextGroup {
    /// `session_uuid`
    Session,
    /// `application_name`, `application_version`
    Application,
    /// `platform`, `os_version`, `device_model`
    Device,
    /// `latitude`, `longitude`, and place names
    Location,
    /// `locale_language`, `locale_country`, `timezone_offset`
    Locale,
    /// `channel`, `partner`, `mpid`, `environment`
    Source,
}

/// Conversion of strings to numbers and booleans.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coerce {
    /// Keeps strings.
    Never,
    /// Converts them as mParticle's Iterable connection does.
    LikeMParticle,
}

/// Conversion of dates.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// Keeps dates as received.
    Keep,
    /// Converts dates to `yyyy-MM-dd HH:mm:ss +00:00`.
    Iterable,
}

/// What happens to a field whose name Iterable rejects.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedNames {
    /// Renames it to a name that Iterable accepts.
    Rename,
    /// Drops it.
    Drop,
}

/// What happens to a dot in a field name.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dots {
    /// Replaces it with `_`.
    Replace,
    /// Keeps it, so Iterable interprets a path.
    Keep,
}

/// Whether to skip or forward.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipOrForward {
    /// Skips and counts.
    Skip,
    /// Forwards like other events.
    Forward,
}

/// Whether to skip or reject.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipOrReject {
    /// Skips and counts.
    Skip,
    /// Sends to the dead-letter queue.
    Reject,
}

/// Custom rules: a jq program, either inline or in a ConfigMap. Its input is the Iterable event
/// after the rest of the mapping. `$event` is the mParticle event, and `$batch` is its batch
/// without the events. Its output is the event to send. No output, or null, skips the event. An
/// error, or exceeding the resource limits, rejects only that event.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.jq) != has(self.configMapKeyRef)",
    "message": "spec.mapping.transform requires exactly one of jq and configMapKeyRef"
}]))]
pub struct TransformSpec {
    /// The program, at most 16,384 bytes. If unset, it is read from `configMapKeyRef`.
    /// Example: "del(.dataFields.internal_note)".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16_384))]
    pub jq: Option<String>,

    /// Key of a ConfigMap, in the same namespace, that contains the program. If unset, it is in
    /// `jq`. Example: {name: event-rules, key: transform.jq}.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// A key of a ConfigMap in the namespace of the EventForwarder.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap. Example: "event-rules".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(OBJECT_NAME, OBJECT_NAME_MESSAGE)), length(min = 1, max = 253))]
    pub name: String,

    /// Key in the data of the ConfigMap. Default "transform.jq". Example: "purchases.jq".
    #[serde(default = "default_transform_key")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(DATA_KEY, DATA_KEY_MESSAGE)), length(min = 1, max = 253))]
    pub key: String,
}

fn default_transform_key() -> String {
    "transform.jq".to_owned()
}
