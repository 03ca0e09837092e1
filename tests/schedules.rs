//! Schedules, with the real runtime: what is due is queued once, whoever dies; what was missed is caught up as the
//! schedule says; and what does not fire says why.

mod support;

use std::collections::BTreeSet;

use ash::wire::Timestamp;
use serde_json::{Value, json};
use support::http::Response;
use support::life::{show as show_session, start};
use support::{Daemon, StandIn, wait_for};

const QUICK: &str = "[schedules]\nmin_interval = \"1s\"\n";

fn create(daemon: &Daemon, body: &Value) -> Response {
    daemon.send("POST", "/api/schedules", body)
}

/// Makes a schedule that says something to an agent; returns its id.
fn make(daemon: &Daemon, agent: &str, prompt: &str, calendar: &str, more: &Value) -> String {
    let mut body = json!({"name": "test", "agentName": agent, "prompt": prompt, "calendar": calendar});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let made = create(daemon, &body);
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["schedule"]["id"].as_str().expect("an id").to_owned()
}

fn schedule(daemon: &Daemon, id: &str) -> Value {
    let answer = daemon.get(&format!("/api/schedules/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["schedule"].clone()
}

fn until(daemon: &Daemon, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || Some(schedule(daemon, id)).filter(&holds))
}

/// Its items, newest first.
fn runs(daemon: &Daemon, id: &str) -> Vec<Value> {
    let answer = daemon.get(&format!("/api/schedules/{id}/runs?limit=500"));
    answer.json()["items"].as_array().unwrap_or_else(|| panic!("{}", answer.text())).clone()
}

fn change(daemon: &Daemon, id: &str, body: &Value) -> Value {
    let changed = daemon.send("PATCH", &format!("/api/schedules/{id}"), body);
    assert_eq!(changed.status, 200, "{}", changed.text());
    changed.json()["schedule"].clone()
}

fn time(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse::<Timestamp>().ok()).unwrap_or_else(|| panic!("{value} is a time")).millis()
}

fn now() -> i64 {
    Timestamp::from_system(std::time::SystemTime::now()).millis()
}

/// The times of the calendar that its items are for, oldest first.
fn times(daemon: &Daemon, id: &str) -> Vec<i64> {
    runs(daemon, id).iter().rev().filter(|item| !item["scheduledFor"].is_null()).map(|item| time(&item["scheduledFor"])).collect()
}

/// Ends it with its items, so that no sandbox is waited for.
fn quiet(daemon: &Daemon, id: &str) {
    change(daemon, id, &json!({"enabled": false}));
    wait_for("its items are over", || {
        let open = |item: &&Value| matches!(item["status"].as_str(), Some("pending" | "processing"));
        let items = runs(daemon, id);
        let open: Vec<_> = items.iter().filter(open).filter_map(|item| item["id"].as_str()).collect();
        for item in &open {
            daemon.send("DELETE", &format!("/api/queue/{item}?force=true"), &json!({}));
        }
        open.is_empty().then_some(())
    });
}

fn count(schedule: &Value, of: &str) -> i64 {
    schedule["counts"][of].as_i64().expect("a number")
}

