//! What of the network the sandbox of a session may reach: whose list counts, and what bounds it.

use serde_json::value::RawValue;

use super::driver::Request;
use super::open::version;
use super::{Context, SessionError, Sessions};
use crate::egress::asked;
use crate::egress::policy::Policy;
use crate::link::shim::{Egress as Settings, EgressLimits};
use crate::store::SessionRow;
use crate::wire::SessionId;
use crate::wire::egress::{Egress, EgressBody, Entry, Host, List, Names, Range, Rule, Source, address};

/// What the operator says.
#[derive(Debug, Clone)]
pub struct EgressRules {
    /// What the lists of agents and sessions can allow at most.
    pub bound: List,
    /// Ranges that may be reached although they are not public.
    pub private: Vec<Range>,
    /// What one sandbox may use.
    pub limits: EgressLimits,
}

impl Sessions {
    /// What of the network the sandbox of a session may reach.
    pub async fn egress(&self, tenant: &str, id: SessionId) -> Result<EgressBody, SessionError> {
        let row = self.get(tenant, id).await?;
        Ok(of(&self.context, &row))
    }

    /// Changes what of the network may be reached, also for what is connected now; says whether that
    /// counts already.
    pub async fn change_egress(&self, tenant: &str, id: SessionId, egress: Egress) -> Result<EgressBody, SessionError> {
        let row = self.get(tenant, id).await?;
        check(&self.context.settings.egress, "allow", &egress.allow)?;
        let applied = self.ask(&row, |reply| Request::Egress { egress, reply }).await?;
        Ok(EgressBody { applied: Some(applied), ..self.egress(tenant, id).await? })
    }
}

/// The list that counts for a session, and whose it is. An agent whose files are missing has none.
pub fn of(context: &Context, session: &SessionRow) -> EgressBody {
    let operator = context.settings.egress.bound.clone();
    let body = |allow: List, source: Source| EgressBody { allow, source, operator, applied: None };
    if let Some(egress) = &session.config.egress {
        return body(egress.allow.clone(), Source::Session);
    }
    let definition = version(context, &session.agent, &session.digest).ok().and_then(|version| version.definition().ok());
    match definition.and_then(|definition| definition.egress) {
        Some(allow) => body(allow, Source::Agent),
        None => body(List::default(), Source::Default),
    }
}

/// The same in the words of the shim.
pub fn settings(context: &Context, session: &SessionRow) -> Settings {
    let EgressBody { allow, operator, .. } = of(context, session);
    let texts = |list: &List| list.rules().iter().map(ToString::to_string).collect();
    let EgressRules { private, limits, .. } = &context.settings.egress;
    Settings {
        allow: texts(&allow),
        bound: texts(&operator),
        said: allow.to_string(),
        private: private.iter().map(ToString::to_string).collect(),
        limits: *limits,
    }
}

/// Refuses a list that asks for what can not be had. `field` names it in the request.
pub fn check(rules: &EgressRules, field: &str, allow: &List) -> Result<(), SessionError> {
    let refuse = |at: usize, reason: String| Err(SessionError::Invalid { field: format!("{field}[{at}]"), reason });
    if let Some((at, entry)) = rules.bound.first_beyond(allow) {
        let said = if rules.bound.entries().is_empty() { "nothing".to_owned() } else { rules.bound.to_string() };
        return refuse(at, format!("{entry} is beyond what the operator of this host allows ({said})"));
    }
    for (at, entry) in allow.entries().iter().enumerate() {
        let Entry::Rule(Rule { names: Names::One(Host::Ip(ip)), .. }) = entry else { continue };
        let is_opened = address::is_opened(&rules.private, *ip, address::is_loopback(*ip));
        if let Some(kind) = address::refusal(*ip).filter(|_| !is_opened) {
            return refuse(at, format!("{ip} is {kind}, which the operator of this host has not opened"));
        }
    }
    Ok(())
}

/// Refuses blocks of a message that the gateway would not let out, read as it reads them. Its conversation would have them
/// in each later call.
pub fn check_blocks(context: &Context, session: &SessionRow, blocks: &[&RawValue]) -> Result<(), SessionError> {
    for (at, block) in blocks.iter().enumerate() {
        let invalid = |reason| SessionError::Invalid { field: format!("content[{at}]"), reason };
        let fetches = asked::of_block(block.get()).map_err(|unread| invalid(unread.to_string()))?;
        if !fetches.is_empty() {
            let (policy, _) = Policy::new(&settings(context, session));
            fetches.judge(&policy).map_err(|(_, refusal)| invalid(refusal.to_string()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> List {
        List::new(entries.iter().map(|entry| entry.parse().expect(entry)).collect()).expect("few")
    }

    #[test]
    fn a_list_beyond_the_operators_is_refused_by_its_entry() {
        let rules = |bound: &[&str], private: &[&str]| EgressRules {
            bound: list(bound),
            private: private.iter().map(|range| range.parse().expect("a range")).collect(),
            limits: EgressLimits::default(),
        };
        let said = |rules: &EgressRules, allow: &[&str]| {
            check(rules, "egress.allow", &list(allow)).map_err(|error| error.to_string()).err()
        };
        let open = rules(&["*:*"], &["10.1.0.0/16", "169.254.0.0/16"]);
        assert_eq!(said(&open, &["pypi", "*", "8.8.8.8:53", "10.1.2.3:80"]), None);
        assert_eq!(
            said(&open, &["pypi", "10.2.0.1"]).as_deref(),
            Some("egress.allow[1]: 10.2.0.1 is a private address, which the operator of this host has not opened")
        );
        assert!(said(&open, &["169.254.169.254"]).is_some_and(|said| said.contains("metadata")));
        let all = rules(&["*:*"], &["0.0.0.0/0", "127.0.0.2/32"]);
        assert_eq!(said(&all, &["10.2.0.1", "127.0.0.2"]), None);
        assert!(said(&all, &["127.0.0.1"]).is_some_and(|said| said.contains("a loopback address")), "not by a range");
        let narrow = rules(&["pypi", "*.example.com"], &[]);
        assert_eq!(said(&narrow, &["pypi.org", "a.example.com"]), None);
        assert_eq!(
            said(&narrow, &["example.com"]).as_deref(),
            Some("egress.allow[0]: example.com is beyond what the operator of this host allows (pypi, *.example.com)")
        );
        assert!(said(&rules(&[], &[]), &["pypi"]).is_some_and(|said| said.ends_with("(nothing)")));
    }
}
