//! A list in a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_balance::discover::{File, FileError};
use buttress_core::{Clock, Endpoints, Timestamp};

use crate::{Events, Told, names};

/// A directory that is removed again.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("discover-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).expect("the directory can be written");
}

/// Puts it there at once, as one should.
fn put(path: &Path, content: impl AsRef<[u8]>) {
    let next = path.with_extension("next");
    write(&next, content);
    fs::rename(next, path).expect("both are in one directory");
}

fn toml(names: &[&str]) -> String {
    names.iter().map(|name| format!("[[endpoint]]\nname = \"{name}\"\n\n")).collect()
}

fn source(path: &Path) -> File {
    File::new(path).expect("its name ends as it must").clock(Clock::tokio())
}

fn run(source: File) -> (Endpoints, Events) {
    let (events, observer) = Events::new();
    let endpoints = source.endpoints();
    tokio::spawn(source.observe(observer).run());
    (endpoints, events)
}

#[tokio::test(start_paused = true)]
async fn every_field_of_toml_and_of_json_is_read() {
    let dir = Dir::new();
    let (as_toml, as_json) = (dir.file("list.toml"), dir.file("list.json"));
    write(
        &as_toml,
        r#"
            [[endpoint]]
            name = "web-1"
            address = "10.0.0.1:8080"
            weight = 4
            zone = "eu-1a"
            priority = 2
            metadata = { version = "17", host = "web.example" }
            drain = true

            [[endpoint]]
            name = "10.0.0.2:8080"
            maintenance = true
        "#,
    );
    write(
        &as_json,
        r#"[
            {"name": "web-1", "address": "10.0.0.1:8080", "weight": 4, "zone": "eu-1a", "priority": 2,
             "metadata": {"version": "17", "host": "web.example"}, "drain": true},
            {"name": "10.0.0.2:8080", "maintenance": true}
        ]"#,
    );

    for path in [as_toml, as_json] {
        let (endpoints, mut events) = run(source(&path));
        assert_eq!(events.next().await, Told::Changed(2));

        let list = endpoints.list();
        let (web, plain) = (&list[0], &list[1]);
        assert_eq!((web.name().as_str(), web.address().as_str()), ("web-1", "10.0.0.1:8080"));
        assert_eq!((web.weight(), web.priority()), (4, 2));
        assert_eq!(web.zone().map(|zone| zone.as_str()), Some("eu-1a"));
        assert_eq!(web.metadata("version").map(|value| value.as_str()), Some("17"));
        assert_eq!(web.metadata("host").map(|value| value.as_str()), Some("web.example"));
        assert!(web.condition().is_draining() && !web.condition().is_in_maintenance());

        assert_eq!(plain.address().as_str(), "10.0.0.2:8080");
        assert_eq!((plain.weight(), plain.priority(), plain.zone()), (1, 0, None));
        assert!(plain.condition().is_in_maintenance() && !plain.condition().is_draining());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_keeps_the_last_good_list_and_is_told_with_its_line() {
    let good = "[[endpoint]]\nname = \"a\"\n";
    let rows = [
        ("toml", "[[endpoint]]\nname = \"a\"\nwieght = 3\n", 3, "unknown field `wieght`"),
        ("toml", "[[endpoint]]\nname = \"a\"\n\n[[endpoint]]\nweight = 3\n", 4, "missing field `name`"),
        ("toml", "[[endpoint]]\nname = \"a\"\nweight = -1\n", 3, "-1"),
        ("toml", "[[endpoint]]\nname = \"a\"\nweight = 4294967296\n", 3, "4294967296"),
        (
            "toml",
            "[[endpoint]]\nname = \"a\"\n[[endpoint]]\nname = \"b\"\n[[endpoint]]\nname = \"a\"\n",
            5,
            "endpoint of line 1",
        ),
        ("toml", "[[endpoint]]\nname = \"\"\n", 1, "`name` must not be empty"),
        ("toml", "[[endpoint]]\nname = \"a\"\naddress = \"\"\n", 1, "`address` must not be empty"),
        ("toml", "[[endpoints]]\nname = \"a\"\n", 1, "unknown field `endpoints`"),
        ("toml", "[[endpoint]]\nname = \"a", 2, "string"),
        ("json", "[\n {\"name\": \"a\"},\n {\"name\": \"b\", \"wieght\": 3}\n]", 3, "unknown field `wieght`"),
        ("json", "[\n {\"name\": \"a\"},\n {\n  \"weight\": 3\n }\n]", 5, "missing field `name`"),
        (
            "json",
            "[\n {\"name\": \"a\"},\n {\"name\": \"b\"},\n {\"name\": \"a\"}\n]",
            4,
            "endpoint of line 2",
        ),
        ("json", "[\n {\"name\": \"a\"},\n", 3, "EOF"),
        ("json", "{\"name\": \"a\"}", 1, "expected a sequence"),
        ("json", "[]\n\nrest", 3, "trailing characters"),
    ];
    for (extension, bad, line, rule) in rows {
        let dir = Dir::new();
        let path = dir.file(&format!("list.{extension}"));
        write(&path, if extension == "toml" { good } else { "[{\"name\": \"a\"}]" });
        let (endpoints, mut events) = run(source(&path));
        assert_eq!(events.next().await, Told::Changed(1));

        put(&path, bad);
        let (stay, error) = events.failure().await;
        assert_eq!((stay, names(&endpoints)), (1, vec!["a".to_owned()]), "{bad}");
        let place = format!("`{}`, line {line}: ", path.display());
        assert!(error.starts_with(&place) && error.contains(rule), "{bad}\n{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_text_has_its_line_too() {
    let dir = Dir::new();
    let path = dir.file("list.toml");
    write(&path, b"[[endpoint]]\nname = \"\xff\"\n");

    let (_, mut events) = run(source(&path));

    let (_, error) = events.failure().await;
    assert!(error.ends_with("line 2: it must be UTF-8"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_content_is_told_once_and_a_good_one_ends_it() {
    let dir = Dir::new();
    let path = dir.file("list.toml");
    write(&path, "[[endpoint]]");
    let (endpoints, mut events) = run(source(&path));
    assert_eq!(events.failure().await.0, 0);

    Clock::tokio().sleep(Duration::from_secs(60)).await;
    assert!(events.is_empty());

    put(&path, toml(&["a", "b"]));
    assert_eq!(events.next().await, Told::Changed(2));
    assert_eq!(names(&endpoints), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_there_is_waited_for_and_one_that_vanishes_keeps_its_list() {
    let dir = Dir::new();
    let path = dir.file("list.toml");
    let (endpoints, mut events) = run(source(&path));
    let (stay, error) = events.failure().await;
    assert_eq!(stay, 0);
    assert!(error.contains("list.toml` cannot be read: "), "{error}");

    put(&path, toml(&["a"]));
    assert_eq!(events.next().await, Told::Changed(1));

    for _ in 0..2 {
        fs::remove_file(&path).expect("it is there");
        assert_eq!(events.failure().await.0, 1);
        Clock::tokio().sleep(Duration::from_secs(60)).await;
        assert!(events.is_empty(), "it is told once");
        assert_eq!(names(&endpoints), ["a"]);
        put(&path, toml(&["a"]));
        Clock::tokio().sleep(Duration::from_secs(60)).await;
        assert!(events.is_empty(), "it says what it said");
    }

    put(&path, toml(&["b"]));
    assert_eq!(events.next().await, Told::Changed(1));
    assert_eq!(names(&endpoints), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_directory_in_its_place_is_no_list() {
    let dir = Dir::new();
    let path = dir.file("list.json");
    fs::create_dir(&path).expect("the directory can be written");

    let (_, mut events) = run(source(&path));

    let (_, error) = events.failure().await;
    assert!(error.ends_with("it is not a file"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_being_written_is_not_taken_though_its_half_is_well_formed() {
    let dir = Dir::new();
    let path = dir.file("list.toml");
    let all = toml(&["a", "b", "c"]);
    write(&path, toml(&["a"]));
    let (endpoints, mut events) = run(source(&path));

    // It was looked at once; before it is looked at again, the rest comes.
    Clock::tokio().sleep(Duration::from_millis(50)).await;
    write(&path, &all);

    assert_eq!(events.next().await, Told::Changed(3));
    assert_eq!(endpoints.numbered().0, 1);
}

#[tokio::test(start_paused = true)]
async fn the_links_by_which_kubernetes_swaps_a_config_map_are_followed() {
    let dir = Dir::new();
    let version = |name: &str, names: &[&str]| {
        fs::create_dir(dir.file(name)).expect("the directory can be written");
        write(&dir.file(name).join("list.toml"), toml(names));
        let link = dir.file("..data_tmp");
        std::os::unix::fs::symlink(name, &link).expect("links can be made");
        fs::rename(link, dir.file("..data")).expect("both are in one directory");
    };
    version("..2026_1", &["a"]);
    let path = dir.file("list.toml");
    std::os::unix::fs::symlink("..data/list.toml", &path).expect("links can be made");
    let (endpoints, mut events) = run(source(&path));
    assert_eq!(events.next().await, Told::Changed(1));

    version("..2026_2", &["a", "b"]);
    fs::remove_dir_all(dir.file("..2026_1")).expect("it is there");

    assert_eq!(events.next().await, Told::Changed(2));
    assert_eq!(names(&endpoints), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_endpoints_is_a_mistake_unless_it_is_meant() {
    for (name, content) in [("list.toml", ""), ("list.json", "[]")] {
        let dir = Dir::new();
        let path = dir.file(name);
        write(&path, if name == "list.toml" { toml(&["a"]) } else { "[{\"name\": \"a\"}]".to_owned() });
        let (endpoints, mut events) = run(source(&path));
        let (believing, mut believed) = run(source(&path).accept_empty());
        assert_eq!([events.next().await, believed.next().await], [Told::Changed(1), Told::Changed(1)]);

        put(&path, content);

        let (stay, error) = events.failure().await;
        assert_eq!((stay, endpoints.list().len()), (1, 1));
        assert!(error.contains("lists no endpoints"), "{error}");
        assert_eq!(believed.next().await, Told::Changed(0));
        assert!(believing.list().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn draining_follows_the_file_when_it_changes_and_the_operator_in_between() {
    let dir = Dir::new();
    let path = dir.file("list.toml");
    let list = |drain: bool, more: &str| format!("[[endpoint]]\nname = \"a\"\ndrain = {drain}\n{more}");
    write(&path, list(false, ""));
    let (endpoints, mut events) = run(source(&path));
    assert_eq!(events.next().await, Told::Changed(1));
    let a = endpoints.get("a").expect("it is listed");
    assert!(!a.condition().is_draining());

    put(&path, list(true, ""));
    assert_eq!(events.next().await, Told::Changed(1));
    assert!(a.condition().is_draining());

    // Who is at the desk knows better, until the file says something else.
    a.resume(Timestamp::ZERO);
    put(&path, list(true, "[[endpoint]]\nname = \"b\"\n"));
    assert_eq!(events.next().await, Told::Changed(2));
    assert!(!a.condition().is_draining());

    put(&path, list(true, "maintenance = true\n[[endpoint]]\nname = \"b\"\n"));
    assert_eq!(events.next().await, Told::Changed(2));
    assert!(a.condition().is_draining() && a.condition().is_in_maintenance());

    put(&path, list(false, "maintenance = true\n[[endpoint]]\nname = \"b\"\n"));
    assert_eq!(events.next().await, Told::Changed(2));
    assert!(!a.condition().is_draining() && a.condition().is_in_maintenance());

    put(&path, list(false, ""));
    assert_eq!(events.next().await, Told::Changed(1));
    assert!(a.condition().is_usable());

    // What the file ends is its own.
    put(&path, list(true, ""));
    assert_eq!(events.next().await, Told::Changed(1));
    a.maintain(Timestamp::ZERO);
    put(&path, list(false, ""));
    assert_eq!(events.next().await, Told::Changed(1));
    assert!(!a.condition().is_draining() && a.condition().is_in_maintenance());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_new_and_out_of_service_is_never_seen_in_service() {
    let dir = Dir::new();
    let path = dir.file("list.toml");
    let source = source(&path);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let _following = source.endpoints().follow(move |_, list| {
        log.lock()
            .expect("no one panics")
            .extend(list.iter().map(|endpoint| endpoint.condition().is_usable()));
    });
    write(&path, "[[endpoint]]\nname = \"a\"\nmaintenance = true\n");

    let (_, mut events) = run(source);

    assert_eq!(events.next().await, Told::Changed(1));
    assert_eq!(*seen.lock().expect("no one panics"), [false]);
}

#[tokio::test(start_paused = true)]
async fn it_looks_as_often_as_it_is_told_and_no_more_once_it_is_dropped() {
    let dir = Dir::new();
    let path = dir.file("list.toml");
    write(&path, toml(&["a"]));
    let (mut events, observer) = Events::new();
    let source = source(&path).every(Duration::from_secs(60)).observe(observer);
    let endpoints = source.endpoints();
    let task = tokio::spawn(source.run());
    assert_eq!(events.next().await, Told::Changed(1));
    let clock = Clock::tokio();
    let start = clock.now();

    put(&path, toml(&["b"]));
    assert_eq!(events.next().await, Told::Changed(1));
    let took = clock.now() - start;
    assert!((Duration::from_secs(60)..Duration::from_secs(61)).contains(&took), "{took:?}");

    task.abort();
    let _ = task.await;
    put(&path, toml(&["c"]));
    clock.sleep(Duration::from_secs(300)).await;
    assert_eq!(names(&endpoints), ["b"]);
}

#[test]
fn a_name_that_does_not_say_how_it_is_written_is_refused() {
    for path in ["endpoints", "endpoints.yaml", "toml"] {
        let error = File::new(path).expect_err("it says nothing");
        assert!(matches!(error, FileError::Format { .. }));
        assert_eq!(error.to_string(), format!("`{path}` must end in `.toml` or `.json`"));
    }
}

#[test]
#[should_panic(expected = "must be above zero")]
fn looking_all_the_time_is_refused() {
    let _ = File::new("a.toml").expect("its name ends as it must").every(Duration::ZERO);
}
