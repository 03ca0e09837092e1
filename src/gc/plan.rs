//! From what there is to what can go: a pure function, and the reasons it gives.
//!
//! What is never removed, whatever the rules say:
//!
//! - a session that has not ended, the files of its agent's version, its newest whole snapshot and
//!   what is newer; all of its snapshots where none is whole
//! - the version that an agent is at, and the newest of its versions as far as the rules keep them
//! - the version of any session that stays: also one that has ended can be forked
//! - what is so young that its row may not be written yet ([`GRACE`])
//!
//! A fork does not need its parent: its first snapshot is a copy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::agent::Digest;
use crate::session::attachments::Found;
use crate::snapshot::SnapshotId;
use crate::store::DeployRow;
use crate::wire::gc::GcKind;
use crate::wire::quantity::{ByteCount, TimeSpan};
use crate::wire::{AttachmentId, SessionId, Timestamp};

/// How old files have to be before it counts that no row knows them: a deploy and a fork write their
/// files first.
pub const GRACE: Duration = Duration::from_secs(3600);

/// What goes by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long a session is kept after its end; `None`: for ever.
    pub ended_after: Option<Duration>,
    /// Bytes that all snapshots may have together; `None`: as many as the disk.
    pub snapshot_bytes: Option<u64>,
    /// Newest versions of each agent that are kept without a session.
    pub agent_versions: usize,
    /// How long entries of the audit log are kept; `None`: for ever.
    pub audit_after: Option<Duration>,
}

/// All that there is.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// When it was looked at.
    pub now: Timestamp,
    /// Sessions that the database knows.
    pub sessions: Vec<SessionFacts>,
    /// What lies where snapshots are kept, by session.
    pub snapshots: BTreeMap<SessionId, SnapshotFacts>,
    /// Versions of agents on this host.
    pub versions: Vec<VersionFacts>,
    /// The versions that agents are at.
    pub current: BTreeSet<String>,
    /// What was deployed for the agents that there are.
    pub deploys: Vec<DeployRow>,
    /// Attachments that the database knows.
    pub attachments: BTreeSet<(SessionId, AttachmentId)>,
    /// Files of attachments.
    pub attachment_files: Vec<Found>,
}

/// A session.
#[derive(Debug, Clone)]
pub struct SessionFacts {
    /// The session.
    pub id: SessionId,
    /// Digest of its agent's version.
    pub digest: String,
    /// How far it is.
    pub stage: Stage,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It can take messages, or can be brought to.
    Alive,
    /// It has ended, but its last snapshot is still to come.
    Leaving,
    /// It has ended.
    Ended {
        /// When.
        at: Timestamp,
    },
    /// Its removal was begun.
    Disowned,
}

/// The snapshots of a session.
#[derive(Debug, Clone, Default)]
pub struct SnapshotFacts {
    /// Bytes of all of them, damaged ones too.
    pub bytes: u64,
    /// Each of them, oldest first.
    pub each: Vec<OneSnapshot>,
}

/// A snapshot.
#[derive(Debug, Clone, Copy)]
pub struct OneSnapshot {
    /// Its event.
    pub event: i64,
    /// When it was taken; `None` where its manifest can not be read.
    pub created_at: Option<Timestamp>,
    /// Bytes of its data.
    pub bytes: u64,
}

/// A version of an agent.
#[derive(Debug, Clone)]
pub struct VersionFacts {
    /// Its name.
    pub digest: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was deployed last.
    pub deployed_at: Timestamp,
}

/// What can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A session with all that is its.
    Session(SessionId),
    /// A snapshot. With `needs_newer`, only if a newer one of its session is whole.
    Snapshot {
        /// Its name.
        id: SnapshotId,
        /// Whether the session's newest whole one is kept.
        needs_newer: bool,
    },
    /// All snapshots of a session that nobody knows.
    Orphans(SessionId),
    /// The files of a version.
    Version(Digest),
    /// An attachment, or the file of one, that is without the other.
    Attachment(SessionId, AttachmentId),
}

impl Item {
    /// Its kind.
    pub const fn kind(&self) -> GcKind {
        match self {
            Self::Session(_) => GcKind::Session,
            Self::Snapshot { .. } => GcKind::Snapshot,
            Self::Orphans(_) => GcKind::OrphanSnapshots,
            Self::Version(_) => GcKind::AgentVersion,
            Self::Attachment(..) => GcKind::Attachment,
        }
    }

