//! Properties of a transient unit, typed.
//!
//! Names and types are those of `org.freedesktop.systemd1(5)` and `StartTransientUnit()`, all of
//! them in systemd 252. Those that are limits can be changed on a running unit, too.

use std::os::fd::{AsFd, OwnedFd};

use zbus::{Fd, Variant};

/// One property.
#[derive(Debug)]
pub enum Property {
    /// `Description=`.
    Description(String),
    /// `Slice=`.
    Slice(&'static str),
    /// `Before=`: comes up before this unit where both do, and ends after it where both do.
    Before(&'static str),
    /// `Type=exec`: the start job ends when the program was executed, or could not be.
    ExecType,
    /// `ExecStart=`: the program, which is an absolute path, and its arguments.
    ExecStart(Vec<String>),
    /// `UMask=`.
    UMask(u32),
    /// `MemoryMax=` in bytes.
    MemoryMax(u64),
    /// `MemoryHigh=` in bytes; `None` is `infinity`.
    MemoryHigh(Option<u64>),
    /// `MemorySwapMax=` in bytes.
    MemorySwapMax(u64),
    /// `CPUQuota=` in percent of one processor.
    CpuQuota(u32),
    /// `TasksMax=`.
    TasksMax(u32),
    /// `IOWeight=`; `None` takes it away.
    IoWeight(Option<u32>),
    /// `IOReadBandwidthMax=` for the block device below a path, in bytes for a second; `None` takes it
    /// away. Where there is no such device, systemd says so in its journal and goes on.
    IoReadBandwidthMax(&'static str, Option<u64>),
    /// `IOWriteBandwidthMax=`, likewise.
    IoWriteBandwidthMax(&'static str, Option<u64>),
    /// `LimitNOFILE=`, both the soft and the hard limit.
    LimitNoFile(u64),
    /// `NoNewPrivileges=yes`.
    NoNewPrivileges,
    /// `AppArmorProfile=-…`: the profile by this name, where AppArmor is on and has it.
    AppArmorProfile(&'static str),
    /// `CapabilityBoundingSet=`, as bits by the kernel's numbers.
    CapabilityBoundingSet(u64),
    /// `KillMode=`.
    KillMode(&'static str),
    /// `OOMPolicy=`.
    OomPolicy(&'static str),
    /// The descriptor that becomes standard input.
    StandardInput(OwnedFd),
    /// `StandardOutput=journal` and `StandardError=journal`, each a property of its own.
    StandardOutputToJournal,
    /// See [`StandardOutputToJournal`](Self::StandardOutputToJournal).
    StandardErrorToJournal,
    /// `SyslogIdentifier=`.
    SyslogIdentifier(&'static str),
    /// `LogExtraFields=`: each as `NAME=value`.
    LogExtraFields(Vec<String>),
}

impl Property {
    /// Name and value as `StartTransientUnit()` and `SetUnitProperties()` take them. A descriptor
    /// is borrowed, so the property has to live until the call was sent.
    pub fn to_dbus(&self) -> (&'static str, Variant<'_>) {
        match self {
            Self::Description(text) => ("Description", text.as_str().into()),
            Self::Slice(name) => ("Slice", (*name).into()),
            Self::Before(name) => ("Before", vec![*name].into()),
            Self::ExecType => ("Type", "exec".into()),
            Self::ExecStart(argv) => {
                let program = argv.first().cloned().unwrap_or_default();
                // The last field says whether a failure to run is ignored ("-" before the path).
                ("ExecStart", vec![(program, argv.clone(), false)].into())
            }
            Self::UMask(mask) => ("UMask", (*mask).into()),
            Self::MemoryMax(bytes) => ("MemoryMax", (*bytes).into()),
            // What systemd takes for no limit (CGROUP_LIMIT_MAX), and for no weight (CGROUP_WEIGHT_INVALID).
            Self::MemoryHigh(bytes) => ("MemoryHigh", bytes.unwrap_or(u64::MAX).into()),
            Self::IoWeight(weight) => ("IOWeight", weight.map_or(u64::MAX, u64::from).into()),
            // An empty list takes away what was said before.
            Self::IoReadBandwidthMax(path, rate) => ("IOReadBandwidthMax", bandwidth(path, *rate)),
            Self::IoWriteBandwidthMax(path, rate) => ("IOWriteBandwidthMax", bandwidth(path, *rate)),
            Self::MemorySwapMax(bytes) => ("MemorySwapMax", (*bytes).into()),
            // Microseconds of processor time in each second.
            Self::CpuQuota(percent) => ("CPUQuotaPerSecUSec", (u64::from(*percent) * 10_000).into()),
            Self::TasksMax(count) => ("TasksMax", u64::from(*count).into()),
            Self::LimitNoFile(count) => ("LimitNOFILE", (*count).into()),
            Self::NoNewPrivileges => ("NoNewPrivileges", true.into()),
            // The first field is the "-".
            Self::AppArmorProfile(name) => ("AppArmorProfile", (true, *name).into()),
            Self::CapabilityBoundingSet(bits) => ("CapabilityBoundingSet", (*bits).into()),
            Self::KillMode(mode) => ("KillMode", (*mode).into()),
            Self::OomPolicy(policy) => ("OOMPolicy", (*policy).into()),
            Self::StandardInput(descriptor) => ("StandardInputFileDescriptor", Fd::from(descriptor.as_fd()).into()),
            Self::StandardOutputToJournal => ("StandardOutput", "journal".into()),
            Self::StandardErrorToJournal => ("StandardError", "journal".into()),
            Self::SyslogIdentifier(name) => ("SyslogIdentifier", (*name).into()),
            Self::LogExtraFields(fields) => {
                let fields: Vec<Vec<u8>> = fields.iter().map(|field| field.clone().into_bytes()).collect();
                ("LogExtraFields", fields.into())
            }
        }
    }
}

fn bandwidth(path: &str, rate: Option<u64>) -> Variant<'_> {
    let limits: Vec<(String, u64)> = rate.map(|rate| (path.to_owned(), rate)).into_iter().collect();
    limits.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_that_systemd_reads() {
        let listener = OwnedFd::from(tempfile::tempfile().expect("makes a file"));
        let cases = [
            (Property::Description("a".to_owned()), "Description", "s"),
            (Property::Slice("a.slice"), "Slice", "s"),
            (Property::Before("a.service"), "Before", "as"),
            (Property::ExecType, "Type", "s"),
            (Property::ExecStart(vec!["/bin/a".to_owned(), "b".to_owned()]), "ExecStart", "a(sasb)"),
            (Property::UMask(0o77), "UMask", "u"),
            (Property::MemoryMax(1), "MemoryMax", "t"),
            (Property::MemorySwapMax(0), "MemorySwapMax", "t"),
            (Property::MemoryHigh(Some(1)), "MemoryHigh", "t"),
            (Property::IoWeight(Some(1)), "IOWeight", "t"),
            (Property::IoReadBandwidthMax("/a", Some(1)), "IOReadBandwidthMax", "a(st)"),
            (Property::IoWriteBandwidthMax("/a", None), "IOWriteBandwidthMax", "a(st)"),
            (Property::CpuQuota(200), "CPUQuotaPerSecUSec", "t"),
            (Property::TasksMax(1), "TasksMax", "t"),
            (Property::LimitNoFile(1), "LimitNOFILE", "t"),
            (Property::NoNewPrivileges, "NoNewPrivileges", "b"),
            (Property::AppArmorProfile("a"), "AppArmorProfile", "(bs)"),
            (Property::CapabilityBoundingSet(0), "CapabilityBoundingSet", "t"),
            (Property::KillMode("control-group"), "KillMode", "s"),
            (Property::OomPolicy("continue"), "OOMPolicy", "s"),
            (Property::StandardInput(listener), "StandardInputFileDescriptor", "h"),
            (Property::StandardOutputToJournal, "StandardOutput", "s"),
            (Property::StandardErrorToJournal, "StandardError", "s"),
            (Property::SyslogIdentifier("a"), "SyslogIdentifier", "s"),
            (Property::LogExtraFields(vec!["A=b".to_owned()]), "LogExtraFields", "aay"),
        ];
        for (property, name, signature) in cases {
            let (read_name, value) = property.to_dbus();
            assert_eq!(read_name, name);
            assert_eq!(value.value_signature().to_string(), signature, "{name}");
        }
        assert_eq!(Property::CpuQuota(150).to_dbus().1, Variant::U64(1_500_000));
        for none in [Property::MemoryHigh(None), Property::IoWeight(None)] {
            assert_eq!(none.to_dbus().1, Variant::U64(u64::MAX));
        }
    }
}