#[test]
fn a_schedule_fires_by_the_clock_and_its_items_are_answered() {
    let Some((_model, daemon)) = start(QUICK) else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let id = make(&daemon, "test", "say: tick", "*:*:0/2", &json!({"priority": 7, "maxRetries": 1}));
    let fresh = schedule(&daemon, &id);
    assert_eq!((&fresh["enabled"], &fresh["catchUp"], &fresh["overlap"]), (&json!(true), &json!("once"), &json!("skip")));
    let done = until(&daemon, &id, "two are answered", |schedule| count(schedule, "completed") >= 2);
    // Where an answer took its time, one may have been left out.
    assert!(done["failuresInRow"] == 0 && (done["lastError"].is_null() || count(&done, "skipped") > 0), "{done}");
    assert!(time(&done["nextAt"]) > time(&done["lastAt"]), "{done}");
    let items = runs(&daemon, &id);
    let answered = items.iter().find(|item| item["status"] == "completed").expect("one is answered");
    assert_eq!((&answered["scheduleId"], &answered["priority"], &answered["maxRetries"]), (&json!(id), &json!(7), &json!(1)));
    let answer = daemon.get(&format!("/api/queue/{}", answered["id"].as_str().expect("an id"))).json()["item"].clone();
    assert_eq!(answer["result"], "tick");
    let session = answer["sessionId"].as_str().expect("a session");
    wait_for("its session is ended", || (show_session(&daemon, session)["status"] == "ended").then_some(()));
    let times = times(&daemon, &id);
    assert!(times.is_sorted_by(|a, b| a < b) && times.iter().all(|time| time % 2000 == 0), "{times:?}");

    // Disabled it does nothing, and enabled again it does not make up for it.
    let off = change(&daemon, &id, &json!({"enabled": false}));
    assert_eq!(off["nextAt"], Value::Null);
    let disabled = now();
    wait_for("the clock goes on", || (now() > disabled + 4000).then_some(()));
    let on = change(&daemon, &id, &json!({"enabled": true}));
    let enabled = time(&on["updatedAt"]);
    wait_for("it fires again", || times_after(&daemon, &id, enabled).first().copied());
    let between: Vec<_> = self::times(&daemon, &id).into_iter().filter(|time| (disabled..=enabled).contains(time)).collect();
    assert!(between.is_empty(), "{between:?}");

    // Into a session.
    change(&daemon, &id, &json!({"enabled": false}));
    let session = daemon.create(&json!({"agent": "test"}));
    let into = change(&daemon, &id, &json!({"sessionId": session, "enabled": true}));
    let item = wait_for("one goes into it", || {
        let mut items = runs(&daemon, &id).into_iter();
        items.find(|item| item["sessionId"] == session.as_str() && item["status"] == "completed")
    });
    assert!(time(&item["scheduledFor"]) > time(&into["updatedAt"]), "{item}");
    assert_eq!(show_session(&daemon, &session)["status"], "active", "it is not the item's own");
    assert_eq!(daemon.send("DELETE", &format!("/api/schedules/{id}"), &json!({})).json(), json!({"ok": true}));
    assert_eq!(daemon.get(&format!("/api/schedules/{id}/runs")).status, 404);
    let path = format!("/api/queue/{}", item["id"].as_str().expect("an id"));
    assert_eq!(daemon.get(&path).json()["item"]["scheduleId"], id.as_str(), "its items stay");
    assert!(!daemon.log().contains("say: tick"), "what people say is not in the journal");
}

fn times_after(daemon: &Daemon, id: &str, after: i64) -> Vec<i64> {
    times(daemon, id).into_iter().filter(|time| *time > after).collect()
}

#[test]
fn no_time_is_lost_or_doubled_however_often_the_daemon_dies() {
    let Some((_model, mut daemon)) = start(QUICK) else { return };
    let id = make(&daemon, "nobody", "x", "*:*:*", &json!({"catchUp": "all", "overlap": "queue", "jitterSeconds": 30}));
    for _ in 0..4 {
        let before = times(&daemon, &id).len();
        wait_for("it fires", || (times(&daemon, &id).len() > before).then_some(()));
        daemon.kill();
        let dead = now();
        wait_for("some times pass", || (now() > dead + 2500).then_some(()));
        daemon.run();
    }
    let last = now();
    wait_for("it has caught up", || times_after(&daemon, &id, last).first().copied());
    let times = times(&daemon, &id);
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1000), "{times:?}");
    let at_end = schedule(&daemon, &id);
    assert_eq!((count(&at_end, "skipped"), &at_end["enabled"]), (0, &json!(true)), "{at_end}");
    // There is no such agent: the schedule says so, and goes on.
    let failing = until(&daemon, &id, "its items fail", |schedule| schedule["failuresInRow"].as_i64() >= Some(3));
    assert_eq!(failing["lastError"], "Agent \"nobody\" not found", "{failing}");
    assert_eq!(count(&failing, "completed"), 0);
}

/// What is done to the database while no daemon uses it.
fn edit(daemon: &Daemon, text: &str, values: impl rusqlite::Params) {
    let database = rusqlite::Connection::open(daemon.data().join("ash.db")).expect("opens");
    assert_eq!(database.execute(text, values).expect("changes"), 1);
}

