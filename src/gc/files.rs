//! Files of tenants that nobody needs.

use super::plan::GRACE;
use super::{Gc, removal};
use crate::report::chain;
use crate::wire::gc::{GcKind, GcReport};

impl Gc {
    /// Removes those that have expired, and bytes that have no row; or, dry, tells which.
    pub(super) async fn files(&self, report: &mut GcReport) {
        let grace = i64::try_from(GRACE.as_millis()).unwrap_or(i64::MAX);
        let unneeded = match self.files.unneeded(grace).await {
            Ok(unneeded) => unneeded,
            Err(error) => {
                return tracing::warn!(error = chain(&error), "it can not be seen which files nobody needs, ignoring");
            }
        };
        for file in unneeded {
            let outcome = if report.dry_run { Ok(true) } else { self.files.discard(file).await };
            if matches!(outcome, Ok(false)) {
                continue;
            }
            let what = (GcKind::ProjectFile, file.id.to_string(), file.why.as_str().to_owned(), file.bytes);
            self.note(report, removal(what, outcome.err().map(|error| chain(&error))));
        }
    }
}
