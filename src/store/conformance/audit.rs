//! The audit log.

use super::*;
use crate::wire::audit::{Action, Outcome};

fn entry(tenant: &str, action: Action, object: &str) -> NewAudit {
    NewAudit {
        tenant: tenant.to_owned(),
        principal: "uid:0".to_owned(),
        action,
        object: Some(object.to_owned()),
        request_id: Some("r".to_owned()),
        peer: None,
        outcome: Outcome::Refused,
        unwritten: 7,
    }
}

fn all() -> AuditFilter {
    AuditFilter { limit: 100, ..AuditFilter::default() }
}

#[tokio::test]
async fn entries_read_back_newest_first_for_their_tenant_alone() {
    let (_folder, store) = sqlite();
    for (tenant, action, object) in [("a", Action::KeyCreate, "1"), ("b", Action::KeyCreate, "2"), ("a", Action::GcRun, "3")] {
        store.record(entry(tenant, action, object)).await.expect("stores");
    }
    let objects = async |tenant, filter| {
        let found = store.audit(tenant, filter).await.expect("reads");
        found.into_iter().filter_map(|entry| entry.object).collect::<Vec<_>>().join(",")
    };
    assert_eq!(objects("a", all()).await, "3,1");
    assert_eq!(objects("b", all()).await, "2");
    assert_eq!(objects("a", AuditFilter { limit: 1, ..all() }).await, "3");
    let newest = store.audit("a", all()).await.expect("reads").remove(0);
    assert_eq!((newest.action, newest.outcome, newest.request_id.as_deref()), (Action::GcRun, Outcome::Refused, Some("r")));
    assert_eq!(newest.unwritten, 7);
    assert_eq!(objects("a", AuditFilter { before: Some(newest.id), ..all() }).await, "1");
    assert_eq!(objects("a", AuditFilter { action: Some(Action::KeyCreate), ..all() }).await, "1");
    assert_eq!(objects("a", AuditFilter { object: Some("3".to_owned()), ..all() }).await, "3");
    assert_eq!(objects("a", AuditFilter { principal: Some("uid:1".to_owned()), ..all() }).await, "");
    assert_eq!(objects("a", AuditFilter { until: Some(newest.at), object: Some("3".to_owned()), ..all() }).await, "");
    assert_eq!(objects("a", AuditFilter { since: Some(newest.at), object: Some("3".to_owned()), ..all() }).await, "3");
}

#[tokio::test]
async fn old_entries_go_in_steps_and_their_numbers_are_not_given_again() {
    let (_folder, store) = sqlite();
    for object in ["1", "2", "3"] {
        store.record(entry("a", Action::GcRun, object)).await.expect("stores");
    }
    let newest = store.audit("a", all()).await.expect("reads").remove(0);
    assert_eq!(store.count_audit(Timestamp(0)).await.expect("counts"), 0);
    assert_eq!(store.count_audit(newest.at).await.expect("counts"), 3);
    assert_eq!(store.remove_audit(newest.at, 2).await.expect("removes"), 2);
    assert_eq!(store.remove_audit(newest.at, 2).await.expect("removes"), 1);
    assert_eq!(store.remove_audit(newest.at, 2).await.expect("removes"), 0);
    store.record(entry("a", Action::GcRun, "4")).await.expect("stores");
    assert_eq!(store.audit("a", all()).await.expect("reads")[0].id, newest.id + 1);
}