#[test]
fn what_was_missed_while_the_daemon_was_down_runs_as_the_schedule_says() {
    let Some((_model, mut daemon)) = start("") else { return };
    let of = |catch_up: &str, calendar: &str| {
        make(&daemon, "nobody", "x", calendar, &json!({"catchUp": catch_up, "overlap": "queue"}))
    };
    // Each hour at a minute that neither was just now nor is soon.
    let half_ago = (now() / 60_000 - 30) * 60_000;
    let hourly = format!("*:{:02}", half_ago / 60_000 % 60);
    let (none, once, all, many) = (of("none", &hourly), of("once", &hourly), of("all", &hourly), of("all", "minutely"));
    // No minute of its own before.
    change(&daemon, &many, &json!({"enabled": false}));
    daemon.stop();
    // As if it had been down since before four and a half hours.
    let begin = half_ago - 4 * 3_600_000;
    for id in [&none, &once, &all, &many] {
        edit(&daemon, "update schedules set enabled = 1, next_of = ?1, next_at = ?1 where id = ?2", rusqlite::params![begin, id]);
    }
    daemon.run();
    for id in [&none, &once, &all, &many] {
        until(&daemon, id, "it has caught up", |schedule| time(&schedule["nextAt"]) > begin + 4 * 3_600_000);
    }
    let hours: Vec<_> = (0..5).map(|hour| begin + hour * 3_600_000).collect();
    let is = |id: &str, wanted: &[i64], skipped: i64| {
        let (times, schedule) = (times(&daemon, id), schedule(&daemon, id));
        assert_eq!((times.as_slice(), count(&schedule, "skipped")), (wanted, skipped), "{schedule}");
        schedule
    };
    let told = is(&none, &[], 5);
    assert_eq!(told["lastError"], "5 times were left out, as the daemon was down or the host slept");
    is(&once, &hours[4..], 4);
    is(&all, &hours, 0);
    let caught = times(&daemon, &many);
    assert!(caught.len() >= 100 && caught.windows(2).all(|pair| pair[1] == pair[0] + 60_000), "the newest hundred: {caught:?}");
    assert!(count(&schedule(&daemon, &many), "skipped") >= 140, "and the others are noted");
}

#[test]
fn a_time_zone_that_can_not_be_read_for_once_ends_nothing() {
    let stand_in = StandIn::new();
    let mut daemon = Daemon::start(&stand_in.path(), "http://127.0.0.1:9");
    let id = make(&daemon, "nobody", "x", "yearly", &json!({"timezone": "Europe/Berlin"}));
    daemon.stop();
    let due = now() - 1000;
    edit(&daemon, "update schedules set timezone = 'Europe/Nowhere', next_of = ?1, next_at = ?1 where id = ?2", (due, &id));
    daemon.run();
    let waits = until(&daemon, &id, "it is said", |schedule| !schedule["lastError"].is_null());
    assert_eq!(waits["lastError"], "timezone: \"Europe/Nowhere\" is no time zone, such as Europe/Berlin or UTC", "{waits}");
    assert!(time(&waits["nextAt"]) > now() && waits["enabled"] == true, "it is tried again: {waits}");
    assert_eq!((count(&waits, "queued"), count(&waits, "skipped")), (0, 0), "{waits}");
    // Once it can be read, the time that it waited for is queued.
    daemon.stop();
    edit(&daemon, "update schedules set timezone = 'Europe/Berlin', next_at = ?1 where id = ?2", (due, &id));
    daemon.run();
    until(&daemon, &id, "it fires", |schedule| count(schedule, "queued") == 1);
    assert_eq!(times(&daemon, &id), [due]);
}

#[test]
fn a_schedule_that_can_not_be_fired_holds_up_no_other() {
    let stand_in = StandIn::new();
    let mut daemon = Daemon::start(&stand_in.path(), "http://127.0.0.1:9");
    let [broken, sound] = ["broken", "sound"].map(|agent| make(&daemon, agent, "x", "yearly", &json!({})));
    daemon.stop();
    let database = rusqlite::Connection::open(daemon.data().join("ash.db")).expect("opens");
    let trigger =
        "create trigger breaks before insert on queue when new.agent = 'broken' begin select raise(abort, 'broken'); end";
    database.execute_batch(trigger).expect("makes it");
    let due = now() - 10_000;
    for (id, due) in [(&broken, due), (&sound, due + 1000)] {
        edit(&daemon, "update schedules set next_of = ?1, next_at = ?1 where id = ?2", (due, id));
    }
    daemon.run();
    until(&daemon, &sound, "the other fires", |schedule| count(schedule, "queued") == 1);
    let waits = schedule(&daemon, &broken);
    assert_eq!((time(&waits["nextAt"]), count(&waits, "queued")), (due, 0), "{waits}");
    wait_for("it is said", || daemon.log().contains("can not be fired").then_some(()));
    database.execute_batch("drop trigger breaks").expect("mends it");
    until(&daemon, &broken, "it fires when it can", |schedule| count(schedule, "queued") == 1);
}

