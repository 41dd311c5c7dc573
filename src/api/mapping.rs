use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DATA_KEY, DATA_KEY_MESSAGE, OBJECT_NAME, OBJECT_NAME_MESSAGE, pattern_rule};

/// How mParticle events become Iterable events.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MappingSpec {
    /// The events that are forwarded; all others are skipped and counted as NotSelected. Default
    /// [SessionStart, SessionEnd, ScreenView, Commerce, ApplicationStateTransition, FirstRun,
    /// Uninstall], which is what people do that mParticle's own Iterable connection does not take.
    /// Further values:
    /// CustomEvent, Media (custom events of the type media), Purchase (Commerce is every commerce
    /// event but a purchase), PushRegistration, PushMessage, PushReaction, OptOut, CrashReport,
    /// NetworkPerformance, Breadcrumb, Profile, UserAttributeChange, UserIdentityChange,
    /// PreAttribution, Unknown (types that this version does not know) and All. Don't add
    /// CustomEvent, Purchase or the push types while mParticle's own connection is on: Iterable
    /// would store those events twice. Example: [SessionStart, ScreenView].
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<EventSelector>,

    /// How events are named in Iterable: a template for each type, in which a field of the event
    /// may stand in braces. Example: {screenView: "Viewed {screen_name}"}.
    pub event_name: EventNameSpec,

    /// Whose event it is. Example: {userIdFrom: mpid}.
    pub identity: IdentitySpec,

    /// What an event carries besides its name, time and user. Example: {context: [Session,
    /// Application, Device, Locale]}.
    pub data_fields: DataFieldsSpec,

    /// What happens to events of mParticle's development environment: Skip or Forward. Default
    /// Skip, so that test data stays out of a live project. Example: Forward, for a project of test
    /// data.
    pub development: SkipOrForward,

    /// What happens to events that mParticle replays (a replay id, or marked as historical):
    /// Forward or Skip. Default Forward: a replayed event has the id of its first delivery, so it
    /// overwrites and does not double. Example: Skip.
    pub replays: SkipOrForward,

    /// What happens to mParticle's alias requests, which merge two profiles and are no events:
    /// Skip, or Reject into the dead-letter queue. Default Skip. Example: Reject.
    pub alias_requests: SkipOrReject,

    /// Rules of your own, as a jq program that sees every selected event. Left out: none. Example:
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
    /// `screen_view`, but for Android's `activity_stopped`
    ScreenView,
    /// `custom_event` of any type but media
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
    /// A type that this version does not know.
    Unknown,
}

/// Text with placeholders in braces.
const TEMPLATE: &str = r"^[^{}]*(\{[^{}]+\}[^{}]*)*$";

const TEMPLATE_MESSAGE: &str =
    "braces must come in pairs around the name of a field, for example Viewed {screen_name}";

