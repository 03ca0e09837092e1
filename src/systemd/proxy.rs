//! The calls of systemd's manager that Ash makes, and what it reads of a unit, see
//! org.freedesktop.systemd1(5).

use zbus::{OwnedObjectPath, Variant, proxy};

/// A unit in the manager's list. The field names are those of the manual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitEntry {
    /// Its name.
    pub name: String,
    /// `active`, `activating`, `deactivating`, `inactive` or `failed`, and more in newer versions.
    pub active_state: String,
    /// The state of its kind, such as `running`.
    pub sub_state: String,
    /// Its object.
    pub path: OwnedObjectPath,
    /// The job that is queued for it, if one is.
    pub job: Option<u32>,
}

impl UnitEntry {
    /// Whether it has processes, or is about to.
    pub fn is_running(&self) -> bool {
        !matches!(self.active_state.as_str(), "inactive" | "failed")
    }

    /// Whether it ended, and not in good order: systemd keeps it until it is told not to.
    pub fn has_failed(&self) -> bool {
        self.active_state == "failed"
    }

    /// Whether its processes are being ended.
    pub fn is_ending(&self) -> bool {
        self.active_state == "deactivating"
    }
}

/// Name, description, load state, active state, sub state, followed unit, object path, id of a
/// queued job, its type, its path.
pub type RawUnitEntry = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl From<RawUnitEntry> for UnitEntry {
    fn from((name, _, _, active_state, sub_state, _, path, job, ..): RawUnitEntry) -> Self {
        Self { name, active_state, sub_state, path, job: (job != 0).then_some(job) }
    }
}

/// The manager.
#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    /// Makes a unit and queues its start; answers with the job.
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;

    /// Queues the stop of a unit; answers with the job.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// Takes a job from the queue, whatever queued it.
    fn cancel_job(&self, id: u32) -> zbus::Result<()>;

    /// Sends a signal to processes of a unit: `main`, `control` or `all`.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;

    /// Freezes a unit; answers when it is frozen.
    fn freeze_unit(&self, name: &str) -> zbus::Result<()>;

    /// Thaws a unit; answers when it runs again, at once if it was not frozen, and never (seen
    /// with 257) if its last process ends meanwhile.
    fn thaw_unit(&self, name: &str) -> zbus::Result<()>;

    /// Changes properties of a unit, until the next boot with `runtime`.
    fn set_unit_properties(&self, name: &str, runtime: bool, properties: &[(&str, Variant<'_>)]) -> zbus::Result<()>;

    /// Forgets that a unit failed. Nothing else refers to a transient unit, so it is gone then.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    /// The loaded units in these states (all states when empty) whose names match.
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<RawUnitEntry>>;

    /// `stopping` from the moment on in which the way down of the whole host is queued, before the
    /// first unit is asked to end; other words at other times.
    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;

    /// A job left the queue.
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// A service unit. Its properties are read when they are asked for: keeping them would make
/// systemd announce every change.
#[proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
pub trait Service {
    /// `success`, or what failed first: `exit-code`, `signal`, `oom-kill` and others.
    #[zbus(property(emits_changed_signal = "false"))]
    fn result(&self) -> zbus::Result<String>;

    /// How the main process ended: `CLD_EXITED` and others of `si_code` in sigaction(2); 0 before.
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_code(&self) -> zbus::Result<i32>;

    /// Its exit status, or the number of the signal.
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_status(&self) -> zbus::Result<i32>;
}

/// What systemd's errors say to a caller who can act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complaint {
    /// There is no such unit, or it is not loaded.
    NoSuchUnit,
    /// The unit has no such process.
    NoSuchProcess,
    /// A unit of that name exists.
    UnitExists,
    /// The unit is not active.
    UnitInactive,
    /// The unit is being started, stopped, frozen or thawed, or is about to be.
    UnitBusy,
}

impl Complaint {
    /// Reads an error of a call.
    pub fn of(error: &zbus::Error) -> Option<Self> {
        let zbus::Error::MethodError(name, ..) = error else { return None };
        match name.as_str() {
            "org.freedesktop.systemd1.NoSuchUnit" => Some(Self::NoSuchUnit),
            "org.freedesktop.systemd1.NoSuchProcess" => Some(Self::NoSuchProcess),
            "org.freedesktop.systemd1.UnitExists" => Some(Self::UnitExists),
            "org.freedesktop.systemd1.UnitInactive" => Some(Self::UnitInactive),
            "org.freedesktop.systemd1.UnitBusy" => Some(Self::UnitBusy),
            _ => None,
        }
    }
}
