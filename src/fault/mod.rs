//! Fault points: places between what is stored and what is done about it, where tests have the
//! daemon die.
//!
//! Only a build with the feature `failpoints` has them; in others [`at`] is nothing at all. There,
//! the daemon kills itself, as SIGKILL does, at the point that the environment variable
//! `ASH_FAULT_POINT` names. `tests/crash_points.rs` goes through all of them.

#[cfg(not(feature = "failpoints"))]
mod absent;
#[cfg(feature = "failpoints")]
mod armed;

#[cfg(not(feature = "failpoints"))]
pub use absent::{at, host_stops};
#[cfg(feature = "failpoints")]
pub use armed::{HOST_STOPS, NAMES, VARIABLE, at, host_stops};

/// Where the daemon may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A session is about to be made.
    CreateBegun,
    /// Its row is stored, and nobody brings up its sandbox yet.
    CreateStored,
    /// It is stored as active, and who asked was not told.
    CreateActive,
    /// The processes of a sandbox were started, and nobody speaks to them yet.
    OpenStarted,
    /// The sandbox's namespaces are up, and nothing is in them.
    OpenRoom,
    /// A part of a snapshot is on its way into the sandbox.
    OpenRestoring,
    /// All of it is there; the shim knows no session.
    OpenRestored,
    /// What was said before the session began is there; the shim knows no session.
    OpenLaid,
    /// The shim knows its session; an agent's files are not there yet.
    OpenSetUp,
    /// All is there, and the log does not say so.
    OpenDone,
    /// The log says that the sandbox is up, and no turn was given to it.
    OpenLogged,
    /// A turn is stored as begun, and the shim does not know of it.
    TurnStored,
    /// Events of the shim are stored, and it does not know.
    EventsStored,
    /// A snapshot has its place, and nothing in it.
    SnapshotBegun,
    /// A part of it is there.
    SnapshotPacking,
    /// All of it was packed; it has no manifest.
    SnapshotPacked,
    /// Data and manifest are on the disk, under the name of a draft.
    SnapshotWritten,
    /// It has its name.
    SnapshotPublished,
    /// The log does not tell of it.
    SnapshotFinished,
    /// The log does.
    SnapshotLogged,
    /// A new status is about to be stored.
    StatusBegun,
    /// It is stored, and nothing was done about it.
    StatusStored,
    /// The processes of a sandbox are about to be ended, and the log does not say so.
    LeaveBegun,
    /// The log says so, and they run.
    LeaveLogged,
    /// They are gone; the folder is there.
    LeaveStopped,
    /// The folder is gone too, if it was to go.
    LeaveDone,
    /// A session is stored as active again; nothing was done about it.
    ResumeStored,
    /// A fork has its snapshot and no row.
    ForkCopied,
    /// It has both, and who asked was not told.
    ForkStored,
    /// The sandbox of a session that goes back has no processes; the folder is there.
    RewindStopped,
    /// Nothing is left of it, and the snapshot that is gone back to is not the newest.
    RewindRemoved,
    /// It is the newest, and the log does not say so.
    RewindCopied,
    /// The log does, and who asked was not told.
    RewindStored,
    /// The end of a session is about to be stored.
    EndBegun,
    /// It is stored, and who asked was not told.
    EndStored,
    /// The sandbox of what is over is about to be removed.
    ClearBegun,
    /// It has no processes; the folder is there.
    ClearStopped,
    /// The sessions of an agent that is deleted are over; the agent is there.
    DeleteEnded,
    /// The agent is gone, and who asked was not told.
    DeleteStored,
    /// The host goes down, and nothing was done about it.
    HostStops,
    /// All sessions are put away.
    HostPutAway,
    /// An event was sent to a webhook, and nothing of it is stored.
    WebhookSent,
    /// That it came through is stored, and the next one was not sent.
    WebhookNoted,
    /// An ended session belongs to nobody any more; all of it is there.
    GcDisowned,
    /// It has no snapshots any more, and all of its log.
    GcEmptied,
    /// A part of its rows is gone.
    GcPart,
    /// Nothing is left of it.
    GcGone,
    /// A snapshot that is not needed was removed, and others were not.
    GcSnapshot,
    /// An item of the queue is stored, and who asked was not told.
    QueueStored,
    /// It has a worker and the id of a session; nothing was done about it.
    QueueClaimed,
    /// Its session is there, without its message.
    QueueMade,
    /// Its turn is there, and it does not know.
    QueuePosted,
    /// It knows its turn, and nobody waits for its end.
    QueueJoined,
    /// Its result is stored; its session is to be ended.
    QueueTried,
    /// Its session has ended, and it does not know.
    QueueLeft,
    /// A schedule is due, and nothing of that is stored.
    ScheduleDue,
    /// A schedule has fired: its item and what comes next are stored.
    ScheduleFired,
    /// A run of evals is stored, and none of its cases is asked.
    EvalStored,
    /// A case has a worker, and no session yet.
    EvalClaimed,
    /// Its session is there, and its question is not in it.
    EvalMade,
    /// The question is in the session, or the judge's message, and the case does not know its turn.
    EvalPosted,
    /// The case knows its turn.
    EvalJoined,
    /// What came of a case is stored, and its session is not ended.
    EvalAsked,
    /// What the judge said is stored, and its session is not ended.
    EvalJudged,
    /// A session is ended, and nobody knows.
    EvalLeft,
}
