//! Custom rules (jq): their features, and their isolation to one event.

use crate::support::{batch, spec};
use event_forwarder::{
    api::{ConfigMapKeyRef, MappingSpec, ProjectType, TransformSpec},
    mapping::{MappedBody, Mapper, MapperError, RejectReason, SkipReason, TransformError},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn with_rule(program: &str) -> MappingSpec {
    spec(|spec| {
        spec.data_fields.context = vec![];
        spec.transform = Some(TransformSpec {
            jq: Some(program.to_owned()),
            config_map_key_ref: None,
        });
    })
}

fn mapped(program: &str, body: &str) -> MappedBody {
    let mapper = Mapper::new(&with_rule(program), ProjectType::Email, None);
    mapper
        .unwrap_or_else(|error| panic!("{program}: {error}"))
        .map(body, None)
        .unwrap()
}

/// Maps a screen view with this rule.
fn map_with_rule(program: &str) -> MappedBody {
    let data = json!({"screen_name": "Home", "custom_attributes": {"plan": "gold", "big": 9007199254740993i64}});
    mapped(program, &batch(&[("screen_view", data)]))
}

fn event(program: &str) -> Value {
    let mapped = map_with_rule(program);
    let event = mapped
        .events
        .first()
        .unwrap_or_else(|| panic!("{program}: {mapped:?}"));
    serde_json::from_str(event.json()).unwrap()
}

fn rejection(program: &str) -> (RejectReason, String) {
    let mapped = map_with_rule(program);
    let rejected = mapped
        .rejected
        .first()
        .unwrap_or_else(|| panic!("{program}: {mapped:?}"));
    (rejected.reason, rejected.detail.clone())
}

fn compile_error(program: &str) -> TransformError {
    match Mapper::new(&with_rule(program), ProjectType::Email, None) {
        Err(MapperError::Transform(error)) => error,
        other => panic!("{program}: {other:?}"),
    }
}

#[test]
fn rule_can_change_fields() {
    assert_eq!(
        event("del(.dataFields.plan)")["dataFields"].get("plan"),
        None
    );
    let renamed = event(".dataFields |= with_entries(.key |= sub(\"^plan$\"; \"tier\"))");
    assert_eq!(renamed["dataFields"]["tier"], "gold");
    assert_eq!(
        event(".eventName = \"Saw \\(.dataFields.screen_name)\"")["eventName"],
        "Saw Home"
    );
    assert_eq!(
        event(".dataFields.n = ([1, 2] | add)")["dataFields"]["n"],
        3
    );
    assert_eq!(
        event(".dataFields += {a: 1, plan: \"none\"}")["dataFields"]["plan"],
        "none"
    );
}

#[test]
fn rule_can_read_original_event_and_batch() {
    assert_eq!(
        event(".dataFields.type = $event.event_type")["dataFields"]["type"],
        "screen_view"
    );
    assert_eq!(
        event(".dataFields.os = $batch.device_info.os_version")["dataFields"]["os"],
        "18.1"
    );
    assert_eq!(
        event(".dataFields.has = ($batch | has(\"events\"))")["dataFields"]["has"],
        false
    );
}

#[test]
fn rule_can_build_a_new_event() {
    let event = event(
        "{eventName: \"Mine\", userId: \"u-1\", id: \"my-1\", createdAt: 5, campaignId: 7, dataFields: {a: [1, {b: null}]}}",
    );
    let expected = json!({"eventName": "Mine", "userId": "u-1", "id": "my-1", "createdAt": 5,
        "campaignId": 7, "dataFields": {"a": [1, {}]}});
    assert_eq!(event, expected);
}

#[test]
fn rule_drops_event_with_empty_or_null_output() {
    for program in ["empty", "null", "select(.dataFields.plan != \"gold\")"] {
        let mapped = map_with_rule(program);
        assert_eq!(
            mapped.skipped[0].reason,
            SkipReason::DroppedByTransform,
            "{program}"
        );
    }
}

#[test]
fn rule_keeps_unchanged_values_exactly() {
    assert_eq!(event(".")["dataFields"]["big"], 9_007_199_254_740_993i64);
    let body = r#"{"user_identities":{"email":"ada@example.com"},"events":[{"event_type":"screen_view",
        "data":{"source_message_id":"n-1","timestamp_unixtime_ms":1764057600000,
        "custom_attributes":{"d":0.1000000000000000055,"e":1.10}}}]}"#;
    let mapped = mapped(".", body);
    assert!(
        mapped.events[0]
            .json()
            .contains("\"d\":0.1000000000000000055,\"e\":1.10")
    );
}

