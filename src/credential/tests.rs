use super::*;
use crate::store::sqlite::Sqlite;

/// Keys whose bytes are all the same, the newest first.
fn masters(bytes: &[u8]) -> Option<MasterKeys> {
    use base64::Engine as _;
    let line = |byte: &u8| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([*byte; 32]) + "\n";
    MasterKeys::parse(std::path::Path::new("f"), &bytes.iter().map(line).collect::<String>()).expect("reads")
}

struct World {
    _folder: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let store = Arc::new(Sqlite::open(&folder.path().join("ash.db")).expect("opens"));
        Self { _folder: folder, store }
    }

    fn under(&self, bytes: &[u8]) -> Credentials {
        Credentials::new(self.store.clone(), masters(bytes))
    }
}

fn new(kind: CredentialType, key: &str) -> CreateCredential {
    CreateCredential { r#type: kind, key: Secret::new(key), label: None }
}

#[tokio::test]
async fn each_type_makes_its_variable_and_its_use_is_noted() {
    let (world, tenant) = (World::new(), "a");
    let credentials = world.under(&[1]);
    for (kind, variable) in [
        (CredentialType::Anthropic, "ANTHROPIC_API_KEY"),
        (CredentialType::Openai, "OPENAI_API_KEY"),
        (CredentialType::Custom, "ASH_CUSTOM_API_KEY"),
    ] {
        let row = credentials.create(tenant, &new(kind, "sk-1")).await.expect("keeps it");
        assert_eq!(row.last_used_at, None);
        let env = credentials.environment(tenant, &row.id.to_string(), SessionId::new()).await.expect("opens");
        assert_eq!(env, BTreeMap::from([(variable.to_owned(), "sk-1".to_owned())]));
        assert!(world.store.get_credential(tenant, row.id).await.expect("reads").last_used_at.is_some());
    }
    let bedrock = r#"{"accessKeyId":"a","secretAccessKey":"b","region":"eu-west-1"}"#;
    let row = credentials.create(tenant, &new(CredentialType::Bedrock, bedrock)).await.expect("keeps it");
    let refused = credentials.check(tenant, &row.id.to_string()).await.expect_err("no gateway for it");
    assert!(matches!(refused, CredentialError::Unusable(CredentialType::Bedrock)), "{refused}");
}

#[tokio::test]
async fn a_tenant_finds_its_own_only() {
    let world = World::new();
    let credentials = world.under(&[1]);
    let row = credentials.create("a", &new(CredentialType::Custom, "sk-1")).await.expect("keeps it");
    let id = row.id.to_string();
    let change = ChangeCredential { label: Some("mine".to_owned()), ..ChangeCredential::default() };
    for found in [
        credentials.check("b", &id).await,
        credentials.check("a", "no id").await,
        credentials.change("b", row.id, change).await.map(drop),
        credentials.delete("b", row.id).await,
    ] {
        assert!(matches!(found, Err(CredentialError::NotFound)), "{found:?}");
    }
    assert!(credentials.list("b").await.expect("reads").is_empty());
    assert_eq!(credentials.list("a").await.expect("reads"), [row]);
}

#[tokio::test]
async fn what_is_no_key_is_refused_by_its_field_without_showing_it() {
    let world = World::new();
    let credentials = world.under(&[1]);
    let long = "x".repeat(KEY_MAX + 1);
    let secret = "sk-do-not-show";
    let lame = format!(r#"{{"accessKeyId":"{secret}","secretAccessKey":"","region":"x"}}"#);
    for (kind, key) in [
        (CredentialType::Anthropic, ""),
        (CredentialType::Anthropic, "sk-do-not-show two"),
        (CredentialType::Openai, "sk-do-not-show\n"),
        (CredentialType::Custom, &long),
        (CredentialType::Bedrock, secret),
        (CredentialType::Bedrock, r#"{"accessKeyId":"sk-do-not-show"}"#),
        (CredentialType::Bedrock, &lame),
    ] {
        let error = credentials.create("a", &new(kind, key)).await.expect_err(key);
        assert!(matches!(error, CredentialError::Invalid { field: "key", .. }), "{error}");
        assert!(!format!("{error}{error:?}").contains(secret), "{error}");
    }
    let label = Some("a\nb".to_owned());
    let error = credentials.create("a", &CreateCredential { label, ..new(CredentialType::Custom, "k") }).await;
    assert!(matches!(error, Err(CredentialError::Invalid { field: "label", .. })), "{error:?}");
    assert!(credentials.list("a").await.expect("reads").is_empty());
}

#[tokio::test]
async fn another_master_key_takes_over_all_of_them() {
    let world = World::new();
    let old = world.under(&[1]);
    let mut ids = Vec::new();
    for tenant in ["a", "b"] {
        for n in 0..RESEAL_STEP {
            ids.push((
                tenant,
                n,
                old.create(tenant, &new(CredentialType::Custom, &format!("{tenant}{n}"))).await.expect("keeps it").id,
            ));
        }
    }
    let both = world.under(&[2, 1]);
    assert_eq!(both.reseal().await.expect("seals anew").resealed, ids.len());
    assert_eq!(both.reseal().await.expect("nothing to do").resealed, 0);
    let new = world.under(&[2]);
    for (tenant, n, id) in ids {
        let env = new.environment(tenant, &id.to_string(), SessionId::new()).await.expect("opens under the new one alone");
        assert_eq!(env["ASH_CUSTOM_API_KEY"], format!("{tenant}{n}"));
        assert!(matches!(old.check(tenant, &id.to_string()).await, Err(CredentialError::Seal(SealError::NoMaster(_)))));
    }
}

#[tokio::test]
async fn environments_of_older_releases_are_sealed_and_follow_the_master_key() {
    let world = World::new();
    let env = |value: &str| BTreeMap::from([("A".to_owned(), value.to_owned())]);
    for n in 0..=RESEAL_STEP {
        let clear = KeptEnv::Clear(env(&n.to_string()));
        world.store.deploy_agent("t", &format!("agent-{n}"), "d", Some(clear)).await.expect("stores");
    }
    world.store.deploy_agent("t", "bare", "d", None).await.expect("stores");
    assert!(matches!(world.under(&[]).reseal_envs().await, Err(CredentialError::NoMaster)));
    for (keys, sealed) in [([1, 1], RESEAL_STEP + 1), ([1, 1], 0), ([2, 1], RESEAL_STEP + 1)] {
        assert_eq!(world.under(&keys).reseal_envs().await.expect("seals"), sealed);
    }
    let new = world.under(&[2]);
    for n in 0..=RESEAL_STEP {
        let row = world.store.get_agent("t", &format!("agent-{n}")).await.expect("is there");
        assert!(matches!(row.env, KeptEnv::Sealed { .. }));
        let owner = EnvOwner::Agent { tenant: row.tenant, name: row.name };
        assert_eq!(new.open_env(&owner, &row.env).expect("opens"), env(&n.to_string()));
    }
    assert!(matches!(world.under(&[3]).reseal_envs().await, Err(CredentialError::Seal(SealError::NoMaster(_)))));
    // One that can not be opened holds up no other.
    world.store.deploy_agent("t", "zz", "d", Some(KeptEnv::Clear(env("late")))).await.expect("stores");
    assert!(world.under(&[3]).reseal_envs().await.is_err());
    assert!(matches!(world.store.get_agent("t", "zz").await.expect("is there").env, KeptEnv::Sealed { .. }));
}

#[tokio::test]
async fn a_secret_does_not_open_in_another_row() {
    let world = World::new();
    let credentials = world.under(&[1]);
    let theirs = credentials.create("b", &new(CredentialType::Custom, "theirs")).await.expect("keeps it");
    let mine = credentials.create("a", &new(CredentialType::Custom, "mine")).await.expect("keeps it");
    world.store.change_credential("a", mine.id, None, Some(theirs.sealed)).await.expect("stores");
    let refused = credentials.check("a", &mine.id.to_string()).await;
    assert!(matches!(refused, Err(CredentialError::Seal(SealError::Damaged))), "{refused:?}");
}

#[tokio::test]
async fn without_a_master_key_nothing_is_kept_and_the_way_out_is_named() {
    let world = World::new();
    let credentials = world.under(&[]);
    let error = credentials.create("a", &new(CredentialType::Custom, "k")).await.expect_err("no key");
    assert!(error.to_string().contains("ashctl doctor"), "{error}");
    assert!(credentials.list("a").await.expect("reads").is_empty());
}
