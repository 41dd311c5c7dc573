use super::*;
use crate::iterable::ListReason;

/// Returns the class of a response.
fn class(status: u16, body: &str) -> &'static str {
    match ApiResponse::read(status, None, body.as_bytes()) {
        ApiResponse::Accepted(_) => "counted",
        ApiResponse::Rejected(_) => "refused",
        ApiResponse::TooLarge => "too large",
        ApiResponse::Unauthorized(_) => "key refused",
        ApiResponse::WrongEndpoint(_) => "misdirected",
        ApiResponse::RateLimited { .. } => "slow down",
        ApiResponse::Unavailable { .. } => "trouble",
    }
}

fn code(code: &str) -> String {
    format!(r#"{{"msg":"said","code":"{code}","params":null}}"#)
}

#[test]
fn the_status_and_then_the_code_say_who_must_act() {
    let html = "<html><body>Bad Gateway</body></html>";
    for (status, body, expected) in [
        (
            200,
            r#"{"successCount":1,"failCount":0}"#.to_owned(),
            "counted",
        ),
        (200, r#"{"successCount":10}"#.to_owned(), "counted"),
        (
            200,
            r#"{"failCount":3,"newKey":[1,{"a":null}]}"#.to_owned(),
            "counted",
        ),
        (
            202,
            r#"{"successCount":1,"failCount":0}"#.to_owned(),
            "counted",
        ),
        (200, code("Success"), "trouble"),
        (200, html.to_owned(), "trouble"),
        (200, String::new(), "trouble"),
        (200, r#"{"successCount":"#.to_owned(), "trouble"),
        (400, code("BadJsonBody"), "refused"),
        (400, code("BadParams"), "refused"),
        (400, code("InvalidEmailAddressError"), "refused"),
        (400, code("InvalidUserIdError"), "refused"),
        (400, code("RequestFieldsTypesMismatched"), "refused"),
        (400, code("UniqueFieldsLimitExceeded"), "refused"),
        (400, code("UnknownEmailError"), "refused"),
        (400, code("UnknownUserIdError"), "refused"),
        (400, code("ForgottenUserError"), "refused"),
        (400, code("Success"), "refused"),
        (400, html.to_owned(), "refused"),
        (400, String::new(), "refused"),
        (400, code("BatchTooLarge"), "too large"),
        (400, code("InvalidJwtPayload"), "key refused"),
        (401, code("InvalidJwtPayload"), "key refused"),
        (401, code("BadApiKey"), "key refused"),
        (401, code("BadAuthorizationHeader"), "key refused"),
        (401, code("Unauthorized"), "key refused"),
        (401, html.to_owned(), "key refused"),
        (403, code("Forbidden"), "key refused"),
        (403, code("ForbiddenParamsError"), "key refused"),
        (403, code("Success"), "key refused"),
        (403, String::new(), "key refused"),
        (404, code("NotFound"), "misdirected"),
        (301, String::new(), "misdirected"),
        (405, html.to_owned(), "misdirected"),
        (408, String::new(), "trouble"),
        (409, code("ExternalKeyConflict"), "refused"),
        (409, code("ForgottenUserError"), "refused"),
        (409, code("Conflict"), "refused"),
        (413, html.to_owned(), "too large"),
        (429, code("RateLimitExceeded"), "slow down"),
        (429, html.to_owned(), "slow down"),
        (500, code("DatabaseError"), "trouble"),
        (500, code("GenericError"), "trouble"),
        (500, code("QueueEmailError"), "trouble"),
        (500, code("Success"), "trouble"),
        (502, html.to_owned(), "trouble"),
        (503, html.to_owned(), "trouble"),
        (504, String::new(), "trouble"),
    ] {
        assert_eq!(class(status, &body), expected, "{status} {body}");
    }
}

#[test]
fn a_wait_is_kept_where_the_answer_asks_for_one() {
    for asked in [None, Some(Duration::from_secs(7))] {
        let slow_down = ApiResponse::read(429, asked, b"");
        assert_eq!(slow_down, ApiResponse::RateLimited { retry_after: asked });
        let ApiResponse::Unavailable { retry_after, .. } = ApiResponse::read(503, asked, b"")
        else {
            panic!("503 is trouble")
        };
        assert_eq!(retry_after, asked);
    }
}

#[test]
fn every_list_of_an_answer_is_read_with_its_reason() {
    let body = r#"{"successCount":0,"failCount":9,"failedUpdates":{
        "invalidEmails":["a"],"invalidUserIds":["b"],"notFoundEmails":["c"],"notFoundUserIds":["d"],
        "forgottenEmails":["e"],"forgottenUserIds":["f"],"conflictEmails":["g"],"conflictUserIds":["p"],
        "invalidDataUserIds":["h"],"invalidDataEmails":["q"],"failedEmails":["i"],"failedUserIds":["r"],"novelty":["j", 7, null],"notAList":3},
        "invalidEmails":["k"],"invalidUserIds":["l"],"disallowedEventNames":["m"],
        "filteredOutFields":["n"],"createdFields":["o"]}"#;
    let ApiResponse::Accepted(counts) = ApiResponse::read(200, None, body.as_bytes()) else {
        panic!("counted")
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
fn what_an_answer_said_is_kept_to_a_line() {
    let long = format!("<html>\n\n  {}", "x ".repeat(5_000));
    let ApiResponse::Unauthorized(refusal) = ApiResponse::read(403, None, long.as_bytes()) else {
        panic!("key refused")
    };
    assert!(refusal.message.len() <= 200 && !refusal.message.contains('\n'));
    assert_eq!(refusal.code, None);
}
