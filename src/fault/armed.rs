//! Fault points that can be armed.

use std::sync::LazyLock;

use nix::sys::signal::{Signal, raise};

use super::Point;

/// The environment variable that names the armed point.
pub const VARIABLE: &str = "ASH_FAULT_POINT";

/// The environment variable by which a host without systemd goes down, whenever the daemon is asked to
/// stop.
pub const HOST_STOPS: &str = "ASH_FAULT_HOST_STOPS";

/// All points, by name.
pub const NAMES: &[(&str, Point)] = &[
    ("create.begun", Point::CreateBegun),
    ("create.stored", Point::CreateStored),
    ("create.active", Point::CreateActive),
    ("open.started", Point::OpenStarted),
    ("open.room", Point::OpenRoom),
    ("open.restoring", Point::OpenRestoring),
    ("open.restored", Point::OpenRestored),
    ("open.laid", Point::OpenLaid),
    ("open.set-up", Point::OpenSetUp),
    ("open.done", Point::OpenDone),
    ("open.logged", Point::OpenLogged),
    ("turn.stored", Point::TurnStored),
    ("events.stored", Point::EventsStored),
    ("snapshot.begun", Point::SnapshotBegun),
    ("snapshot.packing", Point::SnapshotPacking),
    ("snapshot.packed", Point::SnapshotPacked),
    ("snapshot.written", Point::SnapshotWritten),
    ("snapshot.published", Point::SnapshotPublished),
    ("snapshot.finished", Point::SnapshotFinished),
    ("snapshot.logged", Point::SnapshotLogged),
    ("status.begun", Point::StatusBegun),
    ("status.stored", Point::StatusStored),
    ("leave.begun", Point::LeaveBegun),
    ("leave.logged", Point::LeaveLogged),
    ("leave.stopped", Point::LeaveStopped),
    ("leave.done", Point::LeaveDone),
    ("resume.stored", Point::ResumeStored),
    ("fork.copied", Point::ForkCopied),
    ("fork.stored", Point::ForkStored),
    ("rewind.stopped", Point::RewindStopped),
    ("rewind.removed", Point::RewindRemoved),
    ("rewind.copied", Point::RewindCopied),
    ("rewind.stored", Point::RewindStored),
    ("end.begun", Point::EndBegun),
    ("end.stored", Point::EndStored),
    ("clear.begun", Point::ClearBegun),
    ("clear.stopped", Point::ClearStopped),
    ("delete.ended", Point::DeleteEnded),
    ("delete.stored", Point::DeleteStored),
    ("host.stops", Point::HostStops),
    ("host.put-away", Point::HostPutAway),
    ("webhook.sent", Point::WebhookSent),
    ("webhook.noted", Point::WebhookNoted),
    ("gc.disowned", Point::GcDisowned),
    ("gc.emptied", Point::GcEmptied),
    ("gc.part", Point::GcPart),
    ("gc.gone", Point::GcGone),
    ("gc.snapshot", Point::GcSnapshot),
    ("queue.stored", Point::QueueStored),
    ("queue.claimed", Point::QueueClaimed),
    ("queue.made", Point::QueueMade),
    ("queue.posted", Point::QueuePosted),
    ("queue.joined", Point::QueueJoined),
    ("queue.tried", Point::QueueTried),
    ("queue.left", Point::QueueLeft),
    ("schedule.due", Point::ScheduleDue),
    ("schedule.fired", Point::ScheduleFired),
    ("eval.stored", Point::EvalStored),
    ("eval.claimed", Point::EvalClaimed),
    ("eval.made", Point::EvalMade),
    ("eval.posted", Point::EvalPosted),
    ("eval.joined", Point::EvalJoined),
    ("eval.asked", Point::EvalAsked),
    ("eval.judged", Point::EvalJudged),
    ("eval.left", Point::EvalLeft),
];

static ARMED: LazyLock<Option<Point>> = LazyLock::new(|| {
    let name = std::env::var(VARIABLE).ok()?;
    let found = NAMES.iter().find(|(known, _)| *known == name);
    // A test that arms nothing would pass for the wrong reason.
    Some(found.unwrap_or_else(|| panic!("{VARIABLE}={name}: there is no such point")).1)
});

/// Dies here, if this point is armed: at once, as with SIGKILL, so that nothing is put in order.
pub fn at(point: Point) {
    if *ARMED == Some(point) {
        tracing::error!(?point, "dying at a fault point");
        // Does not return; were it to fail, the test would see the daemon live on.
        let _ = raise(Signal::SIGKILL);
    }
}

/// Whether a host that can not tell goes down.
pub fn host_stops() -> bool {
    std::env::var_os(HOST_STOPS).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let mut names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
        for (at, (name, point)) in NAMES.iter().enumerate() {
            assert_eq!(*point as usize, at, "{name}");
        }
        assert_eq!(NAMES.last().map(|(_, point)| *point), Some(Point::EvalLeft), "none is left out");
    }
}