#[test]
fn rule_can_set_a_missing_user() {
    let body = r#"{"events":[{"event_type":"screen_view","data":{"event_id":1,"timestamp_unixtime_ms":1764057600000}}]}"#;
    let named = mapped(".email = \"Ada@Example.com\"", body);
    assert!(
        named.events[0]
            .json()
            .contains("\"email\":\"ada@example.com\"")
    );
    assert_eq!(mapped(".", body).skipped[0].reason, SkipReason::NoUser);
}

#[test]
fn invalid_rule_output_is_rejected_with_detail() {
    let output = RejectReason::TransformOutput;
    for (program, reason, expected) in [
        ("1", output, "is a number, not an object"),
        ("\"x\"", output, "is a string, not an object"),
        ("[.]", output, "is an array, not an object"),
        (".,.", output, "more than one output"),
        ("del(.eventName)", output, "eventName"),
        (".eventName = \" \"", output, "eventName"),
        (".id = \"a.b\"", output, "id"),
        (".id = \"\"", output, "id"),
        (".createdAt = \"now\"", output, "createdAt"),
        (".createdAt = 1764057600000", output, "createdAt"),
        (".createdAt = 1.5", output, "createdAt"),
        (".dataFields = 1", output, "dataFields"),
        (".campaignId = \"x\"", output, "campaignId"),
        (".surprise = 1", output, "surprise"),
        (".userId = \"u\"", output, "both email and userId"),
        (".email = \"nobody\"", RejectReason::InvalidEmail, "@"),
        (
            "del(.email) | .userId = \"\"",
            RejectReason::InvalidUserId,
            "empty",
        ),
        ("error(\"no\")", RejectReason::TransformFailed, "no"),
        (
            ".dataFields.plan + 1",
            RejectReason::TransformFailed,
            "cannot calculate",
        ),
    ] {
        let (found, detail) = rejection(program);
        assert_eq!(found, reason, "{program}: {detail}");
        assert!(detail.contains(expected), "{program}: {detail}");
        assert!(detail.contains("$.events[0]"), "{program}: {detail}");
    }
}

/// Iterable: a userId-based project identifies users only by userId; others by email or userId.
#[test]
fn rule_cannot_set_unsupported_user_key() {
    let body = batch(&[("screen_view", json!({}))]);
    let mapped = |project, program| {
        let mapper = Mapper::new(&with_rule(program), project, None).unwrap();
        mapper.map(&body, None).unwrap()
    };
    let by_email = "del(.userId) | .email = \"bob@example.com\"";
    let by_id = "del(.email) | .userId = \"bob\"";
    let rejected = mapped(ProjectType::UserId, by_email).rejected;
    assert_eq!(rejected[0].reason, RejectReason::InvalidEmail);
    let detail = &rejected[0].detail;
    assert!(
        detail.contains("$.events[0]") && detail.contains("UserId project"),
        "{detail}"
    );
    assert_eq!(mapped(ProjectType::UserId, by_id).events.len(), 1);
    for project in [ProjectType::Email, ProjectType::Hybrid] {
        assert_eq!(mapped(project, by_email).events.len(), 1);
    }
}