#[test]
fn schedules_are_listed_in_pages_and_all_of_them_by_the_command() {
    let stand_in = StandIn::new();
    let daemon = Daemon::start_with(&stand_in.path(), "http://127.0.0.1:9", "[schedules]\nmax = 1000\n");
    let mut ids: Vec<_> = (0..102).map(|_| make(&daemon, "a", "p", "yearly", &json!({}))).collect();
    let server = format!("unix:{}", daemon.data().join("ash.sock").display());
    let ashctl = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ashctl"));
        let output = command.env("ASH_SERVER_URL", &server).args(arguments).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let of = |list: &Value| {
        let list = list.as_array().unwrap_or_else(|| panic!("{list}"));
        list.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(&ashctl(&["schedule", "list", "-o", "json"])), ids, "oldest first");
    assert_eq!(ashctl(&["schedule", "show", "@last", "-o", "json"])["id"], ids[101].as_str());
    ids.reverse();
    let page = |query: &str| of(&daemon.get(&format!("/api/schedules{query}")).json()["schedules"]);
    assert_eq!((page(""), page("?limit=500")), (ids[..50].to_vec(), ids.clone()));
    assert_eq!(page(&format!("?limit=2&before={}", ids[1])), ids[2..4]);
    assert_eq!(page(&format!("?before={}", ids[101])), [""; 0]);
    for (query, status) in [("limit=0", 400), ("limit=501", 400), ("before=x", 400), ("page=1", 400)] {
        assert_eq!(daemon.get(&format!("/api/schedules?{query}")).status, status, "{query}");
    }
    let nobody = "0198c0de-0000-7000-8000-00000000dead";
    assert_eq!(daemon.get(&format!("/api/schedules?before={nobody}")).status, 404);
}

#[test]
fn a_time_that_comes_before_the_last_item_is_over_is_left_out_or_queued() {
    let Some((_model, daemon)) = start(&format!("{QUICK}[queue]\nworkers = 1\n")) else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let id = make(&daemon, "test", "slow: 10", "*:*:*", &json!({}));
    let skipped = until(&daemon, &id, "some are left out", |schedule| count(schedule, "skipped") >= 3);
    assert_eq!((count(&skipped, "queued"), &skipped["lastError"]), (1, &json!("the item before it was not over")), "{skipped}");
    assert_eq!(runs(&daemon, &id).len(), 1);
    // When it is over, the next one goes.
    let last = skipped["lastItemId"].as_str().expect("an item").to_owned();
    daemon.send("DELETE", &format!("/api/queue/{last}?force=true"), &json!({}));
    let next = until(&daemon, &id, "another one is queued", |schedule| count(schedule, "queued") >= 2);
    assert_ne!(next["lastItemId"], last.as_str());
    change(&daemon, &id, &json!({"overlap": "queue"}));
    wait_for("they wait for one another", || {
        let waiting = runs(&daemon, &id).iter().filter(|item| item["status"] == "pending").count();
        (waiting >= 2).then_some(())
    });
    quiet(&daemon, &id);
}

#[test]
fn a_full_queue_leaves_times_out_and_the_schedule_goes_on() {
    let Some((_model, daemon)) = start(&format!("{QUICK}[queue]\nworkers = 1\npending = 2\n")) else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let id = make(&daemon, "test", "slow: 10", "*:*:*", &json!({"overlap": "queue"}));
    let full = until(&daemon, &id, "some do not fit, which is said", |schedule| {
        let is_said = |error: &str| error.contains("As many items wait in the queue as may: 2");
        count(schedule, "skipped") >= 2 && schedule["lastError"].as_str().is_some_and(is_said)
    });
    let refused = daemon.send("POST", &format!("/api/schedules/{id}/run"), &json!({}));
    assert_eq!(refused.status, 429, "{}", refused.text());
    let (queued, waits) = (count(&full, "queued"), runs(&daemon, &id)[0]["id"].as_str().expect("an id").to_owned());
    daemon.send("DELETE", &format!("/api/queue/{waits}"), &json!({}));
    until(&daemon, &id, "there is room again", |schedule| count(schedule, "queued") > queued);
    quiet(&daemon, &id);
}