    /// Its name, in reports.
    pub fn name(&self) -> String {
        match self {
            Self::Session(id) | Self::Orphans(id) => id.to_string(),
            Self::Snapshot { id, .. } => format!("{}/{}", id.session, id.event),
            Self::Version(digest) => digest.to_string(),
            Self::Attachment(session, id) => format!("{session}/{id}"),
        }
    }
}

/// Something that can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// What.
    pub item: Item,
    /// Why.
    pub reason: String,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// All that can go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which it goes.
    pub removals: Vec<Removal>,
    /// Bytes of snapshots that are left over their bound, as they are needed.
    pub over_bytes: u64,
}

/// What can go of all that there is.
pub fn plan(inventory: &Inventory, rules: &Rules) -> Plan {
    let mut plan = Plan::default();
    let gone = sessions(inventory, rules, &mut plan);
    orphans(inventory, &mut plan);
    snapshots(inventory, rules, &gone, &mut plan);
    versions(inventory, rules, &gone, &mut plan);
    attachments(inventory, &gone, &mut plan);
    plan
}

/// Attachments and files of attachments that have not each other. Those of sessions that go, go with them.
fn attachments(inventory: &Inventory, gone: &BTreeSet<SessionId>, plan: &mut Plan) {
    let files: BTreeMap<_, _> = inventory.attachment_files.iter().map(|file| ((file.session, file.id), file.bytes)).collect();
    let known: BTreeSet<_> = inventory.sessions.iter().map(|session| session.id).collect();
    for (session, id) in inventory.attachments.iter().filter(|(session, _)| !gone.contains(session)) {
        // A fork has its attachments before its row.
        let is_old = || made_at(*session).is_none_or(|made| age(inventory, made) >= GRACE);
        let reason = match files.get(&(*session, *id)) {
            None => "its file is missing",
            Some(_) if !known.contains(session) && is_old() => "its session is not known",
            Some(_) => continue,
        };
        let bytes = files.get(&(*session, *id)).copied().unwrap_or(0);
        plan.removals.push(Removal { item: Item::Attachment(*session, *id), reason: reason.to_owned(), bytes });
    }
    for file in &inventory.attachment_files {
        let is_known = inventory.attachments.contains(&(file.session, file.id)) || gone.contains(&file.session);
        // It is written before its row.
        if !is_known && age(inventory, file.at) >= GRACE {
            let reason = "it is no attachment".to_owned();
            plan.removals.push(Removal { item: Item::Attachment(file.session, file.id), reason, bytes: file.bytes });
        }
    }
}

fn age(inventory: &Inventory, of: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(inventory.now.millis().saturating_sub(of.millis())).unwrap_or(0))
}

/// When a thing with this id was made; `None` where the id does not tell.
fn made_at(id: SessionId) -> Option<Timestamp> {
    let (seconds, nanos) = id.as_uuid().get_timestamp()?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1000).map(|millis| Timestamp(millis + i64::from(nanos / 1_000_000)))
}

/// Sessions that are over for long enough. Says which.
fn sessions(inventory: &Inventory, rules: &Rules, plan: &mut Plan) -> BTreeSet<SessionId> {
    let mut gone = BTreeSet::new();
    for session in &inventory.sessions {
        let reason = match (session.stage, rules.ended_after) {
            (Stage::Disowned, _) => "its removal was begun".to_owned(),
            (Stage::Ended { at }, Some(kept)) if age(inventory, at) >= kept => {
                format!("it ended {at}, and ended sessions are kept for {}", TimeSpan(kept.as_secs()))
            }
            _ => continue,
        };
        gone.insert(session.id);
        let bytes = inventory.snapshots.get(&session.id).map_or(0, |facts| facts.bytes);
        plan.removals.push(Removal { item: Item::Session(session.id), reason, bytes });
    }
    gone
}