#[test]
fn rule_fields_follow_iterable_schema() {
    let event = event(".dataFields = {\"_a\": 1, \"1\": 2, \"b,c\": 3, \"d.e\": 4, f: nan}");
    assert_eq!(
        event["dataFields"],
        json!({"a": 1, "field_1": 2, "b_c": 3, "d_e": 4})
    );
}

/// Programs that never end, fill the memory or overflow the stack of an interpreter without limits.
const ENDLESS_PROGRAMS: [&str; 37] = [
    // Loops.
    "def f: f; f",
    "def f: . | f; f",
    "def f(g): f(g); f(.)",
    "def a: def b: a; b; a",
    "repeat(.)|select(false)",
    "[repeat(.)]",
    "last(repeat(.))",
    "last(range(1e18))",
    "[range(infinite)]",
    "first(range(1e18) | select(. < 0))",
    "until(false; .)",
    "[while(true; .)]",
    "[recurse(.)]",
    "[limit(1e18; repeat(1))]",
    "try last(repeat(.)) catch .",
    "label $out | repeat(.) | if false then ., break $out else empty end",
    "reduce range(1e18) as $x (0; . + $x)",
    "foreach range(1e18) as $x (0; .; empty)",
    "def f: try f catch f; f",
    "skip(1e18; repeat(.))",
    // The stack.
    "def f: 1 + f; f",
    "def f: [f]; f",
    "def f: {a: f}; f",
    "def f(g): g | f(g | g); f(.)",
    "def f: (f, f) | f; f",
    "path(def f: .a | f; f)",
    "[path(repeat(.a))]",
    "(def f: .a | f; f) = 1",
    // The memory.
    "\"xxxxxxxx\" * 1e15",
    "reduce range(100) as $_ (\"xx\"; . + .)",
    "reduce range(60) as $_ (.; [., .])",
    "reduce range(60) as $_ (.; [., .]) | tojson",
    "reduce range(1e6) as $_ (.; [.])",
    "[range(1e6)] | [combinations(1e6)]",
    "[range(1000)] | [.[] as $a | .[] as $b | .[] as $c | $a]",
    "[limit(20; repeat([0, 1]))] | [combinations]",
    ".dataFields.x[1e15] = 1 | [range(1e7) | tostring] | group_by(.)",
];

#[test]
fn endless_rule_rejects_one_event_as_too_costly() {
    for program in ENDLESS_PROGRAMS {
        let mapped = map_with_rule(program);
        let reason = mapped
            .rejected
            .first()
            .map(|rejected| (rejected.reason, rejected.detail.clone()));
        assert!(
            matches!(
                reason,
                Some((RejectReason::TransformTooCostly, _))
                    | Some((RejectReason::TransformFailed, _))
            ),
            "{program}: {reason:?}"
        );
    }
}

/// Programs that process a large value repeatedly with few terms. They would complete if the cost
/// of a term did not depend on the size of its value.
const COSTLY_PROGRAMS: [&str; 10] = [
    "(\"x\" * 5e5) as $t | reduce range(5000) as $_ (.; select(($t | length) > 0))",
    "(\"x\" * 5e5) as $t | reduce range(5000) as $_ (.; select($t[1:2] == \"x\"))",
    "(\"x\" * 5e5) as $t | reduce range(5000) as $_ (.; select($t | startswith($t)))",
    "(\" \" * 5e5) as $t | reduce range(5000) as $_ (.; select(($t | trim) == \"\"))",
    "(\"x\" * 4e5) as $t | (\"x\" * 2e5) as $by | reduce range(1000) as $_ (.; select($t / $by != []))",
    "(\"x\" * 4e5) as $t | (\"x\" * 1e5 + \"y\") as $part | select($t | indices($part) == [])",
    "(\"1\" * 4e5 | fromjson) as $n | reduce range(5000) as $_ (.; select($n + 1 > 0))",
    "(\"x\" * 5e5) as $name | reduce range(5000) as $_ (.; select(.[$name] == null))",
    "(\"x\" * 5e5) as $name | reduce range(5000) as $_ (.; select({($name): 1} != null))",
    "([range(200) | {key: tostring, value: 0}] | from_entries) as $a | ($a + {z: 0}) as $b \
     | reduce range(5000) as $_ (.; select($a != $b))",
];