/// Names of events in Iterable. A name is a template: `{screen_name}` stands for that field of
/// the event, and any field that the type has may stand in braces (the documentation of the
/// mapping lists them), as may `{event_type}`. A name longer than 256 characters is cut. Iterable
/// can't rename an event later, and tells names apart by case.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct EventNameSpec {
    /// The name of session starts. Default "Session Start". Example: "App Opened".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub session_start: String,
    /// The name of session ends. Default "Session End". Example: "App Closed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub session_end: String,
    /// The name of screen views; the screen is the field `screen_name`. Default "Screen View".
    /// Example: "Viewed {screen_name}", a name per screen.
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub screen_view: String,
    /// The name of custom events. Default "{event_name}", the name that mParticle's own connection
    /// gives. Example: "App: {event_name}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub custom_event: String,
    /// The name of custom events of the type media. Default "{event_name}". Example: "Media:
    /// {event_name}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub media: String,
    /// The name of commerce events but for purchases. Default "eCommerce - {action}", which makes
    /// "eCommerce - AddToCart", as mParticle names them itself. Example: "Shop {action}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub commerce: String,
    /// The name of purchases. Default "eCommerce - {action}". Example: "Order Completed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub purchase: String,
    /// The name of application state transitions. Default "Application {transition}", where the
    /// transition is Initialized, Foreground, Background or Exit. Example: "App {transition}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub application_state_transition: String,
    /// The name of an application's first run. Default "First Run". Example: "App Installed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub first_run: String,
    /// The name of uninstalls. Default "Uninstall". Example: "App Removed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub uninstall: String,
    /// The name of registrations for push messages. Default "Push Registration". Example: "Push
    /// Token Changed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub push_registration: String,
    /// The name of push messages. Default "Push Message". Example: "Push Received".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub push_message: String,
    /// The name of reactions to push messages. Default "Push Reaction". Example: "Push Opened".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub push_reaction: String,
    /// The name of opt-outs and of their withdrawal. Default "Opt Out". Example: "Tracking Choice".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub opt_out: String,
    /// The name of crash reports. Default "Crash Report". Example: "App Crash".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub crash_report: String,
    /// The name of measurements of network requests. Default "Network Performance". Example: "App
    /// Request".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub network_performance: String,
    /// The name of breadcrumbs. Default "Breadcrumb". Example: "App Trace".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub breadcrumb: String,
    /// The name of profile events. Default "Profile". Example: "Profile {profile_event_type}".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub profile: String,
    /// The name of changes of user attributes. Default "User Attribute Change". Example: "Attribute
    /// Changed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub user_attribute_change: String,
    /// The name of changes of user identities. Default "User Identity Change". Example: "Identity
    /// Changed".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub user_identity_change: String,
    /// The name of pre-attribution events. Default "Pre Attribution". Example: "Attribution".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(TEMPLATE, TEMPLATE_MESSAGE)), length(min = 1, max = 256))]
    pub pre_attribution: String,
    /// The name of events whose type this version does not know. Default "{event_type}". Example:
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

/// Whose event it is. By `iterable.projectType`: in an Email project the user is named by the
/// email identity, lowered; in a UserId project by the userId; in a Hybrid project by the email,
/// or else by the userId. Event attributes never name the user.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentitySpec {
    /// Where the userId comes from: "customer_id", "mpid" (the mParticle ID), or another identity
    /// type of mParticle. Take what mParticle's own connection uses, so that both name the same
    /// person. Default "customer_id". Example: "other_id_2".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(r"^[a-z][a-z0-9_]*$", "this is no identity type of mParticle: write customer_id, mpid or another in small letters, for example other_id_2")), length(max = 64))]
    pub user_id_from: String,

    /// What happens to an event without a user: Skip, counted as NoUser; or PlaceholderEmail, in
    /// Email projects only: the address that mParticle's own connection makes,
    /// `<x>@placeholder.email`, where x is the first of the device ids in its order (iOS and tvOS:
    /// IDFV, IDFA; Android: advertising id, Android ID), the customer id and `mp_deviceid`, or the
    /// mParticle ID if `userIdFrom` is "mpid". Default Skip. Example: PlaceholderEmail.
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
    /// It is skipped and counted.
    Skip,
    /// It gets the placeholder address that mParticle's own connection makes.
    PlaceholderEmail,
}