/// Snapshots of sessions that the database does not know.
fn orphans(inventory: &Inventory, plan: &mut Plan) {
    let known: BTreeSet<_> = inventory.sessions.iter().map(|session| session.id).collect();
    for (id, facts) in inventory.snapshots.iter().filter(|(id, _)| !known.contains(id)) {
        let newest = facts.each.iter().filter_map(|one| one.created_at).max();
        // A fork has its snapshot before its row.
        if newest.max(made_at(*id)).is_none_or(|made| age(inventory, made) >= GRACE) {
            let reason = "their session is not known".to_owned();
            plan.removals.push(Removal { item: Item::Orphans(*id), reason, bytes: facts.bytes });
        }
    }
}

/// Snapshots beyond the bound of all of them: first those that have a newer one, then those that are
/// the last of sessions that have ended; the oldest of each first.
fn snapshots(inventory: &Inventory, rules: &Rules, gone: &BTreeSet<SessionId>, plan: &mut Plan) {
    let Some(bound) = rules.snapshot_bytes else { return };
    let orphaned: BTreeSet<_> = plan.removals.iter().filter_map(|removal| orphan(removal.item)).collect();
    let mut total: u64 = 0;
    let mut candidates = Vec::new();
    for (id, facts) in &inventory.snapshots {
        if gone.contains(id) || orphaned.contains(id) {
            continue;
        }
        total = total.saturating_add(facts.bytes);
        let stage = inventory.sessions.iter().find(|session| session.id == *id).map(|session| session.stage);
        let newest = facts.each.iter().filter(|one| one.created_at.is_some()).map(|one| one.event).max();
        for one in &facts.each {
            let is_last = match (stage, newest) {
                (Some(Stage::Alive | Stage::Ended { .. }), Some(newest)) if one.event < newest => false,
                (Some(Stage::Ended { .. }), _) => true,
                _ => continue,
            };
            let id = SnapshotId { session: *id, event: one.event };
            candidates.push((is_last, one.created_at, Item::Snapshot { id, needs_newer: !is_last }, one.bytes));
        }
    }
    candidates.sort_by_key(|(is_last, created_at, item, _)| (*is_last, *created_at, item.name()));
    for (_, _, item, bytes) in candidates {
        if total <= bound {
            break;
        }
        total -= bytes.min(total);
        let reason = format!("all snapshots together have more than {}", ByteCount(bound));
        plan.removals.push(Removal { item, reason, bytes });
    }
    plan.over_bytes = total.saturating_sub(bound);
}

const fn orphan(item: Item) -> Option<SessionId> {
    match item {
        Item::Orphans(id) => Some(id),
        _ => None,
    }
}

