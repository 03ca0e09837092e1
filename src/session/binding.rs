//! Credentials of the tenant that sessions have bound to hosts.

use std::collections::{BTreeMap, BTreeSet};

use super::egress::EgressRules;
use super::open::KEY_VARIABLE;
use super::{Context, SessionError};
use crate::credential::CredentialError;
use crate::link::control::is_controlled;
use crate::link::shim;
use crate::store::SessionRow;
use crate::wire::binding::{BINDINGS_MAX, Binding, URL_SUFFIX, check_name};
use crate::wire::egress::Rule;
use crate::wire::session::Status;

/// Refuses bindings that can not be had, by the field of the request.
pub(super) async fn check(context: &Context, tenant: &str, bindings: &BTreeMap<String, Binding>) -> Result<(), SessionError> {
    check_forms(&context.settings.egress, bindings)?;
    for (name, binding) in bindings {
        match context.settings.credentials.check(tenant, &binding.credential_id).await {
            Ok(()) => {}
            Err(error @ (CredentialError::NotFound | CredentialError::Unusable(_))) => {
                return Err(SessionError::Invalid { field: format!("bindings.{name}.credentialId"), reason: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn check_forms(rules: &EgressRules, bindings: &BTreeMap<String, Binding>) -> Result<(), SessionError> {
    let invalid = |field: String, reason: String| SessionError::Invalid { field, reason };
    if bindings.len() > BINDINGS_MAX {
        return Err(invalid("bindings".to_owned(), format!("has to be at most {BINDINGS_MAX}")));
    }
    for (name, binding) in bindings {
        let shown: String = name.escape_debug().take(80).collect();
        let at = |field: &str, reason: String| invalid(format!("bindings.{shown}{field}"), reason);
        check_name(name).map_err(|reason| at("", reason))?;
        if is_controlled(name) || is_controlled(&format!("{name}{URL_SUFFIX}")) || name == KEY_VARIABLE {
            return Err(at("", "is a variable that Ash sets".to_owned()));
        }
        let target = binding.target().map_err(|reason| at(".host", reason))?;
        if !rules.bound.rules().iter().any(|rule| rule.covers(&Rule::of(&target))) {
            let said = if rules.bound.entries().is_empty() { "nothing".to_owned() } else { rules.bound.to_string() };
            return Err(at(".host", format!("{target} is beyond what the operator of this host allows ({said})")));
        }
        binding.form().map_err(|reason| at(".header", reason))?;
    }
    Ok(())
}

/// The same in the words of the shim, with their values. Of a credential that is `gone`, or that was deleted
/// before, it is told that there is none.
pub(super) async fn of(
    context: &Context,
    session: &SessionRow,
    gone: &BTreeSet<String>,
) -> Result<Vec<shim::Binding>, CredentialError> {
    let mut bindings = Vec::new();
    // Whoever brings up one that has ended wants its files alone.
    let bound = session.config.bindings.iter().flatten().filter(|_| session.status != Status::Ended);
    for (name, binding) in bound {
        let (Ok(target), Ok((header, before, after))) = (binding.target(), binding.form()) else {
            tracing::warn!(session_id = %session.id, name, "a binding that this release can not read, leaving it out");
            continue;
        };
        let secret = match gone.contains(&binding.credential_id) {
            true => None,
            false => match context.settings.credentials.environment(&session.tenant, &binding.credential_id, session.id).await {
                Ok(kept) => kept.into_values().next(),
                Err(CredentialError::NotFound) => None,
                Err(error) => return Err(error),
            },
        };
        let value = secret.map(|secret| format!("{before}{secret}{after}"));
        bindings.push(shim::Binding { name: name.clone(), host: target.to_string(), header, value });
    }
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::shim::EgressLimits;
    use crate::wire::egress::List;

    #[test]
    fn what_can_not_be_bound_is_refused_by_its_field() {
        let bound = List::new(vec!["*.example.com:443".parse().expect("an entry")]).expect("one");
        let rules = EgressRules { bound, private: Vec::new(), limits: EgressLimits::default() };
        let said = |name: &str, host: &str, header: Option<&str>| {
            let binding = Binding { credential_id: String::new(), host: host.to_owned(), header: header.map(str::to_owned) };
            let checked = check_forms(&rules, &BTreeMap::from([(name.to_owned(), binding)]));
            checked.map_err(|error| error.to_string()).err()
        };
        assert_eq!(said("TOKEN", "api.example.com", Some("x-key: {}")), None);
        for (name, host, header, wanted) in [
            ("token", "api.example.com", None, "bindings.token: the name of a binding has"),
            ("A\n", "api.example.com", None, "bindings.A\\n: the name"),
            ("HOME", "api.example.com", None, "bindings.HOME: is a variable that Ash sets"),
            ("LD_PRELOAD", "api.example.com", None, "bindings.LD_PRELOAD: is a variable"),
            ("ANTHROPIC_API_KEY", "api.example.com", None, "bindings.ANTHROPIC_API_KEY: is a variable"),
            ("ANTHROPIC_BASE", "api.example.com", None, "bindings.ANTHROPIC_BASE: is a variable"),
            ("TOKEN", "10.0.0.1", None, "bindings.TOKEN.host: has to be a name"),
            ("TOKEN", "*.example.com", None, "bindings.TOKEN.host: '*' is in no host name"),
            ("TOKEN", "evil.test", None, "bindings.TOKEN.host: evil.test:443 is beyond what the operator"),
            ("TOKEN", "api.example.com:22", None, "bindings.TOKEN.host: api.example.com:22 is beyond"),
            ("TOKEN", "api.example.com", Some("host: {}"), "bindings.TOKEN.header: host is not for a credential"),
            ("TOKEN", "api.example.com", Some("x-key"), "bindings.TOKEN.header: has to be a header"),
        ] {
            let said = said(name, host, header).unwrap_or_default();
            assert!(said.starts_with(wanted), "{said} / {wanted}");
        }
        let one = Binding { credential_id: String::new(), host: "api.example.com".to_owned(), header: None };
        let many = (0..33).map(|n| (format!("T{n}"), one.clone())).collect();
        assert!(check_forms(&rules, &many).is_err_and(|error| error.to_string() == "bindings: has to be at most 32"));
    }
}
