//! The API is as it describes itself: Schemathesis makes requests of the document, good ones and bad ones, and holds each answer against it.

use super::*;

/// Requests of each kind to one operation; the same in each run.
const EXAMPLES: &str = "6";

#[test]
fn no_request_gets_a_5xx_or_an_answer_that_is_not_described() {
    let directory = Scratch::new("admin-described");
    // It knows names; nobody of the world is asked.
    let names = name_server::start();
    let rest = format!("{SELDOM}\n[dns]\nnameservers = [\"{names}\"]");
    let config = configure(&directory, &Settings { rest: &rest, ..Settings::default() });
    let node = Node::start(&directory, &config);
    bring(&node.server, "a@example.test");
    let (status, made) =
        node.ask("POST", "/api/v1/domains", &json!({"name": "b.test", "primary": ["192.0.2.1"]}));
    assert_eq!(status, 201, "{made}");
    let report = directory.path("report.xml");
    let output = Command::new("python3")
        .args(["-m", "schemathesis.cli", "run", &format!("http://{}/api/openapi.json", node.api)])
        .args(["--header", &format!("Authorization: Bearer {}", node.token), "--seed", "1"])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            EXAMPLES,
            "--generation-database",
            "none",
        ])
        .args(["--checks", CHECKS, "--request-timeout", "30", "--no-color", "--continue-on-failure"])
        // What tells a contact; and what takes TOML, which it cannot write.
        .args(["--exclude-path-regex", "/contacts/[^/]+/test$|/config/check$"])
        .args(["--report", "junit", "--report-junit-path"])
        .arg(&report)
        .env("PYTHONPATH", unpacked().with_file_name("pip"))
        .env("HOME", directory.path("."))
        .current_dir(directory.path("."))
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let tried = text.lines().find_map(|line| line.trim().strip_prefix("Selected: ").map(str::to_owned));
    assert!(tried.is_some(), "operations were tried: {text}");
    // It is there yet, and what waited waits.
    assert_eq!(node.get("/api/v1/status")["domains"].as_array().map(|all| all.is_empty()), Some(false));
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,\
    unsupported_method,ignored_auth";
