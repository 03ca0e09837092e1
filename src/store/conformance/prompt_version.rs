//! Versions of agents' prompts.

use super::*;
use crate::wire::prompt_version::VersionRef;

fn new(agent: &str) -> NewPromptVersion {
    NewPromptVersion {
        tenant: "default".to_owned(),
        agent: agent.to_owned(),
        created_by: "uid:0".to_owned(),
        limit: 3,
        ..NewPromptVersion::default()
    }
}

#[tokio::test]
async fn versions_belong_to_an_agent_of_a_tenant() {
    let (_folder, store) = sqlite();
    let absent = store.create_prompt_version(new("hello")).await;
    assert!(matches!(absent, Err(StoreError::NotFound("agent"))), "{absent:?}");
    for tenant in ["default", "other"] {
        store.deploy_agent(tenant, "hello", "sha256:00", None).await.expect("deploys");
    }
    let made = store.create_prompt_version(new("hello")).await.expect("makes");
    store.activate_prompt_version("default", "hello", VersionRef::Id(made.id), true).await.expect("activates");
    for version in [VersionRef::Id(made.id), VersionRef::Number(1)] {
        let foreign = store.get_prompt_version("other", "hello", version).await;
        assert!(matches!(foreign, Err(StoreError::NotFound("version"))), "{foreign:?}");
        let foreign = store.delete_prompt_version("other", "hello", version).await;
        assert!(matches!(foreign, Err(StoreError::NotFound("version"))), "{foreign:?}");
        let source = NewPromptVersion { tenant: "other".to_owned(), source: Some(version), ..new("hello") };
        let foreign = store.create_prompt_version(source).await;
        assert!(matches!(foreign, Err(StoreError::NotFound("version"))), "{foreign:?}");
    }
    assert_eq!(store.active_prompt_version("other", "hello").await.expect("reads"), None);
    assert_eq!(store.prompt_versions("other", "hello", i64::MAX, 10, usize::MAX).await.expect("reads"), []);
    store.delete_agent("other", "hello").await.expect("deletes");
    let active = store.active_prompt_version("default", "hello").await.expect("reads");
    assert_eq!(active, Some(PromptVersionRow { is_active: true, ..made }), "that of another tenant's agent stays");
    store.delete_agent("default", "hello").await.expect("deletes");
    assert_eq!(store.active_prompt_version("default", "hello").await.expect("reads"), None);
}

#[tokio::test]
async fn there_are_no_more_versions_than_there_may_be_and_one_is_active_at_most() {
    let (_folder, store) = sqlite();
    store.deploy_agent("default", "hello", "sha256:00", None).await.expect("deploys");
    let made = futures_util::future::join_all((0..4).map(|_| store.create_prompt_version(new("hello")))).await;
    let numbers: Vec<_> = made.iter().flatten().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(matches!(made[3], Err(StoreError::Conflict(_))), "{:?}", made[3]);

    for number in [2, 1, 1] {
        store.activate_prompt_version("default", "hello", VersionRef::Number(number), true).await.expect("activates");
        let active = store.active_prompt_version("default", "hello").await.expect("reads");
        assert_eq!(active.map(|version| version.number), Some(number));
    }
    // One that is not active changes nothing of the one that is.
    store.activate_prompt_version("default", "hello", VersionRef::Number(2), false).await.expect("works");
    let active = store.active_prompt_version("default", "hello").await.expect("reads");
    assert_eq!(active.map(|version| version.number), Some(1));
    store.delete_prompt_version("default", "hello", VersionRef::Number(1)).await.expect("deletes");
    assert_eq!(store.active_prompt_version("default", "hello").await.expect("reads"), None);
}

#[tokio::test]
async fn a_page_of_versions_is_bounded_in_number_and_bytes() {
    let (_folder, store) = sqlite();
    store.deploy_agent("default", "hello", "sha256:00", None).await.expect("deploys");
    for prompt in [Some("x".repeat(100)), None, Some("x".repeat(100))] {
        store.create_prompt_version(NewPromptVersion { system_prompt: prompt, ..new("hello") }).await.expect("makes");
    }
    for (below, limit, bytes, wanted) in
        [(i64::MAX, 10, usize::MAX, &[3, 2, 1][..]), (3, 1, usize::MAX, &[2]), (4, 10, 150, &[3, 2]), (4, 10, 1, &[3])]
    {
        let page = store.prompt_versions("default", "hello", below, limit, bytes).await.expect("reads");
        assert_eq!(page.iter().map(|version| version.number).collect::<Vec<_>>(), wanted);
    }
}
