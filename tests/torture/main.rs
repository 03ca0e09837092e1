//! The torture suite: what an agent tries that wants out, tried from inside by the agent's own tool calls, with the
//! real runtime, shim and bubblewrap. `scripts/torture` runs it alone and writes its table.
//!
//! | file | what it is |
//! | --- | --- |
//! | `cases.rs` | the list: what is tried, and what it is to be refused with |
//! | `probes/` | what is run inside, one script for each group |
//! | `outside.py` | what stands for the network: a resolver and servers |
//! | `stage.rs`, `judge.rs` | what the cases play on; what the host sees of them |
//! | `machine.sh`, `machine.py` | the bombs without a bound, in a machine that enforces limits (`tests/box_torture.rs`) |
//!
//! It runs in a network namespace of its own: nothing is sent to a real host. Beside each case somebody else's
//! session answers turns; how long the longest took is told, and not judged.
//!
//! `ASH_TORTURE` names the one group to run, or the one case (`files`, `files/devices`).

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod judge;
mod stage;
mod table;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cases::{By, CASES, Case};
use judge::{Went, judge, prepare};
use stage::{Stage, say};
use support::http::{Event, result};
use table::Row;

/// Whether a case is asked for.
fn is_wanted(case: &Case) -> bool {
    let wanted = std::env::var("ASH_TORTURE").unwrap_or_default();
    wanted.is_empty() || wanted == case.group || wanted == format!("{}/{}", case.group, case.name)
}

/// Tries a case while the neighbour answers turns; the longest of them.
fn attempt(stage: &Stage, session: &str, case: &Case) -> (Vec<Event>, Duration) {
    let message = match case.by {
        By::Tool(probe) => format!("bash: {}", stage.command(probe)),
        By::Host | By::Machine(_) => "say: nothing".to_owned(),
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| {
            let events = stage.daemon.say(session, &message);
            is_over.store(true, Ordering::Relaxed);
            events
        });
        let mut longest = Duration::ZERO;
        loop {
            let begun = Instant::now();
            assert_eq!(result(&stage.daemon.say(&stage.neighbour, "say: well")), "well", "the neighbour, during {}", case.name);
            longest = longest.max(begun.elapsed());
            if is_over.load(Ordering::Relaxed) || attack.is_finished() {
                break;
            }
        }
        (attack.join().expect("the attack is carried out"), longest)
    })
}

#[test]
fn every_attack_is_refused_as_expected_while_the_neighbour_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(stage) = Stage::set(folder.path()) else { return };
    let (mut rows, mut session, mut group) = (Vec::new(), None, "");
    say(table::HEAD);
    for case in CASES.iter().filter(|case| !matches!(case.by, By::Machine(_)) && is_wanted(case)) {
        if group != case.group {
            (session, group) = (None, case.group);
        }
        let attacker = session.take().unwrap_or_else(|| stage.attacker());
        stage.heard();
        prepare(&stage, &attacker, case);
        let (events, neighbour) = attempt(&stage, &attacker, case);
        let Went { refused, usable } = judge(&stage, &attacker, case, &events);
        session = usable.then_some(attacker);
        let row = Row { case, refused, neighbour };
        say(&row.to_string());
        rows.push(row);
    }
    table::finish(&rows);
    let wrong: Vec<_> = rows.iter().filter(|row| row.refused != row.case.refused).collect();
    for row in &wrong {
        say(&format!("{}/{}: {:?}, expected {:?}", row.case.group, row.case.name, row.refused, row.case.refused));
    }
    assert!(wrong.is_empty(), "{} of {} cases went otherwise than expected", wrong.len(), rows.len());
}

#[test]
fn the_readme_has_the_list_of_the_suite() {
    table::compare_readme();
}
