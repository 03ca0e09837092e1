//! What model calls took and no bill has yet, left for the next shim in the folder.
//!
//! A bill comes with the end of its turn. A shim that is killed before tells of none, and the next one would count
//! from a smaller sum than was spent: whoever inside can have it killed would spend the budget of the session
//! once with each. So the sum is written beside the events while it grows:
//!
//! ```text
//! keep(sum)* ──▶ billed(by event n) ──▶ event n ──▶ keep(sum)*
//!    │ killed       │ killed              │ killed
//!    ▼              ▼                     ▼
//!   left        left, as event n     nothing is left: it is on a bill
//!               is not there
//! ```
//!
//! Like events, it is not synced to the disk: it survives the death of a process, and that of the host is not
//! brought about from inside.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::spool::Spool;
use crate::wire::usage::ModelUsage;

const FILE: &str = "tab";
/// How often it is looked for a sum that grew. What was told since then is lost with a shim that is killed, beside
/// what the calls under way had not told yet.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

type Models = BTreeMap<String, ModelUsage>;

/// See the module's documentation.
#[derive(Debug)]
pub struct Tab {
    path: PathBuf,
    page: Page,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Page {
    /// Whose event `billed_by` is.
    incarnation: Uuid,
    models: Models,
    /// The event that bills them, if one is about to.
    #[serde(default)]
    billed_by: Option<u64>,
}

impl Tab {
    /// The one in this folder, and what an earlier life of the shim took that none of its events tells of.
    pub fn open(folder: &Path, spool: &Spool) -> (Self, Models) {
        let path = folder.join(FILE);
        let found = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Page>(&text).ok());
        let mut left = found.filter(|page| !page.is_billed(spool)).map(|page| page.models).unwrap_or_default();
        left.retain(|_, usage| *usage != ModelUsage::default());
        let page = Page { incarnation: spool.incarnation(), models: left.clone(), billed_by: None };
        (Self { path, page }, left)
    }

    /// Writes down what no bill has, if that is not what stands there.
    pub fn keep(&mut self, models: Models, spool: &Spool) {
        self.write(Page { incarnation: spool.incarnation(), models, billed_by: None });
    }

    /// The next event bills what stands there.
    pub fn billed(&mut self, spool: &Spool) {
        // What an earlier event has is billed.
        if !self.page.models.is_empty() && self.page.billed_by.is_none() {
            let billed_by = Some(spool.newest() + 1);
            self.write(Page { incarnation: spool.incarnation(), models: self.page.models.clone(), billed_by });
        }
    }

    fn write(&mut self, page: Page) {
        let is_same = self.page.models == page.models && self.page.billed_by == page.billed_by;
        if is_same || (page.models.is_empty() && self.page.models.is_empty()) {
            return;
        }
        match self.put(&page) {
            Ok(()) => self.page = page,
            Err(error) => tracing::warn!(%error, "what model calls took can not be written down, trying again later"),
        }
    }

    fn put(&self, page: &Page) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        fs::write(&beside, serde_json::to_vec(page)?)?;
        fs::rename(&beside, &self.path)
    }
}

impl Page {
    /// Whether an event has them. Where events were lost, the daemon may have had that one before.
    fn is_billed(&self, spool: &Spool) -> bool {
        self.billed_by.is_some_and(|event| self.incarnation != spool.incarnation() || event <= spool.newest())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::Event;
    use crate::shim::spool::FULL;
    use crate::wire::event::Kind;

    fn models(tokens: u64) -> Models {
        [("m".to_owned(), ModelUsage { calls: 1, input_tokens: tokens, ..ModelUsage::default() })].into()
    }

    fn event(spool: &mut Spool) {
        spool.push(1, Event::new(None, Kind::Lifecycle, &json!({})));
        spool.flush();
    }

    #[test]
    fn what_no_event_bills_is_left_at_any_time() {
        let folder = tempfile::tempdir().expect("folder");
        let left = || Tab::open(folder.path(), &Spool::open(folder.path(), FULL)).1;
        let mut spool = Spool::open(folder.path(), FULL);
        event(&mut spool);
        let (mut tab, nothing) = Tab::open(folder.path(), &spool);
        assert_eq!(nothing, Models::new());
        tab.keep(models(5), &spool);
        event(&mut spool);
        assert_eq!(left(), models(5), "events that bill nothing change nothing");
        tab.keep(models(7), &spool);
        tab.billed(&spool);
        assert_eq!(left(), models(7), "the event is not there yet");
        event(&mut spool);
        assert_eq!(left(), Models::new(), "it is");
        tab.billed(&spool);
        assert_eq!(left(), Models::new(), "the next bill is not of them");
        tab.keep(Models::new(), &spool);
        assert_eq!(left(), Models::new());
        tab.keep(models(3), &spool);
        assert_eq!(left(), models(3), "of the next turn");
        assert_eq!(left(), models(3), "looking takes nothing away");
    }

    #[test]
    fn a_bill_that_was_begun_counts_also_where_its_events_are_gone() {
        let folder = tempfile::tempdir().expect("folder");
        let mut spool = Spool::open(folder.path(), FULL);
        let (mut tab, _) = Tab::open(folder.path(), &spool);
        tab.keep(models(7), &spool);
        tab.billed(&spool);
        event(&mut spool);
        fs::remove_dir_all(folder.path().join("events")).expect("removed");
        assert_eq!(Tab::open(folder.path(), &Spool::open(folder.path(), FULL)).1, Models::new());
        tab.keep(models(9), &spool);
        assert_eq!(Tab::open(folder.path(), &Spool::open(folder.path(), FULL)).1, models(9));
        fs::write(folder.path().join(FILE), "{").expect("written");
        assert_eq!(Tab::open(folder.path(), &Spool::open(folder.path(), FULL)).1, Models::new(), "what is torn is nothing");
    }
}
