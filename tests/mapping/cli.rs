//! The `map` command, as a user runs it.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::support::{batch, sample_path};
use serde_json::{Value, json};

fn map(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
        .arg("map")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // This also closes standard input, which ends the program's input.
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    match written {
        // After a usage error, the program exits before it reads its input.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{error}"),
        _ => child.wait_with_output().unwrap(),
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns an empty directory for a test.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn json_prints_the_request_bodies_of_a_drain() {
    let body = batch(&[
        ("screen_view", json!({"screen_name": "A"})),
        ("session_start", json!({})),
    ]);
    let output = map(&["-o", "json"], &body);
    assert_eq!(output.status.code(), Some(0));
    let requests = lines(&output);
    assert_eq!(requests.len(), 1);
    let names: Vec<_> = requests[0]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["eventName"])
        .collect();
    assert_eq!(names, ["Screen View", "Session Start"]);
    assert_eq!(requests[0].as_object().unwrap().len(), 1);
    // It is the default if standard output is not a terminal.
    assert_eq!(map(&[], &body).stdout, output.stdout);
}

#[test]
fn request_has_at_most_1000_events() {
    let events: Vec<_> = (0..1_001).map(|_| ("screen_view", json!({}))).collect();
    let requests = lines(&map(&["-o", "json"], &batch(&events)));
    let sizes: Vec<_> = requests
        .iter()
        .map(|request| request["events"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [1_000, 1]);
}

/// As in a drain, requests respect the manifest's limits, and events with equal ID and content are
/// sent once. Different events with one ID are in separate requests.
#[test]
fn requests_are_batched_as_in_a_drain() {
    let directory = directory("requests");
    let manifest = |limits: &str| {
        let path = forwarder(&directory, "mapping: {dataFields: {context: []}}");
        let text = fs::read_to_string(&path).unwrap();
        let limited = text.replace("iterable: {", &format!("iterable: {{{limits}, "));
        fs::write(&path, limited).unwrap();
        path
    };
    let view = |id: u32, name: &str| {
        let id = format!("A1A1A1A1-0000-4000-8000-{id:012}");
        (
            "screen_view",
            json!({"source_message_id": id, "screen_name": name}),
        )
    };
    let events = [
        view(1, "A"),
        view(1, "A"),
        view(2, "B"),
        view(3, "C"),
        view(3, "D"),
    ];
    fs::write(directory.join("one.json"), batch(&events[..3])).unwrap();
    fs::write(directory.join("two.json"), batch(&events[3..])).unwrap();
    let (one, two) = (directory.join("one.json"), directory.join("two.json"));
    let requests = |limits: &str| -> Vec<Vec<String>> {
        let forwarder = manifest(limits);
        let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
        let output = map(&["-o", "json", "--forwarder", &forwarder, one, two], "");
        let names = |request: &Value| {
            let events = request["events"].as_array().unwrap().iter();
            let name = |event: &Value| {
                event["dataFields"]["screen_name"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            };
            events.map(name).collect()
        };
        lines(&output).iter().map(names).collect()
    };
    assert_eq!(
        requests("maxEventsPerRequest: 1000"),
        [vec!["A", "B", "C"], vec!["D"]]
    );
    assert_eq!(
        requests("maxEventsPerRequest: 2"),
        [vec!["A", "B"], vec!["C"], vec!["D"]]
    );
    let long = batch(&[view(1, &"A".repeat(6_000)), view(2, &"B".repeat(6_000))]);
    fs::write(&two, long).unwrap();
    fs::write(&one, batch(&[])).unwrap();
    assert_eq!(requests("maxBytesPerRequest: 10000").len(), 2);
    assert_eq!(requests("maxBytesPerRequest: 20000").len(), 1);
}

#[test]
fn events_prints_the_outcome_of_every_event() {
    let body = batch(&[
        ("custom_event", json!({"event_name": "A"})),
        ("screen_view", json!({"screen_name": "B"})),
        ("", json!({})),
    ]);
    let output = map(&["-o", "events", "-"], &body);
    assert_eq!(output.status.code(), Some(3), "something was rejected");
    let lines = lines(&output);
    assert_eq!(
        lines[0],
        json!({"source": {"file": "-", "batch": 0, "event": 0}, "eventType": "custom_event", "outcome": "skipped", "reason": "NotSelected"})
    );
    assert_eq!(lines[1]["outcome"], "forwarded");
    assert_eq!(lines[1]["event"]["dataFields"]["screen_name"], "B");
    assert_eq!(lines[2]["outcome"], "rejected");
    assert_eq!(lines[2]["reason"], "NoEventType");
    assert!(
        lines[2]["detail"]
            .as_str()
            .unwrap()
            .contains("$.events[2].event_type")
    );
}

#[test]
fn table_prints_events_and_totals_to_stderr() {
    let body = batch(&[
        (
            "screen_view",
            json!({"screen_name": "A", "custom_attributes": {"_x": 1}}),
        ),
        ("custom_event", json!({"event_name": "A"})),
    ]);
    let output = map(&["-o", "table"], &body);
    let table: Vec<_> = text(&output.stdout).lines().collect();
    assert!(table[0].starts_with("SOURCE"));
    let words: Vec<_> = table[1].split_whitespace().collect();
    assert_eq!(
        words,
        [
            "-[0][0]",
            "screen_view",
            "forwarded",
            "Screen",
            "View",
            "ada@example.com"
        ]
    );
    assert!(table[2].contains("skipped") && table[2].contains("NotSelected"));
    let totals = text(&output.stderr);
    assert!(
        totals.starts_with("1 body: 1 forwarded, 1 skipped, 0 rejected\n"),
        "{totals}"
    );
    assert!(
        totals.contains("NotSelected") && totals.contains("FieldRenamed"),
        "{totals}"
    );
}

#[test]
fn table_contains_no_control_characters() {
    let spec = "evil \u{1b}[31m\u{202e}";
    let directory = directory("control");
    let forwarder = forwarder(
        &directory,
        "mapping: {eventName: {screenView: \"{screen_name}\"}}",
    );
    let body = batch(&[("screen_view", json!({"screen_name": spec}))]);
    let output = map(&["-o", "table", "--forwarder", &forwarder], &body);
    assert!(!text(&output.stdout).contains(['\u{1b}', '\u{202e}']));
}

fn forwarder(directory: &std::path::Path, mapping: &str) -> String {
    let path = directory.join("forwarder.yaml");
    fs::write(
        &path,
        format!(
            "apiVersion: eventforwarder.io/v1alpha1\nkind: EventForwarder\nmetadata: {{name: test}}\nspec:\n  schedule: \"0 * * * *\"\n  \
             queue: {{url: \"https://sqs.us-east-1.amazonaws.com/123456789012/events\"}}\n  iterable: {{apiKeySecretRef: {{name: iterable}}}}\n  {mapping}\n"
        ),
    )
    .unwrap();
    path.display().to_string()
}

#[test]
fn manifest_mapping_is_used() {
    let directory = directory("manifest");
    let forwarder = forwarder(
        &directory,
        "mapping: {events: [CustomEvent], dataFields: {context: []}}",
    );
    let body = batch(&[
        ("custom_event", json!({"event_name": "A"})),
        ("screen_view", json!({})),
    ]);
    let requests = lines(&map(&["--forwarder", &forwarder], &body));
    assert_eq!(requests[0]["events"].as_array().unwrap().len(), 1);
    assert_eq!(requests[0]["events"][0]["eventName"], "A");
}

#[test]
fn unknown_manifest_field_is_rejected_with_its_path() {
    let directory = directory("unknown-fields");
    for (mapping, path) in [
        ("mapping: {event: [CustomEvent]}", "spec.mapping.event;"),
        (
            "mapping: {dataFields: {contexts: []}}",
            "spec.mapping.dataFields.contexts;",
        ),
        ("maping: {}", "spec.maping;"),
        (
            "job: {tolerations: [{key: a, efect: b}]}",
            "spec.job.tolerations[0].efect;",
        ),
    ] {
        let forwarder = forwarder(&directory, mapping);
        let output = map(&["--forwarder", &forwarder], &batch(&[]));
        assert_eq!(output.status.code(), Some(2), "{mapping}");
        let error = text(&output.stderr);
        assert!(error.contains(&format!("unknown field {path}")), "{error}");
        assert!(error.contains("forwarder.yaml"), "{error}");
    }
    let free = "job: {podLabels: {a: b}, podAnnotations: {c: d}, nodeSelector: {e: f}}";
    let forwarder = forwarder(&directory, free);
    let output = map(&["--forwarder", &forwarder], &batch(&[]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for example in fs::read_dir("examples/mapping").unwrap() {
        let path = example.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let output = map(&["--forwarder", path.to_str().unwrap()], &batch(&[]));
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        }
    }
}

#[test]
fn config_map_transform_is_read_from_a_file() {
    let directory = directory("transform");
    let forwarder = forwarder(
        &directory,
        "mapping: {transform: {configMapKeyRef: {name: rules}}}",
    );
    let rule = directory.join("transform.jq");
    fs::write(&rule, ".eventName = \"Ruled\"").unwrap();
    let body = batch(&[("screen_view", json!({}))]);
    let missing = map(&["--forwarder", &forwarder], &body);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("transform.jq in ConfigMap rules"));
    let output = map(
        &[
            "--forwarder",
            &forwarder,
            "--transform",
            rule.to_str().unwrap(),
        ],
        &body,
    );
    assert_eq!(lines(&output)[0]["events"][0]["eventName"], "Ruled");
}

#[test]
fn input_can_be_files_directories_and_lines() {
    let directory = directory("inputs");
    let one = |name: &str| batch(&[("screen_view", json!({"screen_name": name}))]);
    fs::write(directory.join("b.json"), one("B")).unwrap();
    fs::write(directory.join("a.json"), one("A")).unwrap();
    fs::write(
        directory.join("c.jsonl"),
        format!("{}\nbroken\n\n{}\n", one("C"), one("D")),
    )
    .unwrap();
    let output = map(&["-o", "events", directory.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(3));
    let found: Vec<_> = lines(&output)
        .iter()
        .map(|line| {
            let file = line["source"]["file"]
                .as_str()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned();
            let result = line["event"]["dataFields"]["screen_name"]
                .as_str()
                .or(line["reason"].as_str());
            (file, result.unwrap().to_owned())
        })
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|(file, result)| (file.as_str(), result.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("a.json", "A"),
            ("b.json", "B"),
            ("c.jsonl:1", "C"),
            ("c.jsonl:2", "NotJson"),
            ("c.jsonl:4", "D")
        ]
    );
}

#[test]
fn stdin_lines_are_separate_bodies() {
    let one = |name: &str| batch(&[("screen_view", json!({"screen_name": name}))]);
    let read = |input: &str| -> Vec<(String, String)> {
        let output = map(&["-o", "events"], input);
        let line = |line: &Value| {
            let result = line["event"]["dataFields"]["screen_name"].as_str();
            let result = result.or(line["reason"].as_str()).unwrap().to_owned();
            (line["source"]["file"].as_str().unwrap().to_owned(), result)
        };
        lines(&output).iter().map(line).collect()
    };
    let found = |list: &[(&str, &str)]| -> Vec<_> {
        let owned = |(name, result): &(&str, &str)| ((*name).to_owned(), (*result).to_owned());
        list.iter().map(owned).collect()
    };
    assert_eq!(
        read(&format!("{}\n\nbroken\n{}\n", one("A"), one("B"))),
        found(&[("-:1", "A"), ("-:3", "NotJson"), ("-:4", "B")])
    );
    // A value on several lines is one body, even if it is truncated.
    let pretty: Value = serde_json::from_str(&one("A")).unwrap();
    let pretty = serde_json::to_string_pretty(&pretty).unwrap();
    assert_eq!(read(&pretty), found(&[("-", "A")]));
    assert_eq!(
        read(&pretty[..pretty.len() - 9]),
        found(&[("-", "TruncatedJson")])
    );
    assert_eq!(read(&one("A")), found(&[("-", "A")]));
}

#[test]
fn unreadable_body_is_rejected_with_its_size() {
    let path = sample_path("33");
    let output = map(&["-o", "events", path.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(3));
    let line = &lines(&output)[0];
    assert_eq!(
        (&line["outcome"], &line["reason"]),
        (&json!("rejected"), &json!("TruncatedJson"))
    );
    let size = fs::metadata(&path).unwrap().len();
    assert!(
        line["detail"]
            .as_str()
            .unwrap()
            .contains(&format!("{size} bytes")),
        "{line}"
    );
}

#[test]
fn usage_error_exits_with_2() {
    for arguments in [
        &["/nothing/there.json"][..],
        &["--forwarder", "/nothing/there.yaml"],
        &["-o", "xml"],
        &["--sent-at", "yesterday"],
        &["--no-such-flag"],
        &["--forwarder", sample_path("01").to_str().unwrap()],
    ] {
        let output = map(arguments, "{}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn invalid_mapping_is_rejected_with_position() {
    let directory = directory("wrong");
    let body = batch(&[("screen_view", json!({}))]);
    let forwarder = forwarder(
        &directory,
        "mapping: {transform: {jq: \".a |\\n nothing_such\"}}",
    );
    let output = map(&["--forwarder", &forwarder], &body);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "error: spec.mapping.transform: line 2, column 2: undefined filter nothing_such\n"
    );
}
