//! How the sandbox is confined: what the kernel says of the shim itself. Everything inside begins with it,
//! and gets less.

use std::fs;

use crate::link::shim::Confined;
use crate::wire::weakness::Weakness;

/// Looks at this process, whose sandbox was made without these walls. `None` where `/proc` does not tell.
pub fn own(without: Option<Vec<Weakness>>) -> Option<Confined> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    // Where AppArmor is off there is none, or it can not be read.
    let label = fs::read_to_string("/proc/self/attr/apparmor/current").ok();
    parse(without, &status, label.as_deref())
}

/// Reads proc_pid_status(5), and a label such as `ash-shim (unconfined)`.
fn parse(without: Option<Vec<Weakness>>, status: &str, label: Option<&str>) -> Option<Confined> {
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let set = |name: &str| u64::from_str_radix(value(name)?, 16).ok();
    // Real, effective, saved and of the file system; none of them may be another one.
    let uids = value("Uid")?.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
    let profile = label.and_then(|label| label.trim().split(' ').next()).filter(|name| !["", "unconfined"].contains(name));
    Some(Confined {
        without,
        uid: uids.iter().copied().min()?,
        capabilities: set("CapPrm")? | set("CapEff")? | set("CapInh")? | set("CapBnd")? | set("CapAmb")?,
        no_new_privileges: value("NoNewPrivs")? == "1",
        seccomp: value("Seccomp")? == "2",
        apparmor: profile.map(ToOwned::to_owned),
        counts_disk: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tash-shim\nUid:\t65537\t65537\t65537\t65537\nGid:\t1\t1\t1\t1\nCapInh:\t0000000000000000\n\
                          CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000020\nCapAmb:\t0000000000000000\n\
                          NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn what_the_kernel_says_is_read() {
        let parse = |status: &str, label: Option<&str>| parse(None, status, label);
        let whole = Confined {
            without: None,
            uid: 65_537,
            capabilities: 0x20,
            no_new_privileges: true,
            seccomp: true,
            apparmor: None,
            counts_disk: true,
        };
        assert_eq!(parse(STATUS, None), Some(whole.clone()));
        assert_eq!(parse(STATUS, Some("unconfined\n")), Some(whole.clone()));
        let profile = Confined { apparmor: Some("ash-shim".to_owned()), ..whole.clone() };
        assert_eq!(parse(STATUS, Some("ash-shim (unconfined)\n")), Some(profile));
        let weaker = STATUS.replace("\t65537\t65537\n", "\t0\t65537\n").replace("NoNewPrivs:\t1", "NoNewPrivs:\t0");
        let weaker = parse(&weaker.replace("Seccomp:\t2", "Seccomp:\t0"), None);
        assert_eq!(weaker, Some(Confined { uid: 0, no_new_privileges: false, seccomp: false, ..whole }));
        assert_eq!(parse(&STATUS.replace("CapEff", "x"), None), None);
        let without = Some(vec![Weakness::Ptrace]);
        assert_eq!(own(without.clone()).expect("is a process").without, without);
    }
}