#[test]
fn a_schedule_runs_by_hand_and_its_items_are_read_in_pages() {
    let Some((_model, daemon)) = start("") else { return };
    let id = make(&daemon, "nobody", "x", "yearly", &json!({"enabled": false}));
    let run = || {
        let answer = daemon.send("POST", &format!("/api/schedules/{id}/run"), &json!({}));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["item"].clone()
    };
    let made = [run(), run(), run()];
    for item in &made {
        assert_eq!((&item["scheduleId"], &item["scheduledFor"]), (&json!(id), &Value::Null), "{item}");
    }
    let after = schedule(&daemon, &id);
    assert_eq!((count(&after, "queued"), &after["lastItemId"], &after["nextAt"]), (3, &made[2]["id"], &Value::Null), "{after}");
    until(&daemon, &id, "they are over", |schedule| count(schedule, "failed") == 3);
    let page = |query: &str| {
        let items = daemon.get(&format!("/api/schedules/{id}/runs{query}")).json()["items"].clone();
        items.as_array().expect("a list").iter().map(|item| item["id"].clone()).collect::<Vec<_>>()
    };
    let ids: Vec<_> = made.iter().rev().map(|item| item["id"].clone()).collect();
    assert_eq!((page(""), page("?limit=2")), (ids.clone(), ids[..2].to_vec()));
    assert_eq!(page(&format!("?limit=2&before={}", ids[1].as_str().expect("an id"))), ids[2..]);
}

#[test]
fn bad_schedules_are_refused_by_field_and_lose_nothing() {
    let stand_in = StandIn::new();
    let daemon = Daemon::start_with(&stand_in.path(), "http://127.0.0.1:9", "[schedules]\nmax = 2\nmin_interval = \"5m\"\n");
    let good = json!({"name": "n", "agentName": "a", "prompt": "p", "calendar": "daily"});
    let nobody = "0198c0de-0000-7000-8000-00000000dead";
    let table = [
        ("name", json!(""), "1 to 100 characters"),
        ("name", json!("a\nb"), "control character"),
        ("agentName", json!(""), "name of an agent"),
        ("prompt", json!(""), "1 to 20000 characters"),
        ("prompt", json!("x".repeat(20_001)), "1 to 20000 characters"),
        ("calendar", json!(""), "has to be an expression"),
        ("calendar", json!("every day"), "is no time zone"),
        ("calendar", json!("61 * * * *"), "minute: 61 is not from 0 to 59"),
        ("calendar", json!("2020-01-01"), "never comes again"),
        ("calendar", json!("*-02-30"), "never comes again"),
        ("calendar", json!("9999-01-01"), "year: 9999"),
        ("calendar", json!("x".repeat(300)), "at most 255 characters"),
        ("calendar", json!("*:0/4"), "has times with 240 s between them, and 300 s are the fewest"),
        ("timezone", json!("Mars/Base"), "is no time zone"),
        ("timezone", json!("../../etc/passwd"), "is no time zone"),
        ("sessionId", json!("x"), "UUID"),
        ("priority", json!(-1), "has to be from 0"),
        ("maxRetries", json!(101), "has to be from 0 to 100"),
        ("catchUp", json!("twice"), "unknown variant"),
        ("overlap", json!(1), ""),
        ("jitterSeconds", json!(86_401), "has to be from 0 to 86400"),
        ("jitterSeconds", json!(-1), ""),
        ("enabled", json!("yes"), ""),
    ];
    let refused = |answer: &Response, field: &str, reason: &str| {
        let body = answer.json();
        assert_eq!((answer.status, body["details"][0]["field"].as_str()), (400, Some(field)), "{body}");
        assert!(body["details"][0]["reason"].as_str().is_some_and(|told| told.contains(reason)), "{reason}: {body}");
    };
    for (field, wrong, reason) in &table {
        let mut body = good.clone();
        body[field] = wrong.clone();
        refused(&create(&daemon, &body), field, reason);
    }
    let unknown = create(&daemon, &json!({"name": "n", "agentName": "a", "prompt": "p", "calendar": "daily", "cron": "x"}));
    assert_eq!(unknown.status, 400, "{}", unknown.text());
    for field in ["name", "agentName", "prompt", "calendar"] {
        let mut body = good.clone();
        body.as_object_mut().expect("an object").remove(field);
        refused(&create(&daemon, &body), field, "is missing");
    }
    let mut body = good.clone();
    body["sessionId"] = json!(nobody);
    assert_eq!(create(&daemon, &body).status, 404);

    let made = create(&daemon, &good).json()["schedule"].clone();
    let path = format!("/api/schedules/{}", made["id"].as_str().expect("an id"));
    for (field, wrong, reason) in &table {
        refused(&daemon.send("PATCH", &path, &json!({*field: wrong})), field, reason);
    }
    assert_eq!(daemon.get(&path).json()["schedule"], made, "it is as it was");
    let same = daemon.send("PATCH", &path, &json!({"name": "other", "jitterSeconds": 0})).json()["schedule"].clone();
    assert_eq!((&same["nextAt"], &same["name"]), (&made["nextAt"], &json!("other")), "its times are what they were");
    assert_eq!(create(&daemon, &good).status, 201);
    assert_eq!(create(&daemon, &good).status, 409, "there are as many as may be");
    for (query, field) in [("limit=0", "limit"), ("limit=501", "limit")] {
        refused(&daemon.get(&format!("{path}/runs?{query}")), field, "has to be");
    }
    assert_eq!(daemon.get(&format!("{path}/runs?before={nobody}")).status, 404);
    for (method, path) in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/run"), ("GET", "/runs")] {
        let path = format!("/api/schedules/{nobody}{path}");
        let answer = if method == "GET" { daemon.get(&path) } else { daemon.send(method, &path, &json!({})) };
        assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("Schedule not found")), "{method} {path}");
    }
}

