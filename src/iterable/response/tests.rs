use super::*;
use crate::iterable::ListReason;

/// Returns the class of a response.
fn class(status: u16, body: &str) -> &'static str {
    match ApiResponse::read(status, None, body.as_bytes()) {
        ApiResponse::Accepted(_) => "accepted",
        ApiResponse::Rejected(_) => "rejected",
        ApiResponse::TooLarge => "too large",
        ApiResponse::Unauthorized(_) => "unauthorized",
        ApiResponse::WrongEndpoint(_) => "wrong endpoint",
        ApiResponse::RateLimited { .. } => "rate limited",
        ApiResponse::Unavailable { .. } => "unavailable",
    }
}

fn code(code: &str) -> String {
    format!(r#"{{"msg":"message","code":"{code}","params":null}}"#)
}

#[test]
fn status_and_code_determine_class() {
    let html = "<html><body>Bad Gateway</body></html>";
    for (status, body, expected) in [
        (
            200,
            r#"{"successCount":1,"failCount":0}"#.to_owned(),
            "accepted",
        ),
        (200, r#"{"successCount":10}"#.to_owned(), "accepted"),
        (
            200,
            r#"{"failCount":3,"newKey":[1,{"a":null}]}"#.to_owned(),
            "accepted",
        ),
        (
            202,
            r#"{"successCount":1,"failCount":0}"#.to_owned(),
            "accepted",
        ),
        (200, code("Success"), "unavailable"),
        (200, html.to_owned(), "unavailable"),
        (200, String::new(), "unavailable"),
        (200, r#"{"successCount":"#.to_owned(), "unavailable"),
        (400, code("BadJsonBody"), "rejected"),
        (400, code("BadParams"), "rejected"),
        (400, code("InvalidEmailAddressError"), "rejected"),
        (400, code("InvalidUserIdError"), "rejected"),
        (400, code("RequestFieldsTypesMismatched"), "rejected"),
        (400, code("UniqueFieldsLimitExceeded"), "rejected"),
        (400, code("UnknownEmailError"), "rejected"),
        (400, code("UnknownUserIdError"), "rejected"),
        (400, code("ForgottenUserError"), "rejected"),
        (400, code("Success"), "rejected"),
        (400, html.to_owned(), "rejected"),
        (400, String::new(), "rejected"),
        (400, code("BatchTooLarge"), "too large"),
        (400, code("InvalidJwtPayload"), "unauthorized"),
        (401, code("InvalidJwtPayload"), "unauthorized"),
        (401, code("BadApiKey"), "unauthorized"),
        (401, code("BadAuthorizationHeader"), "unauthorized"),
        (401, code("Unauthorized"), "unauthorized"),
        (401, html.to_owned(), "unauthorized"),
        (403, code("Forbidden"), "unauthorized"),
        (403, code("ForbiddenParamsError"), "unauthorized"),
        (403, code("Success"), "unauthorized"),
        (403, String::new(), "unauthorized"),
        (404, code("NotFound"), "wrong endpoint"),
        (301, String::new(), "wrong endpoint"),
        (405, html.to_owned(), "wrong endpoint"),
        (408, String::new(), "unavailable"),
        (409, code("ExternalKeyConflict"), "rejected"),
        (409, code("ForgottenUserError"), "rejected"),
        (409, code("Conflict"), "rejected"),
        (413, html.to_owned(), "too large"),
        (429, code("RateLimitExceeded"), "rate limited"),
        (429, html.to_owned(), "rate limited"),
        (500, code("DatabaseError"), "unavailable"),
        (500, code("GenericError"), "unavailable"),
        (500, code("QueueEmailError"), "unavailable"),
        (500, code("Success"), "unavailable"),
        (502, html.to_owned(), "unavailable"),
        (503, html.to_owned(), "unavailable"),
        (504, String::new(), "unavailable"),
    ] {
        assert_eq!(class(status, &body), expected, "{status} {body}");
    }
}

#[test]
fn retry_after_is_kept_when_present() {
    for requested in [None, Some(Duration::from_secs(7))] {
        let rate_limited = ApiResponse::read(429, requested, b"");
        assert_eq!(
            rate_limited,
            ApiResponse::RateLimited {
                retry_after: requested
            }
        );
        let ApiResponse::Unavailable { retry_after, .. } = ApiResponse::read(503, requested, b"")
        else {
            panic!("503 is unavailable")
        };
        assert_eq!(retry_after, requested);
    }
}

#[test]
fn every_list_is_read_with_its_reason() {
    let body = r#"{"successCount":0,"failCount":9,"failedUpdates":{
        "invalidEmails":["a"],"invalidUserIds":["b"],"notFoundEmails":["c"],"notFoundUserIds":["d"],
        "forgottenEmails":["e"],"forgottenUserIds":["f"],"conflictEmails":["g"],"conflictUserIds":["p"],
        "invalidDataUserIds":["h"],"invalidDataEmails":["q"],"failedEmails":["i"],"failedUserIds":["r"],"novelty":["j", 7, null],"notAList":3},
        "invalidEmails":["k"],"invalidUserIds":["l"],"disallowedEventNames":["m"],
        "filteredOutFields":["n"],"createdFields":["o"]}"#;
    let ApiResponse::Accepted(counts) = ApiResponse::read(200, None, body.as_bytes()) else {
        panic!("accepted")
    };
    let reason = |name: &str| {
        let user = counts
            .listed
            .users
            .iter()
            .find(|user| user.identifier == name);
        user.map(|user| user.reason)
    };
    for (name, expected) in [
        ("a", ListReason::InvalidEmail),
        ("b", ListReason::InvalidUserId),
        ("c", ListReason::UserNotFound),
        ("d", ListReason::UserNotFound),
        ("e", ListReason::UserForgotten),
        ("f", ListReason::UserForgotten),
        ("g", ListReason::UserConflict),
        ("h", ListReason::InvalidUserData),
        ("i", ListReason::RejectedByIterable),
        ("j", ListReason::RejectedByIterable),
        ("k", ListReason::InvalidEmail),
        ("l", ListReason::UserNotFound),
        ("p", ListReason::UserConflict),
        ("q", ListReason::InvalidUserData),
        ("r", ListReason::RejectedByIterable),
    ] {
        assert_eq!(reason(name), Some(expected), "{name}");
    }
    assert_eq!(
        counts.listed.users.len(),
        15,
        "neither fields nor numbers are users"
    );
    assert_eq!(counts.listed.names, ["m"]);
}

#[test]
fn message_is_truncated_to_one_line() {
    let long = format!("<html>\n\n  {}", "x ".repeat(5_000));
    let ApiResponse::Unauthorized(error) = ApiResponse::read(403, None, long.as_bytes()) else {
        panic!("unauthorized")
    };
    assert!(error.message.len() <= 200 && !error.message.contains('\n'));
    assert_eq!(error.code, None);
}