#[test]
fn step_cost_depends_on_value_size() {
    let is_too_costly = |program: &&str| {
        let rejected = map_with_rule(program).rejected;
        let reason = rejected.first().map(|rejected| rejected.reason);
        reason == Some(RejectReason::TransformTooCostly)
    };
    let completed: Vec<_> = COSTLY_PROGRAMS
        .into_iter()
        .filter(|program| !is_too_costly(program))
        .collect();
    assert!(completed.is_empty(), "{completed:#?}");
}

#[test]
fn large_event_stays_within_the_cost_limit() {
    let many: serde_json::Map<_, _> = (0..900)
        .map(|index| (format!("a{index}"), json!("x".repeat(900))))
        .collect();
    let body = batch(&[("screen_view", json!({"custom_attributes": many}))]);
    let mapped = mapped(".dataFields.a0 = 1 | del(.dataFields.a1)", &body);
    assert_eq!(mapped.events.len(), 1, "{:?}", mapped.rejected);
}

#[test]
fn stopped_rule_does_not_affect_other_events() {
    let body = batch(&[
        ("screen_view", json!({"screen_name": "Home"})),
        ("screen_view", json!({"screen_name": "Loop"})),
        ("screen_view", json!({"screen_name": "Deep"})),
        ("screen_view", json!({"screen_name": "End"})),
    ]);
    let program = "def deep: 1 + deep; \
        if .dataFields.screen_name == \"Loop\" then last(repeat(.)) \
        elif .dataFields.screen_name == \"Deep\" then deep else . end";
    let mapped = mapped(program, &body);
    let forwarded: Vec<_> = mapped
        .events
        .iter()
        .map(|event| event.source().event)
        .collect();
    assert_eq!(forwarded, [0, 3]);
    assert!(
        mapped
            .rejected
            .iter()
            .all(|rejected| rejected.reason == RejectReason::TransformTooCostly)
    );
}

#[test]
fn regular_expression_cost_is_limited() {
    assert_eq!(
        event("select(.dataFields.screen_name | test(\"^H[a-z]{3}$\"))")["eventName"],
        "Screen View"
    );
    assert_eq!(
        event(".dataFields.day = (\"2025-11-25\" | capture(\"(?<d>\\\\d{2})$\").d)")["dataFields"]
            ["day"],
        "25"
    );
    let (reason, _) = rejection("(\"a\" * 30000) | test(\"(a*)*(a*)*(a*)*b\")");
    assert_eq!(
        reason,
        RejectReason::TransformOutput,
        "linear in the length of the text, so it completes"
    );
    let (reason, detail) = rejection("\"a\" | test(\"((a{1000}){1000}){1000}\")");
    assert_eq!(reason, RejectReason::TransformFailed, "{detail}");
    let (reason, detail) = rejection("(\"a\" * 500000) | test(\"(a{10}){10}b\")");
    assert_eq!(reason, RejectReason::TransformTooCostly, "{detail}");
}

#[test]
fn rule_cannot_access_the_environment() {
    for program in [
        "now",
        "env",
        "$ENV",
        "input",
        "inputs",
        "input_line_number",
        "debug",
        "stderr",
        "halt",
        "halt_error",
        "localtime",
        "get_search_list",
        "$__prog_args",
        "input_filename",
        "strflocaltime(\"%Y\")",
        "import \"a\" as a; .",
        "include \"a\"; .",
    ] {
        assert!(
            matches!(compile_error(program), TransformError::Invalid { .. }),
            "{program}"
        );
    }
}

