//! Domains, recipients, tokens, the audit log, Idempotency-Key and the document.

use super::super::routes::router;
use super::{TOKEN, answer, api, call, run};
use axum::http::StatusCode;
use core::time::Duration;
use serde_json::Value;

const FIRST: (&str, &[(&str, &str)]) = (TOKEN, &[]);

#[test]
fn a_domain_is_made_changed_and_removed_by_who_has_seen_it() {
    run(async {
        let (api, receivers, _directory) = api(1);
        answer(receivers);
        let router = router(&api);
        let body = r#"{"name": "A.test", "primary": ["192.0.2.1"], "retention": "2d"}"#;
        let (status, headers, made) = call(&router, "POST", "/api/v1/domains", FIRST, body).await;
        assert_eq!((status, &made["origin"]), (StatusCode::CREATED, &Value::from("api")), "{made}");
        assert_eq!(headers["location"], "/api/v1/domains/a.test");
        assert_eq!(made["settings"]["retention"], "2d");
        let seen = headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(call(&router, "POST", "/api/v1/domains", FIRST, body).await.0, StatusCode::CONFLICT);
        let path = "/api/v1/domains/a.test";
        let patch = r#"{"retention": null, "max_connections": 2}"#;
        let with_tag = |tag: &str| [("if-match".to_owned(), tag.to_owned())];
        for (tag, expected) in [("\"77\"", 412), (&*seen, 200), (&*seen, 412), ("*", 200)] {
            let [(name, value)] = with_tag(tag);
            let headers = [(name.as_str(), value.as_str())];
            let (status, _, told) = call(&router, "PATCH", path, (TOKEN, &headers), patch).await;
            assert_eq!(status.as_u16(), expected, "{tag}: {told}");
        }
        let entry = api.provisioned.entry("a.test").unwrap();
        assert_eq!((entry.domain.max_connections, entry.settings.contains_key("retention")), (2, false));
        for (method, path, headers, body, expected) in [
            ("PUT", path, &[("if-none-match", "*")][..], r#"{"primary": ["192.0.2.1"]}"#, 412),
            ("PUT", "/api/v1/domains/example.test", &[], r#"{"primary": ["192.0.2.1"]}"#, 409),
            ("PATCH", "/api/v1/domains/other.test", &[], "{}", 404),
            ("PUT", path, &[], r#"{"primary": "nowhere"}"#, 422),
            ("PUT", path, &[], r#"["primary"]"#, 400),
            ("DELETE", "/api/v1/domains/a.test?with_mail=no", &[], "", 400),
            ("DELETE", "/api/v1/domains/example.test", &[], "", 409),
            ("DELETE", path, &[("if-match", "\"77\"")], "", 412),
            ("DELETE", path, &[], "", 204),
            ("DELETE", path, &[], "", 404),
            ("PUT", path, &[("if-none-match", "*")], r#"{"primary": "mx"}"#, 201),
        ] {
            let (status, _, told) = call(&router, method, path, (TOKEN, headers), body).await;
            assert_eq!(status.as_u16(), expected, "{method} {path} {body}: {told}");
        }
    });
}

#[test]
fn h14_a_domain_with_mail_goes_only_when_that_is_meant() {
    run(async {
        let (api, receivers, _directory) = api(1);
        answer(receivers);
        let router = router(&api);
        let body = r#"{"name": "a.test", "primary": ["192.0.2.1"]}"#;
        assert_eq!(call(&router, "POST", "/api/v1/domains", FIRST, body).await.0, StatusCode::CREATED);
        api.current.get().usage.domain("a.test").raise(100);
        let (status, _, told) = call(&router, "DELETE", "/api/v1/domains/a.test", FIRST, "").await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(
            told["detail"].as_str().unwrap().starts_with("1 messages of it are queued or held"),
            "{told}"
        );
        let path = "/api/v1/domains/a.test?with_mail=keep";
        assert_eq!(call(&router, "DELETE", path, FIRST, "").await.0, StatusCode::NO_CONTENT);
    });
}

#[test]
fn a_token_may_do_what_it_was_made_for_until_it_is_revoked() {
    run(async {
        let (api, receivers, _directory) = api(1);
        answer(receivers);
        let router = router(&api);
        let make = async |body: &str| call(&router, "POST", "/api/v1/tokens", FIRST, body).await;
        let (status, _, made) = make(r#"{"name": "panel", "scopes": ["provision"]}"#).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let token = made["token"].as_str().unwrap().to_owned();
        let body = r#"{"name": "a.test", "primary": ["192.0.2.1"]}"#;
        for (method, path, body, expected) in [
            ("POST", "/api/v1/domains", body, 201),
            ("GET", "/api/v1/domains/a.test", "", 200),
            ("POST", "/api/v1/queue/flush", r#"{"domain": "a.test"}"#, 403),
            ("GET", "/api/v1/queue/X/export", "", 403),
            ("GET", "/api/v1/tokens", "", 403),
            ("GET", "/api/v1/audit", "", 403),
            ("GET", "/nowhere", "", 404),
        ] {
            let (status, _, told) = call(&router, method, path, (&token, &[]), body).await;
            assert_eq!(status.as_u16(), expected, "{method} {path}: {told}");
        }
        let (_, _, listed) = call(&router, "GET", "/api/v1/tokens", FIRST, "").await;
        assert_eq!(listed["tokens"][0]["scopes"], serde_json::json!(["provision"]));
        assert!(!listed.to_string().contains(&token));
        let id = made["id"].as_i64().unwrap();
        let path = format!("/api/v1/tokens/{id}");
        for expected in [204, 404] {
            assert_eq!(call(&router, "DELETE", &path, FIRST, "").await.0.as_u16(), expected);
        }
        let (status, ..) = call(&router, "GET", "/api/v1/domains/a.test", (&token, &[]), "").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        for wrong in [
            r#"{"name": "", "scopes": ["read"]}"#,
            r#"{"name": "x", "scopes": []}"#,
            r#"{"name": "x", "scopes": ["read"], "expires_s": 1}"#,
        ] {
            assert_eq!(make(wrong).await.0, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        }
        assert_eq!(make(r#"{"name": "x", "scopes": ["fly"]}"#).await.0, StatusCode::BAD_REQUEST);
        let key = (TOKEN, &[("idempotency-key", "1")][..]);
        let (status, ..) =
            call(&router, "POST", "/api/v1/tokens", key, r#"{"name": "x", "scopes": ["read"]}"#).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "its answer would have to be kept");
    });
}

#[test]
fn changes_and_looks_at_content_are_written_down_before_they_are_done() {
    run(async {
        let (api, receivers, directory) = api(1);
        answer(receivers);
        let router = router(&api);
        let body = r#"{"name": "a.test", "primary": ["192.0.2.1"], "password": "x"}"#;
        assert_eq!(
            call(&router, "POST", "/api/v1/domains?x=1", FIRST, body).await.0,
            StatusCode::UNPROCESSABLE_ENTITY
        );
        assert_eq!(call(&router, "GET", "/api/v1/domains", FIRST, "").await.0, StatusCode::OK);
        let (_, _, log) = call(&router, "GET", "/api/v1/audit", FIRST, "").await;
        let entries = log["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "who only looks is not in it: {log}");
        assert_eq!(
            (&entries[0]["path"], &entries[0]["status"], &entries[0]["caller"]),
            (&"/api/v1/domains?x=1".into(), &422.into(), &"first administrator".into())
        );
        assert!(!log.to_string().contains("\"x\"") && log.to_string().contains("not written down"), "{log}");
        // Nobody can be written down: nothing is done.
        let other = rusqlite::Connection::open(directory.0.join(crate::control::store::NAME)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        api.store.run(|connection| connection.busy_timeout(Duration::ZERO)).await.unwrap();
        let body = r#"{"name": "a.test", "primary": ["192.0.2.1"]}"#;
        assert_eq!(
            call(&router, "POST", "/api/v1/domains", FIRST, body).await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert!(api.provisioned.entry("a.test").is_none());
        assert_eq!(
            call(&router, "GET", "/api/v1/domains", FIRST, "").await.0,
            StatusCode::OK,
            "looks are free"
        );
    });
}

#[test]
fn a_request_with_a_key_is_done_once_and_answered_alike() {
    run(async {
        let (api, receivers, _directory) = api(1);
        answer(receivers);
        let router = router(&api);
        let keyed = (TOKEN, &[("idempotency-key", "order 1")][..]);
        let body = r#"{"name": "a.test", "primary": ["192.0.2.1"]}"#;
        let (status, headers, first) = call(&router, "POST", "/api/v1/domains", keyed, body).await;
        assert!(status == StatusCode::CREATED && !headers.contains_key("idempotency-replayed"), "{first}");
        let (status, headers, again) = call(&router, "POST", "/api/v1/domains", keyed, body).await;
        assert_eq!(
            (status, &headers["idempotency-replayed"]),
            (StatusCode::CREATED, &"true".parse().unwrap())
        );
        assert_eq!(again, first);
        let other = r#"{"name": "b.test", "primary": ["192.0.2.1"]}"#;
        let (status, ..) = call(&router, "POST", "/api/v1/domains", keyed, other).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(api.provisioned.entry("b.test").is_none());
        let (_, _, log) = call(&router, "GET", "/api/v1/audit", FIRST, "").await;
        assert_eq!(log["entries"].as_array().unwrap().len(), 1, "what was not done is not in it: {log}");
    });
}

#[test]
fn recipients_come_as_a_list_and_go_one_by_one() {
    run(async {
        let (api, receivers, _directory) = api(1);
        answer(receivers);
        let router = router(&api);
        let body = r#"{"name": "a.test", "primary": ["192.0.2.1"]}"#;
        assert_eq!(call(&router, "POST", "/api/v1/domains", FIRST, body).await.0, StatusCode::CREATED);
        let path = "/api/v1/domains/a.test/recipients";
        let kind = |kind: &'static str| (TOKEN, vec![("content-type", kind)]);
        for (method, media, body, expected) in [
            ("POST", "text/csv", "address\none@a.test\ntwo@a.test,Two\n", 200),
            ("POST", "application/json", "[\"three\"]", 200),
            ("POST", "text/plain", "four@other.test", 422),
            ("POST", "application/xml", "<one/>", 415),
            ("PUT", "text/plain; charset=utf-8", "one\ntwo\nfive\n", 200),
        ] {
            let (token, headers) = kind(media);
            let (status, _, told) = call(&router, method, path, (token, &headers), body).await;
            assert_eq!(status.as_u16(), expected, "{media} {body}: {told}");
        }
        let (_, _, page) = call(&router, "GET", &format!("{path}?limit=2"), FIRST, "").await;
        assert_eq!(page["recipients"], serde_json::json!(["five@a.test", "one@a.test"]));
        assert_eq!((&page["total"], &page["next"]), (&3.into(), &"one@a.test".into()));
        let (_, _, page) = call(&router, "GET", &format!("{path}?after=one@a.test"), FIRST, "").await;
        assert_eq!(page["recipients"], serde_json::json!(["two@a.test"]));
        for expected in [204, 404] {
            let (status, ..) = call(&router, "DELETE", &format!("{path}/two@a.test"), FIRST, "").await;
            assert_eq!(status.as_u16(), expected);
        }
        let (status, ..) = call(&router, "GET", "/api/v1/domains/b.test/recipients", FIRST, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn all_that_is_served_is_described() {
    run(async {
        let (api, _receivers, _directory) = api(1);
        let (status, _, document) = call(&router(&api), "GET", "/api/openapi.json", FIRST, "").await;
        assert_eq!((status, document["openapi"].as_str()), (StatusCode::OK, Some("3.1.0")));
        let paths = document["paths"].as_object().unwrap();
        for (path, method) in [
            ("/api/v1/status", "get"),
            ("/api/v1/domains", "post"),
            ("/api/v1/domains/{name}", "patch"),
            ("/api/v1/queue/{id}/{action}", "post"),
            ("/api/v1/config/reload", "post"),
        ] {
            let responses = &paths[path][method]["responses"];
            assert!(
                responses["401"]["content"]["application/problem+json"].is_object(),
                "{path}: {responses}"
            );
        }
        assert!(paths["/healthz"]["get"]["responses"].get("401").is_none());
        for (path, item) in paths {
            for (method, operation) in item.as_object().unwrap() {
                assert!(operation["summary"].is_string(), "{method} {path} has a summary");
            }
        }
    });
}
