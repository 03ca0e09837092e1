//! Files of tenants.

use super::*;
use crate::store::project_file::{FileLimits, ProjectFileRow};
use crate::wire::FileId;
use crate::wire::project_file::Ttl;

const LIMITS: FileLimits = FileLimits { count: 3, bytes: 100 };
const NOW: Timestamp = Timestamp(1000);

fn file(tenant: &str, size: u64, expires_at: Option<i64>) -> ProjectFileRow {
    ProjectFileRow {
        place: 0,
        id: FileId::new(),
        tenant: tenant.to_owned(),
        filename: "ä".to_owned(),
        mime_type: "text/plain".to_owned(),
        size,
        ttl: Ttl::Hour,
        secret: [7; 32],
        created_at: Timestamp(1),
        expires_at: expires_at.map(Timestamp),
    }
}

#[tokio::test]
async fn files_are_of_a_tenant_and_found_until_they_expire() {
    let (_folder, store) = sqlite();
    let (first, old, foreign) = (file("a", 1, None), file("a", 2, Some(1000)), file("b", 3, Some(1001)));
    for row in [&first, &old, &foreign] {
        assert!(store.add_file(row.clone(), LIMITS).await.expect("stores"));
    }
    let read = store.get_file("a", first.id, NOW).await.expect("reads");
    assert_eq!(ProjectFileRow { place: 0, ..read }, first);
    for (tenant, id) in [("b", first.id), ("a", foreign.id), ("a", old.id)] {
        assert!(matches!(store.get_file(tenant, id, NOW).await, Err(StoreError::NotFound("file"))), "{tenant}");
    }
    let place = store.get_file("a", old.id, Timestamp(999)).await.expect("it is there before its end").place;
    let ids = async |before, now, limit| {
        let rows = store.files("a", before, Timestamp(now), limit).await.expect("reads");
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(i64::MAX, 999, 10).await, [old.id, first.id], "newest first");
    assert_eq!(ids(i64::MAX, 1000, 10).await, [first.id]);
    assert_eq!(ids(place, 999, 10).await, [first.id]);
    assert_eq!(ids(i64::MAX, 999, 1).await, [old.id]);
    let found = async |id| store.find_file(id, NOW).await.expect("reads").map(|row| row.tenant);
    assert_eq!([found(foreign.id).await.as_deref(), found(old.id).await.as_deref()], [Some("b"), None]);
    assert_eq!(store.old_files(NOW).await.expect("reads"), [old.id]);
    assert_eq!(store.file_ids().await.expect("reads"), [(first.id, 1), (old.id, 2), (foreign.id, 3)]);
    assert!(store.has_file(old.id).await.expect("reads"));
    assert!(store.forget_file(old.id).await.expect("forgets") && !store.forget_file(old.id).await.expect("again"));
}

#[tokio::test]
async fn a_tenant_has_so_many_files_of_so_many_bytes() {
    let (_folder, store) = sqlite();
    let add = async |tenant, size| store.add_file(file(tenant, size, None), LIMITS).await.expect("asks");
    assert!(add("a", 60).await && !add("a", 41).await && add("a", 40).await, "a hundred bytes");
    assert!(!add("a", 1).await);
    let over = ProjectFileRow { created_at: Timestamp(50), ..file("c", 100, Some(60)) };
    assert!(store.add_file(over.clone(), LIMITS).await.expect("adds"));
    let next = |at| ProjectFileRow { id: FileId::new(), created_at: Timestamp(at), expires_at: None, ..over.clone() };
    assert!(!store.add_file(next(59), LIMITS).await.expect("asks") && store.add_file(next(60), LIMITS).await.expect("asks"));
    assert!(add("b", 1).await && add("b", 1).await && add("b", 1).await && !add("b", 1).await, "three files");
}
