//! Quotas of the file system, in a machine whose kernel has them: what hides from the shim's accounting is refused, and
//! nothing else changes.

mod support;

use support::boxes::{needs, uml_with_disk};

#[test]
fn what_hides_from_the_accounting_is_refused_by_ext4_and_xfs_and_the_neighbour_does_not_notice() {
    let Some((deb, claude)) = needs() else { return };
    for kind in ["ext4", "xfs"] {
        let (passed, text) = uml_with_disk("bookworm", &deb, &claude, &["fixtures/quota.sh"], Some(kind));
        assert!(passed && text.contains("quotas hold"), "{kind}: {text}");
        for line in text.lines().filter(|line| line.starts_with("quota: ")) {
            println!("{kind}: {line}");
        }
    }
}
