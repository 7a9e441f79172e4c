//! Domains of the API: kept, in force, and what a list never does.

use super::super::store::tests::Directory;
use super::super::store::{Connection, StoreThread};
use super::*;
use serde_json::json;

fn opened(directory: &Directory, config: &Config) -> (Arc<Provisioned>, Receiver<Applied>, StoreThread) {
    let (store, thread) = Store::open(&directory.0).expect("it opens");
    let (provisioned, wanted) =
        Provisioned::open(store, Arc::default(), config).expect("what is kept can be read");
    (provisioned, wanted, thread)
}

fn settings(value: Value) -> Settings {
    value.as_object().expect("an object").clone()
}

/// Runs changes while somebody puts them in force.
fn run<T>(wanted: &Receiver<Applied>, test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let wanted = wanted.clone();
    runtime.block_on(async {
        tokio::spawn(async move { while wanted.recv().await.is_ok() {} });
        test.await
    })
}

async fn put(own: &Arc<Provisioned>, name: &str, value: Value) -> Result<Option<Entry>, Refused> {
    let settings = settings(value);
    own.change(name.to_owned(), |_| Ok(Change::Put(settings))).await
}

#[test]
fn a_domain_is_kept_and_in_force_and_follows_the_defaults() {
    let directory = Directory::new("provisioned");
    let mut config = Config::embedded();
    let (own, wanted, thread) = opened(&directory, &config);
    run(&wanted, async {
        let body = json!({ "primary": ["192.0.2.1"], "max_connections": 3 });
        let entry = put(&own, "a.test", body.clone()).await.expect("taken").expect("there");
        assert_eq!((entry.domain.max_connections, entry.domain.retention), (3, config.delivery.retention));
        assert_eq!(put(&own, "example.test", body).await.map(drop), Err(Refused::Pinned));
        for (wrong, expected) in [
            (json!({}), "primary: is missing"),
            (json!({ "primary": ["192.0.2.1"], "colour": "red" }), "colour: unknown key"),
            (json!({ "primary": ["192.0.2.1"], "retention": null }), "retention: null is no value"),
            (json!({ "primary": ["192.0.2.1"], "arc": { "key": "/etc/shadow" } }), "arc: "),
        ] {
            match put(&own, "b.test", wrong).await {
                Err(Refused::Invalid(error)) => assert!(error.starts_with(expected), "{error}"),
                other => panic!("{other:?}"),
            }
        }
    });
    let names = |config: &Config| {
        own.merged(config).domains.iter().map(|domain| domain.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&config), ["example.test", "a.test"]);
    config.delivery.retention /= 2;
    own.use_configuration(&config).expect("no list");
    assert_eq!(own.merged(&config).domains[1].retention, config.delivery.retention);
    thread.stop();
    config.domains[0].name = "a.test".to_owned();
    let (own, _wanted, thread) = opened(&directory, &config);
    assert_eq!(own.merged(&config).domains.len(), 1, "the file has it");
    assert!(own.entry("a.test").is_some() && own.is_pinned("a.test"));
    config.domains.clear();
    config.postmaster = "postmaster@localhost".to_owned();
    assert_eq!(own.merged(&config).postmaster, "postmaster@a.test");
    thread.stop();
}

#[test]
fn a_list_never_refuses_everybody() {
    let directory = Directory::new("provisioned-list");
    let config = Config::embedded();
    let (own, wanted, thread) = opened(&directory, &config);
    let listed = || json!({ "primary": ["192.0.2.1"], "recipients": "list" });
    run(&wanted, async {
        assert_eq!(put(&own, "a.test", listed()).await.map(drop), Err(Refused::NoRecipients));
        assert!(own.entry("a.test").is_none(), "nothing was kept");
        put(&own, "a.test", json!({ "primary": ["192.0.2.1"] })).await.expect("taken");
        let add = |transaction: &Transaction<'_>, of: &str| {
            recipient::add(transaction, of, &["one@a.test".to_owned(), "two@a.test".to_owned()])
        };
        assert_eq!(own.change_recipients("a.test".to_owned(), add).await, Ok((2, 2)));
        put(&own, "a.test", listed()).await.expect("taken");
        assert!(own.recipients.domain("a.test").list().contains("two"));
        let clear = own.change_recipients("a.test".to_owned(), recipient::clear);
        assert_eq!(clear.await, Err(Refused::NoRecipients));
        let removed = own.change_recipients("a.test".to_owned(), |transaction, of| {
            recipient::remove(transaction, of, "two@a.test")
        });
        assert_eq!(removed.await, Ok((true, 1)));
    });
    let list = own.recipients.domain("a.test").list();
    assert!(list.contains("one") && !list.contains("two"));
    thread.stop();
    let (own, wanted, thread) = opened(&directory, &config);
    assert!(own.recipients.domain("a.test").list().contains("one"), "it is read at the start");
    run(&wanted, async {
        own.change("a.test".to_owned(), |_| Ok(Change::Remove)).await.expect("removed");
    });
    assert!(own.recipients.domain("a.test").list().is_empty());
    let left = own.store.run_blocking(|connection: &mut Connection| recipient::count(connection, "a.test"));
    assert_eq!(left, Ok(0), "its recipients went with it");
    thread.stop();
}

/// A reload that pins a domain comes between the look at the pin and the end of a change.
#[test]
fn the_list_of_the_file_is_never_replaced_by_one_of_the_api() {
    let directory = Directory::new("provisioned-pin");
    let config = Config::embedded();
    let (own, wanted, thread) = opened(&directory, &config);
    run(&wanted, async {
        put(&own, "a.test", json!({ "primary": ["192.0.2.1"] })).await.expect("taken");
    });
    let mut pinning = config.clone();
    pinning.domains[0].name = "a.test".to_owned();
    let mut builder = RecipientListBuilder::default();
    builder.add("boss@a.test", "a.test").expect("it fits");
    let files = Arc::new(builder.finish());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let removing = own.change("a.test".to_owned(), |_| Ok(Change::Remove));
        let reloading = async {
            let applied = wanted.recv().await.expect("a change waits");
            own.pin(&pinning);
            own.recipients.domain("a.test").use_list(Arc::clone(&files));
            drop(applied);
        };
        let (removed, ()) = tokio::join!(removing, reloading);
        assert!(removed.expect("removed").is_none());
    });
    assert!(own.recipients.domain("a.test").list().contains("boss"), "the file's list holds");
    thread.stop();
}

#[test]
fn h13_settings_of_a_newer_version_leave_the_domain_protected() {
    let directory = Directory::new("provisioned-newer");
    let config = Config::embedded();
    let (store, thread) = Store::open(&directory.0).expect("it opens");
    let kept = store.run_blocking(|connection| {
        let transaction = connection.transaction()?;
        let newer = "{\"primary\":[\"192.0.2.1:26\"],\"colour\":\"red\",\"max_connections\":2}";
        domain::put(&transaction, "a.test", newer)?;
        domain::put(&transaction, "b.test", "{\"primary\":{\"hosts\":[]}}")?;
        transaction.commit()
    });
    assert_eq!(kept, Ok(()));
    thread.stop();
    let (own, _wanted, thread) = opened(&directory, &config);
    let merged = own.merged(&config);
    assert_eq!(merged.domains[1].primaries.to_string(), "192.0.2.1:26");
    assert_eq!(own.entry("a.test").expect("there").settings["colour"], "red", "it is not lost");
    assert_eq!(merged.domains[2].primaries.to_string(), "mx", "it is protected all the same");
    thread.stop();
}
