//! What a session may use: whose word counts, what bounds it, and who holds it to that.
//!
//! The session's own word comes first, then the agent's, then the host's; the operator's bound is above
//! all. Of what counts, systemd keeps what is about the unit, the shim what is about turns and the model,
//! and the driver of the session what is about its sandbox's life.

use serde_json::{Map, Value};

use super::driver::Request;
use super::open::{rules, version};
use super::{Context, SessionError, Sessions};
use crate::agent::Definition;
use crate::link::launch::files_of;
use crate::link::shim::{Budget, RunLimits};
use crate::sandbox::Limits as UnitLimits;
use crate::store::SessionRow;
use crate::wire::SessionId;
use crate::wire::limits::{LimitFault, Limits, LimitsBody};
use crate::wire::quantity::{TimeSpan, bounds};
use crate::wire::usage::Spent;

/// What the operator says.
#[derive(Debug, Clone, Copy)]
pub struct LimitRules {
    /// What counts where neither session nor agent say anything.
    pub default: Limits,
    /// The most that they can say.
    pub max: Limits,
}

impl Sessions {
    /// What a session may use, and what it has spent.
    pub async fn limits(&self, tenant: &str, id: SessionId) -> Result<LimitsBody, SessionError> {
        let row = self.get(tenant, id).await?;
        self.limits_of(&row, Vec::new()).await
    }

    /// Changes what a session may use, also where it runs. `null` takes a field back.
    pub async fn change_limits(
        &self,
        tenant: &str,
        id: SessionId,
        change: Map<String, Value>,
    ) -> Result<LimitsBody, SessionError> {
        let row = self.get(tenant, id).await?;
        let pending = self.ask(&row, |reply| Request::Limits { change, reply }).await?;
        let row = self.get(tenant, id).await?;
        self.limits_of(&row, pending).await
    }

    async fn limits_of(&self, row: &SessionRow, pending: Vec<String>) -> Result<LimitsBody, SessionError> {
        let limits = of(&self.context, row);
        let session = row.config.limits.unwrap_or_default();
        Ok(LimitsBody { limits, session, max: bound(&self.context), spent: self.spent(row.id).await?, pending })
    }

    /// What counts for a session.
    pub fn limits_that_count(&self, row: &SessionRow) -> Limits {
        of(&self.context, row)
    }

    /// What the turns of a session that are over took of the model.
    pub async fn spent(&self, id: SessionId) -> Result<Spent, SessionError> {
        let models = self.context.store.spent(id).await?;
        let tokens = models.values().map(|usage| usage.tokens()).fold(0, u64::saturating_add);
        Ok(Spent { tokens, cost_usd: self.context.settings.prices.sum(&models) })
    }
}

/// The most that a session can say.
fn bound(context: &Context) -> Limits {
    let idle = Some(TimeSpan(context.settings.times.park_after.as_secs()));
    context.settings.limits.max.at_most(Limits { idle, ..Limits::default() })
}

/// What counts for a session. An agent whose files are missing says nothing.
pub fn of(context: &Context, session: &SessionRow) -> Limits {
    let definition = version(context, &session.agent, &session.digest).ok().and_then(|version| version.definition().ok());
    let counts = said(context, session, definition.as_ref());
    let idle = Some(TimeSpan(rules(context, session).times.park_after.as_secs()));
    let memory_high = counts.memory_high.filter(|high| counts.memory.is_none_or(|memory| *high < memory));
    Limits { idle, memory_high, ..counts }
}

/// What counts of what is said, with the agent's definition at hand.
pub fn said(context: &Context, session: &SessionRow, definition: Option<&Definition>) -> Limits {
    let LimitRules { default, max } = context.settings.limits;
    let own = session.config.limits.unwrap_or_default();
    let agent = definition.map(|definition| definition.limits).unwrap_or_default();
    own.or(agent).or(default).at_most(max)
}

/// What systemd holds the unit to.
pub fn of_unit(limits: &Limits) -> UnitLimits {
    let most = |range: &std::ops::RangeInclusive<u64>| crate::wire::quantity::ByteCount(*range.end());
    UnitLimits {
        memory: limits.memory.unwrap_or(most(&bounds::MEMORY)),
        memory_high: limits.memory_high,
        swap: limits.swap.unwrap_or(most(&bounds::SWAP)),
        cpu: limits.cpu.unwrap_or(crate::wire::quantity::Percent(*bounds::CPU.end())),
        tasks: limits.tasks.unwrap_or(*bounds::TASKS.end()),
        disk: limits.disk.unwrap_or(most(&bounds::DISK)),
        // The usual weight needs no word, and so no controller.
        io_weight: limits.io_weight.filter(|weight| *weight != USUAL_WEIGHT),
        io_read: limits.io_read,
        io_write: limits.io_write,
    }
}

/// The weight of a unit that says nothing (cgroup-v2, io.weight).
const USUAL_WEIGHT: u32 = 100;

/// What the shim holds turns to. What they took before it is said where that is known.
pub fn of_turns(context: &Context, session: &SessionRow) -> RunLimits {
    let limits = of(context, session);
    let prices = limits.cost.map(|_| context.settings.prices.list().clone()).unwrap_or_default();
    RunLimits {
        turn_ms: limits.turn.map(|time| time.0.saturating_mul(1000)),
        // The most that can be said is that of the unit.
        open_files: limits.open_files.filter(|count| count < bounds::OPEN_FILES.end()),
        file_bytes: limits.file_size.map(|size| size.0),
        output_rate: limits.output_rate.map(|rate| rate.0),
        disk_bytes: limits.disk.map(|size| size.0),
        disk_files: limits.disk.map(files_of),
        budget: Budget { tokens: limits.tokens, cost: limits.cost.map(|cost| cost.0), prices, before: None },
    }
}

/// Refuses what a session can not have. `within` is put before the names of fields.
pub fn check(context: &Context, within: &str, limits: &Limits) -> Result<(), SessionError> {
    let fault = match limits.check() {
        Err(fault) => Some(fault),
        Ok(()) => limits.first_beyond(&bound(context)).or_else(|| {
            let (high, memory) = (limits.memory_high?, limits.memory?);
            let reason = || format!("{} is more than memoryMb, {}", high.0 >> 20, memory.0 >> 20);
            (high > memory).then(|| LimitFault { field: "memoryHighMb".to_owned(), reason: reason() })
        }),
    };
    match fault {
        Some(fault) => Err(invalid(within, fault)),
        None => Ok(()),
    }
}

/// The error of a field.
pub fn invalid(within: &str, LimitFault { field, reason }: LimitFault) -> SessionError {
    SessionError::Invalid { field: format!("{within}{field}"), reason }
}