/// Versions that neither an agent nor a session needs.
fn versions(inventory: &Inventory, rules: &Rules, gone: &BTreeSet<SessionId>, plan: &mut Plan) {
    let mut needed = inventory.current.clone();
    needed.extend(inventory.sessions.iter().filter(|session| !gone.contains(&session.id)).map(|session| session.digest.clone()));
    let mut by_agent: BTreeMap<_, Vec<&DeployRow>> = BTreeMap::new();
    for deploy in &inventory.deploys {
        by_agent.entry((&deploy.tenant, &deploy.agent)).or_default().push(deploy);
    }
    for deploys in by_agent.values_mut() {
        deploys.sort_by_key(|deploy| (std::cmp::Reverse(deploy.at), &deploy.digest));
        needed.extend(deploys.iter().take(rules.agent_versions).map(|deploy| deploy.digest.clone()));
    }
    let deployed: BTreeSet<_> = inventory.deploys.iter().map(|deploy| &deploy.digest).collect();
    for version in &inventory.versions {
        let digest = version.digest.to_string();
        if needed.contains(&digest) || age(inventory, version.deployed_at) < GRACE {
            continue;
        }
        let reason = if deployed.contains(&digest) {
            format!("no session needs it, and {} of its agent are newer", rules.agent_versions)
        } else {
            "neither an agent nor a session needs it".to_owned()
        };
        plan.removals.push(Removal { item: Item::Version(version.digest), reason, bytes: version.bytes });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const HOUR: i64 = 3_600_000;

    /// A session's id with the time of its making in it.
    fn id(number: u8, hours_ago: i64) -> SessionId {
        let millis = u64::try_from(NOW - hours_ago * HOUR).expect("after 1970");
        let mut bytes = [number; 10];
        bytes[0] = 7;
        SessionId::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
    }

    fn digest(number: u8) -> Digest {
        format!("sha256:{}", format!("{number:02x}").repeat(32)).parse().expect("a digest")
    }

    fn at(hours_ago: i64) -> Timestamp {
        Timestamp(NOW - hours_ago * HOUR)
    }

    fn stage() -> impl Strategy<Value = Stage> {
        prop_oneof![
            3 => Just(Stage::Alive),
            1 => Just(Stage::Leaving),
            3 => (0i64..100).prop_map(|hours| Stage::Ended { at: at(hours) }),
            1 => Just(Stage::Disowned),
        ]
    }

    fn facts() -> impl Strategy<Value = SnapshotFacts> {
        let one = (0i64..100, any::<bool>(), 0u64..1000);
        prop::collection::btree_map(0i64..50, one, 0..6).prop_map(|all| {
            let each: Vec<_> = all
                .into_iter()
                .map(|(event, (hours, whole, bytes))| {
                    let bytes = if whole { bytes } else { 0 };
                    OneSnapshot { event, created_at: whole.then(|| at(hours)), bytes }
                })
                .collect();
            SnapshotFacts { bytes: each.iter().map(|one| one.bytes).sum(), each }
        })
    }

    prop_compose! {
        fn inventory()(
            sessions in prop::collection::vec((stage(), 0u8..8, 0i64..200, any::<bool>(), facts()), 0..12),
            versions in prop::collection::btree_map(0u8..12, (0u64..1000, 0i64..200), 0..12),
            current in prop::collection::btree_set(0u8..12, 0..3),
            deploys in prop::collection::vec((0u8..3, 0u8..12, 0i64..200), 0..20),
        ) -> Inventory {
            let mut known = Vec::new();
            let mut snapshots = BTreeMap::new();
            for (number, (stage, version, hours, is_known, facts)) in sessions.into_iter().enumerate() {
                let id = id(number as u8, hours);
                if is_known {
                    known.push(SessionFacts { id, digest: digest(version).to_string(), stage });
                }
                snapshots.insert(id, facts);
            }
            Inventory {
                now: Timestamp(NOW),
                sessions: known,
                snapshots,
                versions: versions.into_iter()
                    .map(|(number, (bytes, hours))| VersionFacts { digest: digest(number), bytes, deployed_at: at(hours) })
                    .collect(),
                current: current.into_iter().map(|number| digest(number).to_string()).collect(),
                deploys: deploys.into_iter()
                    .map(|(agent, number, hours)| DeployRow {
                        tenant: "default".to_owned(),
                        agent: format!("agent-{agent}"),
                        digest: digest(number).to_string(),
                        at: at(hours),
                    })
                    .collect(),
                attachments: BTreeSet::new(),
                attachment_files: Vec::new(),
            }
        }
    }

    fn rules() -> impl Strategy<Value = Rules> {
        let ended_after = prop::option::of((0u64..100).prop_map(|hours| Duration::from_secs(hours * 3600)));
        (ended_after, prop::option::of(0u64..5000), 1usize..4).prop_map(|(ended_after, snapshot_bytes, agent_versions)| Rules {
            ended_after,
            snapshot_bytes,
            agent_versions,
            audit_after: None,
        })
    }

    /// What is left when a plan was carried out.
    fn carried_out(mut inventory: Inventory, plan: &Plan) -> Inventory {
        for removal in &plan.removals {
            match removal.item {
                Item::Session(id) => {
                    inventory.sessions.retain(|session| session.id != id);
                    inventory.snapshots.remove(&id);
                }
                Item::Orphans(id) => drop(inventory.snapshots.remove(&id)),
                Item::Snapshot { id, .. } => {
                    let facts = inventory.snapshots.get_mut(&id.session).expect("there");
                    facts.each.retain(|one| one.event != id.event);
                    facts.bytes -= removal.bytes;
                }
                Item::Version(digest) => inventory.versions.retain(|version| version.digest != digest),
                Item::Attachment(session, id) => {
                    inventory.attachments.remove(&(session, id));
                    inventory.attachment_files.retain(|file| (file.session, file.id) != (session, id));
                }
            }
        }
        inventory
    }

    fn newest_whole(facts: &SnapshotFacts) -> Option<i64> {
        facts.each.iter().filter(|one| one.created_at.is_some()).map(|one| one.event).max()
    }

    proptest! {
        #[test]
        fn what_a_session_needs_is_never_removed(before in inventory(), rules in rules()) {
            let plan = plan(&before, &rules);
            let after = carried_out(before.clone(), &plan);
            for session in before.sessions.iter().filter(|session| matches!(session.stage, Stage::Alive | Stage::Leaving)) {
                prop_assert!(after.sessions.iter().any(|left| left.id == session.id), "it is still there");
                let (was, is) = (&before.snapshots[&session.id], &after.snapshots[&session.id]);
                prop_assert_eq!(newest_whole(was), newest_whole(is));
                let newer = |facts: &SnapshotFacts| {
                    let newest = newest_whole(facts).unwrap_or(i64::MIN);
                    facts.each.iter().filter(|one| one.event >= newest).count()
                };
                prop_assert_eq!(newer(was), newer(is), "what may be whole after all is not judged");
                if session.stage == Stage::Leaving {
                    prop_assert_eq!(was.each.len(), is.each.len());
                }
            }
            let had = |inventory: &Inventory, digest: &str| inventory.versions.iter().any(|version| version.digest.to_string() == digest);
            for digest in after.sessions.iter().map(|session| &session.digest).chain(&before.current) {
                prop_assert_eq!(had(&before, digest), had(&after, digest), "the version of a session or an agent");
            }
            for agent in ["agent-0", "agent-1", "agent-2"] {
                let mut of: Vec<_> = before.deploys.iter().filter(|deploy| deploy.agent == agent).collect();
                of.sort_by_key(|deploy| (std::cmp::Reverse(deploy.at), &deploy.digest));
                for deploy in of.iter().take(rules.agent_versions) {
                    prop_assert_eq!(had(&before, &deploy.digest), had(&after, &deploy.digest), "one of the newest");
                }
            }
        }

        #[test]
        fn without_rules_only_what_nobody_knows_goes(before in inventory()) {
            let plan = plan(&before, &Rules { ended_after: None, snapshot_bytes: None, agent_versions: usize::MAX, audit_after: None });
            for removal in plan.removals {
                match removal.item {
                    Item::Session(id) => {
                        prop_assert!(before.sessions.iter().any(|one| one.id == id && one.stage == Stage::Disowned));
                    }
                    Item::Orphans(id) => prop_assert!(!before.sessions.iter().any(|one| one.id == id)),
                    Item::Version(digest) => {
                        let digest = digest.to_string();
                        prop_assert!(!before.deploys.iter().any(|deploy| deploy.digest == digest));
                    }
                    Item::Snapshot { .. } | Item::Attachment(..) => prop_assert!(false, "{:?}", removal),
                }
            }
        }

        #[test]
        fn ended_sessions_go_when_their_time_has_come_and_not_before(before in inventory(), hours in 0i64..100) {
            let kept = Duration::from_secs(u64::try_from(hours).expect("positive") * 3600);
            let plan = plan(&before, &Rules { ended_after: Some(kept), snapshot_bytes: None, agent_versions: 1, audit_after: None });
            for session in &before.sessions {
                let goes = plan.removals.iter().any(|removal| removal.item == Item::Session(session.id));
                let due = match session.stage {
                    Stage::Ended { at: ended } => ended <= at(hours),
                    stage => stage == Stage::Disowned,
                };
                prop_assert_eq!(goes, due, "{:?}", session);
            }
        }

        #[test]
        fn the_bound_of_all_snapshots_holds_or_it_is_said_by_how_much_not(before in inventory(), rules in rules()) {
            let plan = plan(&before, &rules);
            let after = carried_out(before, &plan);
            let total: u64 = after.snapshots.values().map(|facts| facts.bytes).sum();
            let bound = rules.snapshot_bytes.unwrap_or(u64::MAX);
            prop_assert_eq!(total.saturating_sub(bound), plan.over_bytes);
        }

        #[test]
        fn a_second_run_finds_nothing_more(before in inventory(), rules in rules()) {
            let first = plan(&before, &rules);
            let second = plan(&carried_out(before, &first), &rules);
            prop_assert_eq!(second.removals, vec![]);
        }
    }

    #[test]
    fn what_is_young_is_left_alone() {
        let orphan = |hours| (id(1, hours), SnapshotFacts::default());
        let version = |number, hours| VersionFacts { digest: digest(number), bytes: 1, deployed_at: at(hours) };
        let inventory = |hours| Inventory {
            now: Timestamp(NOW),
            sessions: Vec::new(),
            snapshots: [orphan(hours)].into(),
            versions: vec![version(1, hours)],
            current: BTreeSet::new(),
            deploys: Vec::new(),
            attachments: BTreeSet::new(),
            attachment_files: Vec::new(),
        };
        let rules = Rules { ended_after: None, snapshot_bytes: None, agent_versions: 5, audit_after: None };
        assert_eq!(plan(&inventory(0), &rules).removals, []);
        assert_eq!(plan(&inventory(2), &rules).removals.len(), 2);
    }

    #[test]
    fn attachments_go_that_have_no_file_or_no_session_and_files_that_have_no_row_once_they_are_old() {
        let (alive, over, young, old) = (id(1, 90), id(2, 90), id(3, 0), id(4, 90));
        let ids: Vec<_> = (0..8).map(|_| AttachmentId::new()).collect();
        let session = |id, stage| SessionFacts { id, digest: digest(1).to_string(), stage };
        let file = |session, number: usize, hours| Found { session, id: ids[number], bytes: 5, at: at(hours) };
        let inventory = Inventory {
            now: Timestamp(NOW),
            sessions: vec![session(alive, Stage::Alive), session(over, Stage::Ended { at: at(50) })],
            snapshots: BTreeMap::new(),
            versions: Vec::new(),
            current: BTreeSet::new(),
            deploys: Vec::new(),
            attachments: [(alive, 0), (alive, 1), (over, 2), (young, 3), (old, 4)].map(|(session, n)| (session, ids[n])).into(),
            attachment_files: vec![
                file(alive, 0, 90),
                file(young, 3, 90),
                file(old, 4, 90),
                file(alive, 5, 2),
                file(alive, 6, 0),
                file(over, 7, 2),
            ],
        };
        let goes = |ended_after| {
            let plan = plan(&inventory, &Rules { ended_after, snapshot_bytes: None, agent_versions: 5, audit_after: None });
            let number = |removal: &Removal| match removal.item {
                Item::Attachment(_, id) => ids.iter().position(|one| *one == id),
                _ => None,
            };
            let mut numbers: Vec<_> = plan.removals.iter().filter_map(number).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(goes(None), [1, 2, 4, 5, 7]);
        assert_eq!(goes(Some(Duration::ZERO)), [1, 4, 5], "those of a session that goes, go with it");
    }

    #[test]
    fn older_ones_go_before_the_last_of_ended_sessions() {
        let one = |event, hours| OneSnapshot { event, created_at: Some(at(hours)), bytes: 10 };
        let (alive, ended) = (id(1, 90), id(2, 90));
        let session = |id, stage| SessionFacts { id, digest: digest(1).to_string(), stage };
        let inventory = Inventory {
            now: Timestamp(NOW),
            sessions: vec![session(alive, Stage::Alive), session(ended, Stage::Ended { at: at(50) })],
            snapshots: [
                (alive, SnapshotFacts { bytes: 30, each: vec![one(1, 3), one(2, 2), one(3, 1)] }),
                (ended, SnapshotFacts { bytes: 20, each: vec![one(1, 60), one(2, 50)] }),
            ]
            .into(),
            versions: Vec::new(),
            current: BTreeSet::new(),
            deploys: Vec::new(),
            attachments: BTreeSet::new(),
            attachment_files: Vec::new(),
        };
        let goes = |bytes| {
            let rules = Rules { ended_after: None, snapshot_bytes: Some(bytes), agent_versions: 5, audit_after: None };
            let plan = plan(&inventory, &rules);
            let event = |removal: &Removal| match removal.item {
                Item::Snapshot { id, .. } => (id.session == alive, id.event),
                item => panic!("{item:?}"),
            };
            (plan.removals.iter().map(event).collect::<Vec<_>>(), plan.over_bytes)
        };
        assert_eq!(goes(50), (vec![], 0));
        assert_eq!(goes(45), (vec![(false, 1)], 0));
        assert_eq!(goes(20), (vec![(false, 1), (true, 1), (true, 2)], 0));
        assert_eq!(goes(0), (vec![(false, 1), (true, 1), (true, 2), (false, 2)], 10));
    }
}