#[test]
fn invalid_program_is_rejected_with_position() {
    let at = |program: &str| match compile_error(program) {
        TransformError::Invalid {
            line,
            column,
            fault,
        } => (line, column, fault),
        other => panic!("{program}: {other:?}"),
    };
    assert_eq!(
        at(".a |\n  nothing_such"),
        (2, 3, "undefined filter nothing_such".to_owned())
    );
    assert_eq!(at(". | $x").0, 1);
    let (line, column, fault) = at(".a\n| if . then 1");
    assert_eq!((line, column), (2, 14), "{fault}");
    let (line, column, _) = at("def f: 1;\n(f");
    assert_eq!(
        (line, column),
        (2, 3),
        "the end of the program, because a bracket is missing"
    );
    assert_eq!(at("unbounded_matches(\"a\"; \"\")").1, 1);
    let message = MapperError::Transform(compile_error(".a |")).to_string();
    assert!(
        message.starts_with("spec.mapping.transform: line 1, column"),
        "{message}"
    );
}

/// The compiler recurses with the nesting of a program, so even a program of the maximum size that
/// nests at every byte must not crash the process.
#[test]
fn deeply_nested_programs_do_not_crash() {
    for open in [
        "(", "[", "{a:", "-", "try ", "not|", "1+", "if ", ".a|=", "reduce ", "def f: ", "\"\\(",
    ] {
        let program = open.repeat(16_384 / open.len());
        let _ = Mapper::new(&with_rule(&program), ProjectType::Email, None);
    }
    for (open, close) in [("(", ")"), ("[", "]"), ("{a:", "}"), ("\"\\(", ")\"")] {
        let depth = 16_000 / (open.len() + close.len());
        let program = format!("{}.{}", open.repeat(depth), close.repeat(depth));
        if let Ok(mapper) = Mapper::new(&with_rule(&program), ProjectType::Email, None) {
            mapper
                .map(&batch(&[("screen_view", json!({}))]), None)
                .unwrap();
        }
    }
    for step in [".|", "not|", ".a?|", "[.]|", "1 as $x|", "try ", "-"] {
        let program = format!("{}.", step.repeat(16_000 / step.len()));
        if let Ok(mapper) = Mapper::new(&with_rule(&program), ProjectType::Email, None) {
            mapper
                .map(&batch(&[("screen_view", json!({}))]), None)
                .unwrap();
        }
    }
    assert_eq!(
        compile_error(&".|".repeat(10_000)),
        TransformError::TooLong(20_000)
    );
}

#[test]
fn program_can_come_from_a_config_map() {
    let reference = ConfigMapKeyRef {
        name: "rules".to_owned(),
        key: "transform.jq".to_owned(),
    };
    let spec = spec(|spec| {
        spec.transform = Some(TransformSpec {
            jq: None,
            config_map_key_ref: Some(reference),
        });
    });
    let missing = Mapper::new(&spec, ProjectType::Email, None).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("key transform.jq in ConfigMap rules"),
        "{missing}"
    );
    let mapper = Mapper::new(&spec, ProjectType::Email, Some("empty")).unwrap();
    let mapped = mapper
        .map(&batch(&[("screen_view", json!({}))]), None)
        .unwrap();
    assert_eq!(mapped.skipped[0].reason, SkipReason::DroppedByTransform);
}