/// What an event carries besides its name, time and user. Iterable fixes a field's type for
/// ever by its first value, and can't delete fields.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct DataFieldsSpec {
    /// What is added to each event besides its own fields and custom attributes: Session
    /// (session_uuid), Application (application_name, application_version), Device (platform,
    /// os_version, device_model), Location (latitude, longitude and place names), Locale
    /// (locale_language, locale_country, timezone_offset), Source (channel, partner, mpid,
    /// environment). Default [Session, Application, Device]. Example: [Session, Application,
    /// Device, Locale].
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub context: Vec<ContextGroup>,

    /// Whether custom attributes that are text become numbers and booleans, as mParticle's own
    /// connection makes them: Never; or LikeMParticle: "true" and "false" in any case, whole
    /// numbers of 32 bits ("007" is 7) and fractions. Default Never, since "02139" may be a postal
    /// code. Example: LikeMParticle.
    pub coerce: Coerce,

    /// Whether text that is a date and time of ISO 8601 is written as Iterable's date (`yyyy-MM-dd
    /// HH:mm:ss +00:00`): Keep or Iterable. Days without a time are kept. Default Keep. Example:
    /// Iterable.
    pub dates: Dates,

    /// What happens to a field whose name Iterable's schema refuses (only digits, a leading `_`, a
    /// `,` or `#`): Rename (`,` and `#` become `_`, leading `_` go, digits get the prefix `field_`)
    /// or Drop. Either is counted. Default Rename. Example: Drop.
    pub refused_names: RefusedNames,

    /// What happens to a dot in a field's name, which Iterable reads as a path into an object:
    /// Replace (by `_`) or Keep. Default Replace. Example: Keep.
    pub dots: Dots,

    /// A field for the event's time in milliseconds, since Iterable's own `createdAt` holds whole
    /// seconds; it keeps the order within a second. Left out: none. Example: "event_time_ms".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(r"^[A-Za-z][A-Za-z0-9_ -]*$", "a field's name begins with a letter and holds only letters, digits, blanks, dashes and underscores, for example event_time_ms")), length(max = 64))]
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

/// Fields that come from around the event.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextGroup {
    /// `session_uuid`
    Session,
    /// `application_name`, `application_version`
    Application,
    /// `platform`, `os_version`, `device_model`
    Device,
    /// `latitude`, `longitude` and place names
    Location,
    /// `locale_language`, `locale_country`, `timezone_offset`
    Locale,
    /// `channel`, `partner`, `mpid`, `environment`
    Source,
}

/// Whether text becomes numbers and booleans.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coerce {
    /// Text stays text.
    Never,
    /// As mParticle's own Iterable connection does it.
    LikeMParticle,
}

/// How dates are written.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// As they came.
    Keep,
    /// As `yyyy-MM-dd HH:mm:ss +00:00`.
    Iterable,
}

/// What happens to a field with a name that Iterable refuses.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedNames {
    /// It gets a name that Iterable takes.
    Rename,
    /// It is left out.
    Drop,
}

/// What happens to a dot in a field's name.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dots {
    /// It becomes `_`.
    Replace,
    /// It stays, and Iterable reads a path.
    Keep,
}

/// Skip or forward.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipOrForward {
    /// Skipped and counted.
    Skip,
    /// Forwarded like any other.
    Forward,
}

/// Skip or reject.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipOrReject {
    /// Skipped and counted.
    Skip,
    /// Put into the dead-letter queue.
    Reject,
}

/// Rules of your own: one jq program, given here or in a ConfigMap. Its input is the Iterable
/// event as the rest of the mapping made it, `$event` is the mParticle event and `$batch` the
/// batch around it, without its events. Its output is the event to send; no output, or null, skips the
/// event. An error, or a program that needs too much, rejects that one event.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.jq) != has(self.configMapKeyRef)",
    "message": "spec.mapping.transform needs exactly one of jq and configMapKeyRef"
}]))]
pub struct TransformSpec {
    /// The program itself, of 16,384 characters at most. Left out: it stands in a ConfigMap.
    /// Example: "del(.dataFields.internal_note)".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16_384))]
    pub jq: Option<String>,

    /// The ConfigMap, in the same namespace, and the key in it that hold the program. Left out: it
    /// stands in `jq`. Example: {name: event-rules, key: transform.jq}.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// One key of a ConfigMap in the forwarder's own namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// The ConfigMap's name. Example: "event-rules".
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(OBJECT_NAME, OBJECT_NAME_MESSAGE)), length(min = 1, max = 253))]
    pub name: String,

    /// The key in the ConfigMap's data. Default "transform.jq". Example: "purchases.jq".
    #[serde(default = "default_transform_key")]
    #[schemars(extend("x-kubernetes-validations" = pattern_rule(DATA_KEY, DATA_KEY_MESSAGE)), length(min = 1, max = 253))]
    pub key: String,
}

fn default_transform_key() -> String {
    "transform.jq".to_owned()
}
