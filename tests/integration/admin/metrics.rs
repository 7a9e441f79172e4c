//! `/metrics` of a real server: clean by Prometheus' own tools, read by Prometheus itself, and true; the alert rules and the
//! dashboard that go by it; and who may ask without a token.

use super::*;
use std::process::Stdio;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";
/// Connections without a token at most, and how soon the server itself ends one that says nothing.
const STRANGERS_MAX: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// One answer of `/metrics`: its header section, and the page.
fn scrape(node: &Node, accept: &str) -> (String, String) {
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n",
        node.token
    );
    let answer = raw(node.api, request.as_bytes());
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    (head.to_ascii_lowercase(), page.to_owned())
}

/// The value of one series, as it is written.
fn value(page: &str, series: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

/// A tool of Prometheus, given `input`: it finds nothing to complain about.
fn promtool(arguments: &[&str], directory: &Path, input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: make test installs it");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    // What is discouraged only ends with 0, too.
    assert!(arguments != ["check", "metrics"] || said.is_empty(), "{said}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_page_of_a_real_server_is_clean_and_adds_up() {
    let directory = Scratch::new("metrics-page");
    let config = configure(&directory, &Settings { rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    let first = bring(&node.server, "a@example.test");
    bring(&node.server, "b@example.test");
    bring(&node.server, "c@example.test");
    let mut client = Client::connect(node.server.address);
    client.say("EHLO client.test", "250");
    client.say("MAIL FROM:<me@client.test>", "250");
    client.say("RCPT TO:<who@elsewhere.test>", "55");
    assert_eq!(node.command(&["queue", "hold", &first]).0, Some(0));
    node.wait_for("down", |domain| domain["state"] == "down");
    let (head, page) = scrape(&node, "text/plain");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    promtool(&["check", "metrics"], root(), &page);
    let of_domain = |name: &str| value(&page, &format!("stratamx_domain_{name}{{domain=\"example.test\"}}"));
    assert_eq!(
        [of_domain("accepted_units_total"), of_domain("backlog_units"), of_domain("held_units")],
        [3, 2, 1]
    );
    assert_eq!((of_domain("queued_messages"), of_domain("retention_seconds")), (3, 30 * 86_400));
    for (series, expected) in [
        ("stratamx_domain_state{domain=\"example.test\",state=\"down\"}", 1),
        ("stratamx_domain_state{domain=\"example.test\",state=\"up\"}", 0),
        ("stratamx_domains{state=\"down\"}", 1),
        ("stratamx_domains_left_out", 0),
        ("stratamx_accepted_messages_total{origin=\"plain\"}", 3),
        ("stratamx_smtp_end_of_data_replies_total{class=\"2xx\"}", 3),
        ("stratamx_smtp_acceptance_seconds_count", 3),
        ("stratamx_smtp_acceptance_seconds_bucket{le=\"+Inf\"}", 3),
        ("stratamx_smtp_recipients_refused_total", 1),
        ("stratamx_smtp_replies_total{class=\"3xx\"}", 3),
        ("stratamx_smtp_replies_total{class=\"5xx\"}", 1),
        ("stratamx_smtp_connections_total{outcome=\"accepted\"}", 4),
        ("stratamx_primary_sessions_total{outcome=\"served\"}", 0),
        ("stratamx_storage_failures_total{log=\"mail\",failure=\"no_segment\"}", 0),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
    assert!(value(&page, "stratamx_smtp_sessions") >= 1, "one is open");
    // The one that is made has no end that anybody will see.
    assert!(value(&page, "stratamx_certificate_not_after_seconds{certificate=\"0\"}") > 4_000_000_000);
    assert!(value(&page, "stratamx_primary_sessions_total{outcome=\"unserved\"}") >= 1);
    let commits = value(&page, "stratamx_storage_commit_seconds_count{log=\"mail\"}");
    assert!((1..=3).contains(&commits), "{commits}");
    assert!(
        value(&page, "stratamx_storage_segments_bytes")
            >= value(&page, "stratamx_domain_stored_bytes{domain=\"example.test\"}")
    );
    assert!(value(&page, "stratamx_storage_free_bytes") > value(&page, "stratamx_storage_free_min_bytes"));
    node.server.stop();
}

#[test]
fn what_is_handed_over_is_measured() {
    let directory = Scratch::new("metrics-handed-over");
    let primary = free_address();
    let config = configure(&directory, &Settings { primary, rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    bring(&node.server, "a@example.test");
    bring(&node.server, "b@example.test");
    node.wait_for("down", |domain| domain["state"] == "down");
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    assert_eq!(node.command(&["queue", "flush", "example.test"]).0, Some(0));
    node.wait_for("delivered", |domain| domain["delivered"] == 2 && domain["state"] == "up");
    let (head, page) = scrape(&node, OPEN_METRICS);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(page.ends_with("\n# EOF\n") && page.contains("# TYPE stratamx_smtp_replies counter\n"), "{page}");
    assert!(page.contains("# UNIT stratamx_storage_free_bytes bytes\n"), "{page}");
    for (series, expected) in [
        ("stratamx_domain_ended_units_total{domain=\"example.test\",outcome=\"delivered\"}", 2),
        ("stratamx_domain_backlog_units{domain=\"example.test\"}", 0),
        ("stratamx_domain_oldest_seconds{domain=\"example.test\"}", 0),
        ("stratamx_delivery_replies_total{class=\"2xx\"}", 2),
        ("stratamx_delivery_seconds_count", 2),
        ("stratamx_delivery_lag_seconds_count", 2),
        ("stratamx_primary_sessions_total{outcome=\"served\"}", 1),
        ("stratamx_primary_probes_total{outcome=\"served\"}", 1),
        ("stratamx_domain_state{domain=\"example.test\",state=\"up\"}", 1),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
    let through = ["encrypted", "plain", "verified-dane", "verified-mta-sts"].map(|transport| {
        value(&page, &format!("stratamx_delivery_units_total{{transport=\"{transport}\"}}"))
    });
    assert_eq!(through.iter().sum::<u64>(), 2, "{through:?}");
    node.server.stop();
    sink.stop();
}

/// Prometheus on loopback, with the rules of `appliance/`.
struct Prometheus {
    address: SocketAddr,
    process: Process,
}

impl Prometheus {
    fn start(directory: &Scratch, node: &Node) -> Self {
        let (config, address) = (directory.path("prometheus.yml"), free_address());
        std::fs::write(directory.path("token"), &node.token).unwrap();
        let text = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n- job_name: stratamx\n  authorization: {{type: Bearer, credentials_file: {}}}\n  \
             static_configs: [{{targets: [\"{}\"]}}]\n",
            root().join("appliance/prometheus/alerts.yml").display(),
            directory.path("token").display(),
            node.api
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path("tsdb").display()));
        command.arg(format!("--web.listen-address={address}"));
        let mut process = Process::start(&mut command);
        process.wait_for("Server is ready to receive web requests");
        Self { address, process }
    }

    fn ask(&self, path: &str) -> Value {
        // HTTP/1.0 has no chunks.
        let answer = raw(self.address, format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes());
        let body = answer.split_once("\r\n\r\n").unwrap_or_default().1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Asks until the answer is as wanted.
    fn wait_for(&self, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(path);
            if holds(&answer) {
                return answer;
            }
            assert!(Instant::now() < end, "never {what}: {answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The value of the one series that an expression gives.
    fn wait_for_value(&self, expression: &str, expected: &str) {
        self.wait_for(
            &format!("{expression} {expected}"),
            &format!("/api/v1/query?query={expression}"),
            |answer| answer["data"]["result"][0]["value"][1] == expected,
        );
    }
}

#[test]
fn prometheus_itself_reads_the_page_and_evaluates_the_rules() {
    let directory = Scratch::new("metrics-prometheus");
    let config = configure(&directory, &Settings { rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    bring(&node.server, "a@example.test");
    node.wait_for("down", |domain| domain["state"] == "down");
    let prometheus = Prometheus::start(&directory, &node);
    prometheus.wait_for("scraped", "/api/v1/targets", |answer| {
        let target = &answer["data"]["activeTargets"][0];
        target["health"] == "up"
    });
    prometheus.wait_for_value("stratamx_domain_backlog_units", "1");
    prometheus.wait_for_value("sum(stratamx_domain_state)", "1");
    prometheus.wait_for_value("stratamx_smtp_acceptance_seconds_count", "1");
    // Only OpenMetrics has units: that is what it asked for.
    let told = prometheus.ask("/api/v1/targets/metadata?metric=stratamx_storage_free_bytes");
    assert_eq!(
        (&told["data"][0]["type"], &told["data"][0]["unit"]),
        (&json!("gauge"), &json!("bytes")),
        "{told}"
    );
    prometheus.wait_for("the alert waits for its time", "/api/v1/alerts", |answer| {
        let alerts = answer["data"]["alerts"].as_array().unwrap();
        alerts.iter().any(|alert| {
            alert["labels"]["alertname"] == "StratamxPrimaryDown"
                && alert["labels"]["domain"] == "example.test"
        })
    });
    let rules = prometheus.ask("/api/v1/rules");
    for rule in rules["data"]["groups"][0]["rules"].as_array().unwrap() {
        assert!(rule["lastError"].is_null(), "{rule}");
    }
    drop(prometheus.process);
    node.server.stop();
}

#[test]
fn the_rules_say_what_they_should() {
    let directory = root().join("appliance/prometheus");
    promtool(&["check", "rules", "alerts.yml"], &directory, "");
    promtool(&["test", "rules", "alerts.test.yml"], &directory, "");
    let rules = std::fs::read_to_string(directory.join("alerts.yml")).unwrap();
    let tried = std::fs::read_to_string(directory.join("alerts.test.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tried.contains(&format!("alertname: {alert}")), "{alert} is not tried");
    }
}

/// Names of metrics in a text, without what a histogram adds to them.
fn names_in<'a>(text: &'a str, known: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let metrics = words.filter(|word| word.starts_with("stratamx_") || word.starts_with("process_"));
    let base = |word: &'a str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        base.filter(|base| known.contains(base)).unwrap_or(word)
    };
    metrics.map(base).collect()
}

#[test]
fn rules_and_dashboard_go_by_what_there_is() {
    let table = std::fs::read_to_string(root().join("src/control/admin/METRICS.md")).unwrap();
    let row = |line: &'static str| line.strip_prefix("| `")?.split('`').next();
    let table: &'static str = table.leak();
    let known: BTreeSet<&str> = table.lines().filter_map(row).collect();
    for file in ["prometheus/alerts.yml", "prometheus/alerts.test.yml", "grafana/dashboard.json"] {
        let text = std::fs::read_to_string(root().join("appliance").join(file)).unwrap();
        let named = names_in(&text, &known);
        assert!(named.len() > 10, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard = std::fs::read_to_string(root().join("appliance/grafana/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    // Each query parses: as the expression of a rule, with Grafana's own variables filled in.
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    for (number, target) in targets.enumerate() {
        let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
        rules.push_str(&format!("  - record: query_{number}\n    expr: {}\n", json!(query)));
    }
    let directory = Scratch::new("metrics-dashboard");
    std::fs::write(directory.path("queries.yml"), rules).unwrap();
    promtool(&["check", "rules", "queries.yml"], &directory.path(""), "");
}

/// Sends a request on a connection that stays; the first line of its answer.
fn ask_on(stream: &mut TcpStream, path: &str, token: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut octets = [0; 4096];
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = stream.read(&mut octets).unwrap();
        assert!(count > 0, "closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&octets[..count]);
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap().to_owned()
}

/// Sixty-four connections that ask `/healthz`, or say nothing, held all places of the admin API: the operator waited in front of it.
#[test]
fn p7_who_has_no_token_keeps_nobody_out_who_has_one() {
    let directory = Scratch::new("metrics-strangers");
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    let connect = || {
        let stream = TcpStream::connect(node.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut known = connect();
    assert_eq!(ask_on(&mut known, "/healthz", &node.token), "HTTP/1.1 200 OK");
    let mut strangers: Vec<TcpStream> = (0..STRANGERS_MAX).map(|_| connect()).collect();
    for stranger in &mut strangers {
        assert_eq!(ask_on(stranger, "/healthz", "none"), "HTTP/1.1 200 OK");
    }
    let asked = Instant::now();
    let mut next = connect();
    assert_eq!(strangers[0].read(&mut [0; 1]).unwrap(), 0, "the oldest makes room");
    assert!(asked.elapsed() < HEADER_TIMEOUT / 2, "for the next one, not by itself");
    assert_eq!(ask_on(&mut next, "/metrics", "none"), "HTTP/1.1 401 Unauthorized");
    // Who says nothing for ten seconds goes; he has something to say.
    assert_eq!(ask_on(&mut known, "/healthz", &node.token), "HTTP/1.1 200 OK");
    // More than there are places.
    let silent: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    let asked = Instant::now();
    assert_eq!(node.get("/api/v1/status")["domains"][0]["name"], "example.test");
    assert!(asked.elapsed() < HEADER_TIMEOUT / 2, "nobody waited for");
    assert_eq!(ask_on(&mut known, "/api/v1/queue", &node.token), "HTTP/1.1 200 OK", "who has a token stays");
    drop(silent);
    node.server.stop();
}