/// The expected values follow jq's manual.
#[test]
fn functions_behave_as_in_the_jq_manual() {
    for (program, expected) in [
        ("[3, 1, 2] | sort", json!([1, 2, 3])),
        ("{b: 1, a: 2} | keys", json!(["a", "b"])),
        ("[1, 2, 3] | map(. + 1)", json!([2, 3, 4])),
        ("\"a, b\" | split(\", \")", json!(["a", "b"])),
        ("[\"a\", \"b\"] | join(\"-\")", json!("a-b")),
        ("{a: {b: 1}} * {a: {c: 2}}", json!({"a": {"b": 1, "c": 2}})),
        ("[1, [2, [3]]] | flatten", json!([1, 2, 3])),
        ("\"test\" | ltrimstr(\"te\")", json!("st")),
        ("[\"foobar\", \"baz\"] | contains([\"bar\"])", json!(true)),
        ("[1, null, 2] | map(values)", json!([1, 2])),
        ("{a: 1} | to_entries", json!([{"key": "a", "value": 1}])),
        (
            "[{k: 1, v: 2}, {k: 1, v: 3}] | group_by(.k) | length",
            json!(1),
        ),
        ("\"abc\" | .[1:]", json!("bc")),
        ("[1, 2, 3] | .[-1]", json!(3)),
        ("[1, 2, 3] | .[1:] = [9]", json!([1, 9])),
        ("{a: [1, 2]} | .a[1] |= . * 10", json!({"a": [1, 20]})),
        ("null | .a.b = 1", json!({"a": {"b": 1}})),
        ("\"12\" | tonumber", json!(12)),
        ("12 | tostring", json!("12")),
        ("\"é\" | @uri", json!("%C3%A9")),
        ("\"aGk=\" | @base64d", json!("hi")),
        ("1764057600 | todate", json!("2025-11-25T08:00:00Z")),
        ("\"2025-11-25T08:00:00Z\" | fromdate", json!(1_764_057_600)),
        ("\"{\\\"a\\\": 1}\" | fromjson", json!({"a": 1})),
        ("\"aXbX\" | indices(\"X\")", json!([1, 3])),
        ("[1, 2, 1] | index(1)", json!(0)),
        ("\"ABC\" | ascii_downcase", json!("abc")),
        ("\"a1b2\" | gsub(\"[0-9]\"; \"\")", json!("ab")),
        ("[.[]?] | length", json!(3)),
        ("7 / 2", json!(3.5)),
        ("7 % 3", json!(1)),
        ("[1, 2] - [2]", json!([1])),
        ("9007199254740993 + 1", json!(9_007_199_254_740_994i64)),
        ("first(range(10; 0; -3))", json!(10)),
        ("[paths] | length > 0", json!(true)),
        ("try error(\"x\") catch .", json!("x")),
        ("{a: 1} | has(\"a\")", json!(true)),
        ("[1, 2] | any(. > 1)", json!(true)),
        ("\"x\" * 3", json!("xxx")),
        ("[[1, 2], [3, 4]] | transpose", json!([[1, 3], [2, 4]])),
    ] {
        let event = event(&format!(
            ".dataFields as $f | .dataFields = {{result: ($f | ({program}))}}"
        ));
        assert_eq!(event["dataFields"]["result"], expected, "{program}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Random programs of pieces that loop, grow, fail and update do not crash the process, and the
    /// event has one outcome.
    #[test]
    fn any_program_results_in_one_outcome_per_event(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 1..8)) {
        let program = pieces.join("");
        if let Ok(mapper) = Mapper::new(&with_rule(&program), ProjectType::Email, None) {
            let mapped = mapper.map(&batch(&[("screen_view", json!({"screen_name": "Home"}))]), None).unwrap();
            prop_assert_eq!(mapped.events.len() + mapped.skipped.len() + mapped.rejected.len(), 1);
        }
    }
}

const PIECES: [&str; 36] = [
    ".",
    "|",
    ",",
    ".dataFields",
    "[",
    "]",
    "{a:",
    "}",
    "(",
    ")",
    "..",
    "repeat(.)",
    "range(9)",
    "recurse",
    "map(",
    "select(",
    "reduce .[]? as $x (.;",
    "def f: ",
    "; f",
    "f",
    " // ",
    "|= ",
    "+",
    "*1e9",
    "tojson",
    "fromjson",
    "first(",
    "limit(3;",
    "try ",
    "error",
    "empty",
    "null",
    "del(",
    "paths",
    "add",
    "\"x\"",
];
