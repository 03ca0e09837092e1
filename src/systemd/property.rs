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
    /// `CollectMode=inactive-or-failed`: the unit is forgotten when it ended, however that was.
    CollectAlways,
    /// `Type=exec`: the start job ends when the program was executed, or could not be.
    ExecType,
    /// `ExecStart=`: the program, which is an absolute path, and its arguments.
    ExecStart(Vec<String>),
    /// `UMask=`.
    UMask(u32),
    /// `MemoryMax=` in bytes.
    MemoryMax(u64),
    /// `MemorySwapMax=` in bytes.
    MemorySwapMax(u64),
    /// `CPUQuota=` in percent of one processor.
    CpuQuota(u32),
    /// `TasksMax=`.
    TasksMax(u32),
    /// `LimitNOFILE=`, both the soft and the hard limit.
    LimitNoFile(u64),
    /// `NoNewPrivileges=yes`.
    NoNewPrivileges,
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
            Self::CollectAlways => ("CollectMode", "inactive-or-failed".into()),
            Self::ExecType => ("Type", "exec".into()),
            Self::ExecStart(argv) => {
                let program = argv.first().cloned().unwrap_or_default();
                // The last field says whether a failure to run is ignored ("-" before the path).
                ("ExecStart", vec![(program, argv.clone(), false)].into())
            }
            Self::UMask(mask) => ("UMask", (*mask).into()),
            Self::MemoryMax(bytes) => ("MemoryMax", (*bytes).into()),
            Self::MemorySwapMax(bytes) => ("MemorySwapMax", (*bytes).into()),
            // Microseconds of processor time in each second.
            Self::CpuQuota(percent) => ("CPUQuotaPerSecUSec", (u64::from(*percent) * 10_000).into()),
            Self::TasksMax(count) => ("TasksMax", u64::from(*count).into()),
            Self::LimitNoFile(count) => ("LimitNOFILE", (*count).into()),
            Self::NoNewPrivileges => ("NoNewPrivileges", true.into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_that_systemd_reads() {
        let listener = OwnedFd::from(tempfile::tempfile().expect("makes a file"));
        let cases = [
            (Property::Description("a".to_owned()), "Description", "s"),
            (Property::Slice("a.slice"), "Slice", "s"),
            (Property::CollectAlways, "CollectMode", "s"),
            (Property::ExecType, "Type", "s"),
            (Property::ExecStart(vec!["/bin/a".to_owned(), "b".to_owned()]), "ExecStart", "a(sasb)"),
            (Property::UMask(0o77), "UMask", "u"),
            (Property::MemoryMax(1), "MemoryMax", "t"),
            (Property::MemorySwapMax(0), "MemorySwapMax", "t"),
            (Property::CpuQuota(200), "CPUQuotaPerSecUSec", "t"),
            (Property::TasksMax(1), "TasksMax", "t"),
            (Property::LimitNoFile(1), "LimitNOFILE", "t"),
            (Property::NoNewPrivileges, "NoNewPrivileges", "b"),
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
    }
}