#[test]
fn the_next_times_of_an_expression_are_shown_without_making_anything() {
    let stand_in = StandIn::new();
    let daemon = Daemon::start(&stand_in.path(), "http://127.0.0.1:9");
    let preview = |query: &str| daemon.get(&format!("/api/schedules/preview?{query}"));
    let times = |query: &str| {
        let answer = preview(query);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["times"].as_array().expect("a list").iter().map(time).collect::<Vec<_>>()
    };
    let hours = times("calendar=hourly");
    assert!(hours.len() == 5 && hours.windows(2).all(|pair| pair[1] == pair[0] + 3_600_000) && hours[0] > now(), "{hours:?}");
    let berlin = times("calendar=2099-07-01%2012:00&timezone=Europe/Berlin&count=3");
    assert_eq!(berlin, [time(&json!("2099-07-01T10:00:00.000Z"))]);
    assert_eq!(times("calendar=0%2012%201%207%20*&timezone=UTC&count=100").len(), 100);
    assert!(times("calendar=2020-01-01").is_empty());
    for (query, field) in [
        ("calendar=x", "calendar"),
        ("calendar=", "calendar"),
        ("calendar=daily&timezone=x", "timezone"),
        ("calendar=daily&count=0", "count"),
        ("calendar=daily&count=101", "count"),
    ] {
        let answer = preview(query);
        assert_eq!((answer.status, answer.json()["details"][0]["field"].as_str()), (400, Some(field)), "{}", answer.text());
    }
    assert_eq!(preview("").status, 400);
    assert_eq!(daemon.get("/api/schedules").json(), json!({"schedules": []}));
}

#[test]
fn schedules_are_of_their_tenant_and_changes_are_in_the_audit_log() {
    let stand_in = StandIn::new();
    let daemon = Daemon::start(&stand_in.path(), "http://127.0.0.1:9");
    let id = make(&daemon, "a", "p", "daily", &json!({"timezone": "Europe/Berlin"}));
    let path = format!("/api/schedules/{id}");
    let bearer = daemon.bearer(&json!({"tenant": "other"}));
    let ask = |method: &str, path: &str| daemon.send_as(&bearer, method, path, (method != "GET").then_some(&json!({})));
    for (method, path) in [
        ("GET", path.clone()),
        ("PATCH", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/run")),
        ("GET", format!("{path}/runs")),
    ] {
        assert_eq!(ask(method, &path).status, 404, "{method} {path}");
    }
    assert_eq!(ask("GET", "/api/schedules").json(), json!({"schedules": []}));
    change(&daemon, &id, &json!({"name": "other"}));
    daemon.send("POST", &format!("{path}/run"), &json!({}));
    daemon.send("DELETE", &path, &json!({}));
    let audit = daemon.get("/api/audit").json()["entries"].as_array().expect("a list").clone();
    let done: BTreeSet<_> =
        audit.iter().filter(|entry| entry["object"] == id.as_str()).filter_map(|entry| entry["action"].as_str()).collect();
    assert_eq!(done.into_iter().collect::<Vec<_>>(), ["schedule.change", "schedule.create", "schedule.delete", "schedule.run"]);
}
