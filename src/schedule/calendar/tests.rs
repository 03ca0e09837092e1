//! Tables, the real tool, and properties.

use std::process::Command;

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;

use super::pattern::bit;
use super::{Calendar, EXPRESSION_MAX, find, zone};
use crate::wire::Timestamp;

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
}

fn read(text: &str) -> Result<Calendar, String> {
    Calendar::parse(text, &TimeZone::UTC).map_err(|error| error.to_string())
}

/// The next times in UTC, without their seconds where these are 0.
fn times(text: &str, after: &str, count: usize) -> Vec<String> {
    let calendar = read(text).expect(text);
    let next = |time: &Timestamp| calendar.next(*time);
    let times = std::iter::successors(calendar.next(at(after)), next).take(count);
    let short = |time: Timestamp| {
        let text = time.to_string().replace(".000Z", "");
        text.strip_suffix(":00").unwrap_or(&text).to_owned()
    };
    times.map(short).collect()
}

#[test]
fn expressions_of_cron_are_what_crontab_says() {
    // A Monday.
    let from = "2026-11-30T22:00:00Z";
    let cases: &[(&str, &[&str])] = &[
        ("*/15 9-17 * * 1-5", &["2026-12-01T09:00", "2026-12-01T09:15", "2026-12-01T09:30"]),
        ("0 22 * * *", &["2026-12-01T22:00", "2026-12-02T22:00"]),
        ("0 0 1 jan *", &["2027-01-01T00:00", "2028-01-01T00:00"]),
        ("0 0 * * sun", &["2026-12-06T00:00", "2026-12-13T00:00"]),
        ("0 0 * * 7", &["2026-12-06T00:00", "2026-12-13T00:00"]),
        ("0 0 * * 0", &["2026-12-06T00:00", "2026-12-13T00:00"]),
        ("0 0 * * Fri-Sun", &["2026-12-04T00:00", "2026-12-05T00:00", "2026-12-06T00:00", "2026-12-11T00:00"]),
        ("0 0 * * 0-1", &["2026-12-06T00:00", "2026-12-07T00:00", "2026-12-13T00:00"]),
        // Either of them, where both are restricted; otherwise both.
        ("0 0 13 * fri", &["2026-12-04T00:00", "2026-12-11T00:00", "2026-12-13T00:00", "2026-12-18T00:00"]),
        ("0 0 */2 * mon", &["2026-12-07T00:00", "2026-12-21T00:00", "2027-01-11T00:00"]),
        (
            "5,10-20/5,50 0 1 * *",
            &["2026-12-01T00:05", "2026-12-01T00:10", "2026-12-01T00:15", "2026-12-01T00:20", "2026-12-01T00:50"],
        ),
        ("0 0 29 2 *", &["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("@daily", &["2026-12-01T00:00", "2026-12-02T00:00"]),
        ("@Weekly", &["2026-12-06T00:00", "2026-12-13T00:00"]),
        ("  59  23  31  12  *  ", &["2026-12-31T23:59", "2027-12-31T23:59"]),
    ];
    for (text, wanted) in cases {
        assert_eq!(times(text, from, wanted.len()), *wanted, "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_what_is_wrong() {
    let long = format!("*:{}", "0,".repeat(EXPRESSION_MAX));
    for (text, wanted) in [
        ("", "has to be an expression"),
        ("   ", "has to be an expression"),
        (long.as_str(), "at most 255 characters"),
        ("60 * * * *", "minute: 60 is not from 0 to 59"),
        ("* 24 * * *", "hour: 24 is not from 0 to 23"),
        ("* * 0 * *", "day of the month: 0 is not from 1 to 31"),
        ("* * * 13 *", "month: 13 is not from 1 to 12"),
        ("* * * * 8", "day of the week: 8 is not from 0 to 7"),
        ("* * * * montag", "day of the week: \"montag\" is no number"),
        ("30-10 * * * *", "minute: \"30-10\" goes backwards"),
        ("5/10 * * * *", "a step needs a range"),
        ("*/0 * * * *", "a step of 0 leads nowhere"),
        ("*/ * * * *", "\"\" is no number"),
        ("1,,2 * * * *", "\"\" is no number"),
        ("* * * * * *", "has 6 fields"),
        ("@reboot", "is none of @hourly"),
        ("@1e3", "no seconds since 1970"),
        ("*/5 *", "\"*/5\" is neither a date"),
        ("monthy", "\"monthy\" is neither a day of the week nor a word"),
        ("Sat..Mon 10:00", "goes backwards; a week begins on Monday"),
        ("10:00 Europe/Berln", "\"Europe/Berln\" is no time zone"),
        ("10:00 11:00", "\"11:00\" is one word too many"),
        ("Mon 25:00", "hour: 25 is not from 0 to 23"),
        ("10:00:00.5", "times are whole seconds"),
        ("1:2:3:4", "is no time"),
        (":10", "hour: \"\" is no number"),
        ("*-13-01", "month: 13"),
        ("*-*-32", "day: 32"),
        ("*-*~32", "day: 32"),
        ("~1", "month: \"\" is no number"),
        ("*~*~1", "neither a date"),
        ("2300-01-01", "year: 2300 is not from 1970 to 2199"),
        ("9999-01-01", "year: 9999"),
        ("99999-01-01", "\"99999\" is no number"),
        ("-1:00", "hour: \"-1\" is no number"),
        ("\u{0}", "neither"),
        ("ÄÖÜ 10:00", "neither"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn what_never_comes_again_has_no_next_time() {
    for text in ["2020-01-01", "*-02-30", "*-02~30", "@1", "2026-11-30 22:00", "0 0 31 2,4 *", "Mon 2027-01-01", "99-1-1"] {
        assert_eq!(read(text).expect(text).next(at("2026-11-30T22:00:00Z")), None, "{text}");
    }
    assert_eq!(times("2199-12-31 23:59:59", "2026-11-30T22:00:00Z", 5), ["2199-12-31T23:59:59"]);
}

#[test]
fn a_time_that_is_not_there_or_there_twice_is_one_moment() {
    let cases: &[(&str, &str, &[&str])] = &[
        // Forward at 01:00 UTC, from 02:00 to 03:00.
        ("02:30 Europe/Berlin", "2027-03-27T00:00:00Z", &["2027-03-27T01:30", "2027-03-28T01:30", "2027-03-29T00:30"]),
        (
            "*:0/30 Europe/Berlin",
            "2027-03-28T00:00:00Z",
            &["2027-03-28T00:30", "2027-03-28T01:00", "2027-03-28T01:30", "2027-03-28T02:00"],
        ),
        ("2,3:10,50 Europe/Berlin", "2027-03-28T00:55:00Z", &["2027-03-28T01:10", "2027-03-28T01:50", "2027-03-29T00:10"]),
        // Back at 01:00 UTC, from 03:00 to 02:00.
        ("02:30 Europe/Berlin", "2027-10-30T12:00:00Z", &["2027-10-31T00:30", "2027-11-01T01:30"]),
        ("*:0/30 Europe/Berlin", "2027-10-30T23:45:00Z", &["2027-10-31T00:00", "2027-10-31T00:30", "2027-10-31T02:00"]),
        ("*:0/30 Europe/Berlin", "2027-10-31T01:10:00Z", &["2027-10-31T02:00", "2027-10-31T02:30"]),
        ("03:00 Europe/Berlin", "2027-10-31T00:00:00Z", &["2027-10-31T02:00", "2027-11-01T02:00"]),
        ("01:30 America/New_York", "2026-11-01T00:00:00Z", &["2026-11-01T05:30", "2026-11-02T06:30"]),
        ("02:30 America/New_York", "2027-03-14T00:00:00Z", &["2027-03-14T07:30", "2027-03-15T06:30"]),
        // By half an hour.
        ("02:15 Australia/Lord_Howe", "2027-10-02T00:00:00Z", &["2027-10-02T15:45", "2027-10-03T15:15"]),
        // No such night: forward at midnight.
        ("00:30 Africa/Cairo", "2027-04-29T12:00:00Z", &["2027-04-29T22:30", "2027-04-30T21:30"]),
        // A whole day left out.
        ("2011-12-30 12:00 Pacific/Apia", "2011-12-01T00:00:00Z", &["2011-12-30T22:00"]),
        ("12:00 Pacific/Apia", "2011-12-29T00:00:00Z", &["2011-12-29T22:00", "2011-12-30T22:00", "2011-12-31T22:00"]),
        // Half an hour and quarters all the year.
        ("06:00 Asia/Kolkata", "2027-01-01T00:00:00Z", &["2027-01-01T00:30", "2027-01-02T00:30"]),
        ("06:00 Asia/Kathmandu", "2027-01-01T00:00:00Z", &["2027-01-01T00:15", "2027-01-02T00:15"]),
    ];
    for (text, from, wanted) in cases {
        assert_eq!(times(text, from, wanted.len()), *wanted, "{text} after {from}");
    }
}

#[test]
fn the_zone_of_the_expression_counts_before_that_of_the_schedule() {
    let berlin = zone("Europe/Berlin").expect("known");
    let next =
        |text: &str| Calendar::parse(text, &berlin).expect(text).next(at("2026-12-01T00:00:00Z")).map(|time| time.to_string());
    assert_eq!(next("09:00").as_deref(), Some("2026-12-01T08:00:00.000Z"));
    assert_eq!(next("0 9 * * *").as_deref(), Some("2026-12-01T08:00:00.000Z"));
    assert_eq!(next("09:00 utc").as_deref(), Some("2026-12-01T09:00:00.000Z"));
    assert_eq!(next("09:00 Asia/Tokyo").as_deref(), Some("2026-12-02T00:00:00.000Z"));
    assert_eq!(next("@1800000000").as_deref(), Some("2027-01-15T08:00:00.000Z"));
    for name in ["", "Europe", "Mars/Base", "../../etc/passwd", "+01:00"] {
        assert!(zone(name).is_err(), "{name}");
    }
}

#[test]
fn a_host_without_time_zones_has_those_that_ash_brings_along() {
    let brought = TimeZoneDatabase::bundled().get("Europe/Berlin").expect("it is there");
    let summer = Calendar::parse("2027-07-01 12:00", &brought).expect("reads").next(at("2026-12-01T00:00:00Z"));
    assert_eq!(summer, Some(at("2027-07-01T10:00:00Z")));
}

#[test]
fn the_shortest_time_between_two_is_found() {
    let now = at("2026-11-30T22:00:00Z");
    for (text, wanted) in [
        ("*:*:*", Some(1)),
        ("*:0/7", Some(240)),
        ("Mon 00:00:00..02", Some(1)),
        ("daily", Some(86400)),
        ("23:59:30,45", Some(15)),
        ("0,23:59", Some(3600)),
        ("2027-01-01", None),
        ("2020-01-01", None),
        ("*/5 * * * *", Some(300)),
        ("*-*-1,31 0,23:59:00", Some(3600)),
    ] {
        assert_eq!(read(text).expect(text).shortest_gap_secs(now), wanted, "{text}");
    }
}

/// Expressions that are held against the tool, from several times on.
const COMPARED: &[&str] = &[
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "bi-annually",
    "yearly",
    "annually",
    "DAILY",
    "Mon..Fri 09:00",
    "Mon-Fri 9:0",
    "Monday..Friday",
    "mon,fri *-1/2-1,3 *:30:45",
    "Wed..Wed,Wed *-1",
    "Wed, 17:48",
    "Mon,",
    "Sat,Thu,Mon..Wed,Sat..Sun",
    "*:0/15",
    "*:2/3",
    "00:10..30/5",
    "12..14:10,20,30",
    "12,14,13,12:20,10,30",
    "9..17:0/30",
    "9..17/2:0",
    "*-*-01 00:00",
    "*-*-31",
    "*-02-29",
    "*-2-29 12:00:01",
    "*-*~01",
    "*-*~1,3",
    "*-*~01..03",
    "*-02~01",
    "*~1",
    "Mon *-05~07/1",
    "Fri *-*~7/1",
    "*-*~03..07/2",
    "*-*-01/7",
    "*-1..3/2-*",
    "10-15",
    "03-05 08:05:40",
    "Thu 10-15..20 1:2",
    "2027..2029-1-1",
    "2027/2-1-1",
    "30-1-1",
    "2199-12-31",
    "2028-02-29 23:59:59",
    "*:*:*",
    "*:*",
    "00:00:*",
    "0:0:0/20",
    "*:*:50..59/3",
    "*-*-1..3,10..12 8,20:00",
    "Mon,Sun *-12-* 2,1:23",
    "monday *-12-* 17:00",
    "@1900000000",
    "Sun *-*-1..7 06:00",
    "Sat *-*-8..14",
    "10:00 Europe/Berlin",
    "weekly Pacific/Auckland",
    "daily UTC",
    "*-*-* 12:00 America/St_Johns",
    "Mon..Fri 9:30 America/New_York",
    "*-*-01 00:00 Asia/Kolkata",
    "23:59:59 Pacific/Kiritimati",
    "0/6:0 Australia/Sydney",
    "*:0/20 Europe/London",
    "Sun 12:00 Africa/Cairo",
    "1:30 Europe/Berlin",
    "3:0 Europe/Berlin",
    "*-3,10-25..31 0:30 Europe/Berlin",
];
/// What both refuse.
const REFUSED: &[&str] = &[
    "",
    "*",
    "5",
    "10",
    "Mon *",
    "Mo",
    "Sat..Mon 10:00",
    "Mon..",
    ",Mon",
    "10:",
    ":10",
    "24:00",
    "0:60",
    "0:0:60",
    "*-13-1",
    "*-1-32",
    "*-1-0",
    "*-*-5..3",
    "0:30..10",
    "0:0/0",
    "+5:0",
    "0x10:0",
    "1.5:0",
    "*,5:0",
    "5,*:0",
    "*-1,*-1",
    "~1",
    "*-~1",
    "1:2:3:4",
    "2300-1-1",
    "1969-1-1",
    "10-15T05:00",
    "0:50/15",
    "*-*-28/7",
    "2190/10-1-1",
    "2027-1-1,2:0",
    "10:00 Europe/Berln",
    "10:00/5..30",
    "mon , tue",
    "daily daily",
    "*/5:00",
];

/// The tool's word on an expression: its next five times, `None` if it refuses it. [`Err`] without the tool.
fn tool(text: &str, from: &str) -> std::io::Result<Option<Vec<String>>> {
    let mut command = Command::new("systemd-analyze");
    command.args(["calendar", "--iterations=5", &format!("--base-time={from}"), text]);
    let output = command.env("TZ", "UTC").env("LC_ALL", "C").output()?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let time = |line: &str| {
        let (label, value) = line.trim_start().split_once(": ")?;
        let is_time = label == "Next elapse" || label.starts_with("Iter. #");
        // "Tue 2026-12-01 00:00:00 UTC"; "never" where there is none.
        let mut words = value.split_whitespace().skip(1);
        is_time.then(|| Some(format!("{}T{}.000Z", words.next()?, words.next()?))).flatten()
    };
    Ok(Some(text.lines().filter_map(time).collect()))
}

#[test]
fn times_are_those_of_systemd_analyze() {
    if let Err(error) = tool("daily", "2026-01-01 00:00:00") {
        assert!(std::env::var_os("CI").is_none(), "systemd-analyze can not be run: {error}");
        eprintln!("skipped: systemd-analyze can not be run: {error}");
        return;
    }
    for text in COMPARED {
        for from in ["2026-11-30 22:00:00", "2028-02-28 23:59:59"] {
            let wanted = tool(text, from).expect("it ran before").unwrap_or_else(|| panic!("systemd refuses {text:?}"));
            let calendar = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            let after = at(&format!("{}Z", from.replace(' ', "T")));
            let found: Vec<_> = std::iter::successors(calendar.next(after), |time| calendar.next(*time))
                .take(5)
                .map(|time| time.to_string())
                .collect();
            assert_eq!(found, wanted, "{text} after {from}");
        }
    }
    for text in REFUSED {
        assert_eq!(tool(text, "2026-11-30 22:00:00").expect("it ran before"), None, "{text}");
        assert!(read(text).is_err(), "{text}");
    }
}

/// Pieces of expressions, good and bad.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        (0_u32..70).prop_map(|n| n.to_string()),
        (0_u32..70, 0_u32..70).prop_map(|(a, b)| format!("{a}..{b}")),
        (0_u32..70, 0_u32..70).prop_map(|(a, b)| format!("{a}/{b}")),
        (0_u32..70, 0_u32..70).prop_map(|(a, b)| format!("{a}-{b}")),
        prop::collection::vec(0_u32..40, 1..6).prop_map(|list| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        "\\PC{0,8}",
    ]
}

fn expression() -> impl Strategy<Value = String> {
    prop_oneof![
        (piece(), piece(), piece(), piece(), piece()).prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}")),
        (piece(), piece(), piece(), piece()).prop_map(|(a, b, c, d)| format!("{a}-{b} {c}:{d}")),
        (piece(), piece(), piece()).prop_map(|(a, b, c)| format!("*-{a}~{b} {c}:00")),
        (piece(), piece(), piece()).prop_map(|(a, b, c)| format!("{a}:{b}:{c} Europe/Berlin")),
        "\\PC{0,300}",
    ]
}

/// Whether a time is meant, looked at by itself.
fn is_meant(calendar: &Calendar, time: DateTime) -> bool {
    let (pattern, next) = (&calendar.pattern, time.checked_add(jiff::Span::new().seconds(1)).ok());
    // The first from here on is this one, and that is so for each of its parts.
    pattern.at_or_after(time) == Some(time)
        && next.is_some_and(|next| pattern.at_or_after(next).is_none_or(|after| after > time))
        && pattern.hours & 1 << time.hour() != 0
        && pattern.minutes & 1 << time.minute() != 0
        && pattern.seconds & 1 << time.second() != 0
        && pattern.months & 1 << time.month() != 0
        && (pattern.is_either || pattern.weekdays & bit(time.weekday()) != 0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_is_read_or_refused_and_its_times_grow(text in expression(), after in 0_i64..7_000_000_000_000) {
        let Ok(calendar) = read(&text) else { return Ok(()) };
        let mut last = Timestamp(after);
        for _ in 0..20 {
            let Some(next) = calendar.next(last) else { break };
            prop_assert!(next > last, "{text}: {next} after {last}");
            // What is asked a moment before is answered the same.
            prop_assert_eq!(calendar.next(Timestamp(next.millis() - 1)), Some(next));
            last = next;
        }
    }

    #[test]
    fn no_time_is_left_out_and_none_is_invented(text in expression(), after in 1_700_000_000_i64..1_900_000_000) {
        let Ok(calendar) = read(&text) else { return Ok(()) };
        prop_assume!(!text.contains("Berlin"));
        let from = jiff::Timestamp::from_second(after).expect("in range");
        let mut wanted = None;
        for second in 1..4000 {
            let civil = TimeZone::UTC.to_datetime(from + jiff::SignedDuration::from_secs(second));
            if is_meant(&calendar, civil) {
                wanted = Some(Timestamp((after + second) * 1000));
                break;
            }
        }
        let found = calendar.next(Timestamp(after * 1000));
        match wanted {
            Some(_) => prop_assert_eq!(found, wanted),
            None => prop_assert!(found.is_none_or(|found| found.millis() >= (after + 4000) * 1000)),
        }
    }
}

#[test]
fn a_time_zone_that_the_host_has_not_is_the_one_that_ash_brings_along() {
    let none = TimeZoneDatabase::none();
    // The second is an old name, which Debian has in a package of its own.
    for name in ["Europe/Berlin", "US/Pacific"] {
        assert!(find(name, &none).is_some_and(|zone| zone.iana_name() == Some(name)), "{name}");
    }
    assert!(find("Europe/Nowhere", &none).is_none());
}
