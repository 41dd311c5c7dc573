//! mParticle's event types: how each is selected and named, and which of its members become fields.
//! Source of the types: mParticle's events API schema.

use crate::api::{EventNameSpec, EventSelector};

use super::{
    field_table::{self, Field},
    mparticle::EventData,
    raw::RawJson,
};

/// The kind of an event: its type, with commerce and custom events subdivided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// `session_start`
    SessionStart,
    /// `session_end`
    SessionEnd,
    /// `screen_view`
    ScreenView,
    /// `custom_event`, except media
    CustomEvent,
    /// `custom_event` of the type media
    Media,
    /// `commerce_event`, except purchases
    Commerce,
    /// `commerce_event` with the action purchase
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
    /// Any other type.
    Unknown,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 22] = [
        Self::SessionStart,
        Self::SessionEnd,
        Self::ScreenView,
        Self::CustomEvent,
        Self::Media,
        Self::Commerce,
        Self::Purchase,
        Self::ApplicationStateTransition,
        Self::FirstRun,
        Self::Uninstall,
        Self::PushRegistration,
        Self::PushMessage,
        Self::PushReaction,
        Self::OptOut,
        Self::CrashReport,
        Self::NetworkPerformance,
        Self::Breadcrumb,
        Self::Profile,
        Self::UserAttributeChange,
        Self::UserIdentityChange,
        Self::PreAttribution,
        Self::Unknown,
    ];

    /// Returns the kind of an event by its type and data.
    pub fn from_event(event_type: &str, data: &EventData<'_>) -> Self {
        match event_type {
            "session_start" => Self::SessionStart,
            "session_end" => Self::SessionEnd,
            "screen_view" => Self::ScreenView,
            "custom_event" if is_media(data) => Self::Media,
            "custom_event" => Self::CustomEvent,
            "commerce_event" if is_purchase(data) => Self::Purchase,
            "commerce_event" => Self::Commerce,
            "application_state_transition" => Self::ApplicationStateTransition,
            "first_run" => Self::FirstRun,
            "uninstall" => Self::Uninstall,
            "push_registration" => Self::PushRegistration,
            "push_message" => Self::PushMessage,
            "push_reaction" => Self::PushReaction,
            "opt_out" => Self::OptOut,
            "crash_report" => Self::CrashReport,
            "network_performance" => Self::NetworkPerformance,
            "breadcrumb" => Self::Breadcrumb,
            "profile" => Self::Profile,
            "user_attribute_change" => Self::UserAttributeChange,
            "user_identity_change" => Self::UserIdentityChange,
            "pre_attribution" => Self::PreAttribution,
            _ => Self::Unknown,
        }
    }

    /// Returns mParticle's `event_type`, or `None` for unknown types.
    pub const fn event_type(self) -> Option<&'static str> {
        Some(match self {
            Self::SessionStart => "session_start",
            Self::SessionEnd => "session_end",
            Self::ScreenView => "screen_view",
            Self::CustomEvent | Self::Media => "custom_event",
            Self::Commerce | Self::Purchase => "commerce_event",
            Self::ApplicationStateTransition => "application_state_transition",
            Self::FirstRun => "first_run",
            Self::Uninstall => "uninstall",
            Self::PushRegistration => "push_registration",
            Self::PushMessage => "push_message",
            Self::PushReaction => "push_reaction",
            Self::OptOut => "opt_out",
            Self::CrashReport => "crash_report",
            Self::NetworkPerformance => "network_performance",
            Self::Breadcrumb => "breadcrumb",
            Self::Profile => "profile",
            Self::UserAttributeChange => "user_attribute_change",
            Self::UserIdentityChange => "user_identity_change",
            Self::PreAttribution => "pre_attribution",
            Self::Unknown => return None,
        })
    }

    /// Returns the value of `mapping.events` that selects this kind.
    pub const fn selector(self) -> EventSelector {
        match self {
            Self::SessionStart => EventSelector::SessionStart,
            Self::SessionEnd => EventSelector::SessionEnd,
            Self::ScreenView => EventSelector::ScreenView,
            Self::CustomEvent => EventSelector::CustomEvent,
            Self::Media => EventSelector::Media,
            Self::Commerce => EventSelector::Commerce,
            Self::Purchase => EventSelector::Purchase,
            Self::ApplicationStateTransition => EventSelector::ApplicationStateTransition,
            Self::FirstRun => EventSelector::FirstRun,
            Self::Uninstall => EventSelector::Uninstall,
            Self::PushRegistration => EventSelector::PushRegistration,
            Self::PushMessage => EventSelector::PushMessage,
            Self::PushReaction => EventSelector::PushReaction,
            Self::OptOut => EventSelector::OptOut,
            Self::CrashReport => EventSelector::CrashReport,
            Self::NetworkPerformance => EventSelector::NetworkPerformance,
            Self::Breadcrumb => EventSelector::Breadcrumb,
            Self::Profile => EventSelector::Profile,
            Self::UserAttributeChange => EventSelector::UserAttributeChange,
            Self::UserIdentityChange => EventSelector::UserIdentityChange,
            Self::PreAttribution => EventSelector::PreAttribution,
            Self::Unknown => EventSelector::Unknown,
        }
    }

    /// Returns the key of `mapping.eventName` for this kind, and its template.
    pub fn template(self, names: &EventNameSpec) -> (&'static str, &str) {
        match self {
            Self::SessionStart => ("sessionStart", &names.session_start),
            Self::SessionEnd => ("sessionEnd", &names.session_end),
            Self::ScreenView => ("screenView", &names.screen_view),
            Self::CustomEvent => ("customEvent", &names.custom_event),
            Self::Media => ("media", &names.media),
            Self::Commerce => ("commerce", &names.commerce),
            Self::Purchase => ("purchase", &names.purchase),
            Self::ApplicationStateTransition => (
                "applicationStateTransition",
                &names.application_state_transition,
            ),
            Self::FirstRun => ("firstRun", &names.first_run),
            Self::Uninstall => ("uninstall", &names.uninstall),
            Self::PushRegistration => ("pushRegistration", &names.push_registration),
            Self::PushMessage => ("pushMessage", &names.push_message),
            Self::PushReaction => ("pushReaction", &names.push_reaction),
            Self::OptOut => ("optOut", &names.opt_out),
            Self::CrashReport => ("crashReport", &names.crash_report),
            Self::NetworkPerformance => ("networkPerformance", &names.network_performance),
            Self::Breadcrumb => ("breadcrumb", &names.breadcrumb),
            Self::Profile => ("profile", &names.profile),
            Self::UserAttributeChange => ("userAttributeChange", &names.user_attribute_change),
            Self::UserIdentityChange => ("userIdentityChange", &names.user_identity_change),
            Self::PreAttribution => ("preAttribution", &names.pre_attribution),
            Self::Unknown => ("unknown", &names.unknown),
        }
    }

    /// Returns the known members. An unknown kind has none.
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::SessionEnd => field_table::SESSION_END,
            Self::ScreenView => field_table::SCREEN_VIEW,
            Self::CustomEvent | Self::Media => field_table::CUSTOM,
            Self::Commerce | Self::Purchase => field_table::COMMERCE,
            Self::ApplicationStateTransition => field_table::APPLICATION_STATE_TRANSITION,
            Self::PushRegistration => field_table::PUSH_REGISTRATION,
            Self::PushMessage => field_table::PUSH_MESSAGE,
            Self::PushReaction => field_table::PUSH_REACTION,
            Self::OptOut => field_table::OPT_OUT,
            Self::CrashReport => field_table::CRASH_REPORT,
            Self::NetworkPerformance => field_table::NETWORK_PERFORMANCE,
            Self::Breadcrumb => field_table::BREADCRUMB,
            Self::Profile => field_table::PROFILE,
            Self::UserAttributeChange => field_table::USER_ATTRIBUTE_CHANGE,
            Self::UserIdentityChange => field_table::USER_IDENTITY_CHANGE,
            Self::SessionStart
            | Self::FirstRun
            | Self::Uninstall
            | Self::PreAttribution
            | Self::Unknown => &[],
        }
    }
}

impl<'a> EventData<'a> {
    /// Returns a member of [`Self::extra`], the last one if the name is repeated.
    pub fn extra_member(&self, name: &str) -> Option<RawJson<'a>> {
        self.extra
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    }

    /// Returns the commerce action in the spelling of mParticle's schema: of a product action, of a
    /// promotion (`promotion_view`, `promotion_click`), or `impression`.
    pub fn commerce_action(&self) -> Option<String> {
        if let Some(action) = self
            .extra_member("product_action")
            .and_then(|raw| raw.member("action"))
        {
            return action.scalar().map(|text| text.to_ascii_lowercase());
        }
        if let Some(promotion) = self.extra_member("promotion_action") {
            let action = promotion.member("action")?;
            return action
                .scalar()
                .map(|text| format!("promotion_{}", text.to_ascii_lowercase()));
        }
        self.extra_member("product_impressions")
            .map(|_| "impression".to_owned())
    }
}

fn is_media(data: &EventData<'_>) -> bool {
    data.extra_member("custom_event_type")
        .and_then(RawJson::scalar)
        .is_some_and(|text| text.eq_ignore_ascii_case("media"))
}

fn is_purchase(data: &EventData<'_>) -> bool {
    data.commerce_action().as_deref() == Some("purchase")
}
