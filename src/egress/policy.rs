//! What may be reached, decided. Pure.

use std::fmt;
use std::net::IpAddr;

use crate::link::shim::{Egress as Settings, EgressLimits};
use crate::wire::egress::{Host, Names, Range, Rule, Target, address};

/// Characters of the allowed list that a refusal repeats.
const SAID_MAX: usize = 400;

/// What may be reached now.
#[derive(Debug)]
pub struct Policy {
    allow: Vec<Rule>,
    bound: Vec<Rule>,
    private: Vec<Range>,
    said: String,
    /// What may be used.
    pub limits: EgressLimits,
}

/// Why something is not let out: a sentence that is also read inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// For what was asked for, in words of the asker, with a fragment that fits after "not allowed: ".
    pub fn new(asked: &dyn fmt::Display, why: impl fmt::Display) -> Self {
        Self(format!("Ash: egress to {asked} is not allowed: {why}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Policy {
    /// A policy of these settings. What can not be read allows nothing, and is returned for the log.
    pub fn new(settings: &Settings) -> (Self, Vec<String>) {
        let mut unread = Vec::new();
        let mut rules = |texts: &[String]| {
            let read = |text: &String| text.parse().map_err(|_| unread.push(text.clone())).ok();
            texts.iter().filter_map(read).collect()
        };
        let (allow, bound) = (rules(&settings.allow), rules(&settings.bound));
        let range = |text: &String| text.parse().map_err(|_| unread.push(text.clone())).ok();
        let private = settings.private.iter().filter_map(range).collect();
        let said = match settings.said.char_indices().nth(SAID_MAX) {
            Some((cut, _)) => format!("{}…", &settings.said[..cut]),
            None if settings.said.is_empty() => "nothing".to_owned(),
            None => settings.said.clone(),
        };
        // It is repeated in the status line of HTTP.
        let said = said.replace(|c: char| c.is_control(), " ");
        (Self { allow, bound, private, said, limits: settings.limits }, unread)
    }

    /// The same, but that it allows this target alone, or nothing.
    pub fn for_bound(&self, target: Option<&Target>) -> Self {
        let allow = target.map(Rule::of).into_iter().collect();
        let (bound, private) = (self.bound.clone(), self.private.clone());
        Self { allow, bound, private, said: "what credentials are bound to".to_owned(), limits: self.limits }
    }

    /// Whether the target may be reached, as far as its name or number tells.
    pub fn admit(&self, target: &Target) -> Result<(), Refusal> {
        if !self.allow.iter().any(|rule| rule.admits(target)) {
            let said = &self.said;
            return Err(Refusal(format!("Ash: egress to {target} is not allowed by this agent's policy (allowed: {said})")));
        }
        let one = Rule::of(target);
        if !self.bound.iter().any(|rule| rule.covers(&one)) {
            return Err(Refusal::new(target, "it is beyond what the operator of this host allows"));
        }
        match target.host {
            Host::Ip(address) => self.check(target, address).map_err(|why| Refusal::new(target, format!("it is {why}"))),
            Host::Name(_) => Ok(()),
        }
    }

    /// Whether all that a rule names may be reached, as far as names tell.
    pub fn admit_all(&self, all: &Rule) -> Result<(), Refusal> {
        let asked = match &all.names {
            Names::Any => "every host".to_owned(),
            _ => all.to_string(),
        };
        if !self.allow.iter().any(|rule| rule.covers(all)) {
            let said = &self.said;
            return Err(Refusal(format!("Ash: egress to {asked} is not allowed by this agent's policy (allowed: {said})")));
        }
        if !self.bound.iter().any(|rule| rule.covers(all)) {
            return Err(Refusal::new(&asked, "it is beyond what the operator of this host allows"));
        }
        Ok(())
    }

    /// Those of a name's addresses that may be reached.
    pub fn choose(&self, target: &Target, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, Refusal> {
        let mut refused = None;
        let check = |address: &&IpAddr| match self.check(target, **address) {
            Ok(()) => true,
            Err(why) => {
                refused.get_or_insert_with(|| format!("it leads to {address}, {why}"));
                false
            }
        };
        let chosen: Vec<_> = addresses.iter().filter(check).copied().collect();
        match refused {
            Some(why) if chosen.is_empty() => Err(Refusal::new(target, why)),
            _ => Ok(chosen),
        }
    }

    /// Whether an address may be reached; otherwise its kind, or more.
    fn check(&self, target: &Target, address: IpAddr) -> Result<(), String> {
        let Some(kind) = address::refusal(address) else { return Ok(()) };
        if !address::is_opened(&self.private, address, address::is_loopback(address)) {
            return Err(kind.to_owned());
        }
        if self.names(target) { Ok(()) } else { Err(format!("{kind}, for which \"*\" does not count")) }
    }

    /// Whether a target may lead to an address of the host itself.
    pub fn opens_own(&self, target: &Target, address: IpAddr) -> bool {
        address::is_opened(&self.private, address, true) && self.names(target)
    }

    /// Whether the target is named by more than `*`. Whoever opens addresses has services there in
    /// mind, and not every name that somebody makes lead to them.
    fn names(&self, target: &Target) -> bool {
        self.allow.iter().any(|rule| rule.is_named() && rule.admits(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], bound: &[&str], private: &[&str]) -> Policy {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let settings = Settings {
            allow: texts(allow),
            bound: texts(bound),
            said: allow.join(", "),
            private: texts(private),
            limits: EgressLimits::default(),
        };
        let (policy, unread) = Policy::new(&settings);
        assert!(unread.is_empty(), "{unread:?}");
        policy
    }

    fn admit(policy: &Policy, target: &str) -> Result<(), String> {
        let target = Target::parse(target, None).expect(target);
        policy.admit(&target).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn both_lists_have_to_name_a_target() {
        let some = policy(&["*.example.com", "pypi.org", "8.8.8.8", "10.0.0.1"], &["*.example.com", "*"], &[]);
        assert_eq!(admit(&some, "a.example.com:443"), Ok(()));
        assert_eq!(admit(&some, "8.8.8.8:443"), Ok(()));
        assert_eq!(
            admit(&some, "example.com:443"),
            Err("Ash: egress to example.com:443 is not allowed by this agent's policy (allowed: *.example.com, pypi.org, \
                 8.8.8.8, 10.0.0.1)"
                .to_owned())
        );
        assert_eq!(
            admit(&some, "10.0.0.1:443"),
            Err("Ash: egress to 10.0.0.1:443 is not allowed: it is a private address".to_owned())
        );
        let narrow = policy(&["*:*"], &["pypi.org"], &[]);
        assert_eq!(admit(&narrow, "pypi.org:443"), Ok(()));
        assert_eq!(
            admit(&narrow, "pypi.org:22"),
            Err("Ash: egress to pypi.org:22 is not allowed: it is beyond what the operator of this host allows".to_owned())
        );
        let nothing = Policy::new(&Settings::default()).0;
        let said = admit(&nothing, "pypi.org:443").expect_err("nothing");
        assert!(said.ends_with("(allowed: nothing)"), "{said}");
    }

    #[test]
    fn a_rule_that_can_not_be_read_allows_nothing() {
        let settings = Settings { allow: vec!["*".to_owned()], bound: vec!["everything!".to_owned()], ..Settings::default() };
        let (policy, unread) = Policy::new(&settings);
        assert_eq!(unread, ["everything!"]);
        assert!(admit(&policy, "pypi.org:443").is_err());
    }

    #[test]
    fn only_checked_addresses_are_chosen() {
        let some = policy(&["example.com"], &["*"], &["10.1.0.0/16", "169.254.0.0/16", "127.0.0.1/32"]);
        let target = Target::parse("example.com:443", None).expect("a target");
        let choose = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|text| text.parse::<IpAddr>().expect(text)).collect();
            let chosen = some.choose(&target, &addresses).map_err(|refusal| refusal.to_string());
            chosen.map(|chosen| chosen.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            choose(&["1.1.1.1", "10.0.0.1", "2606:4700::1111", "::1"]),
            Ok(vec!["1.1.1.1".into(), "2606:4700::1111".into()])
        );
        assert_eq!(choose(&["10.1.2.3", "127.0.0.1"]), Ok(vec!["10.1.2.3".into(), "127.0.0.1".into()]));
        assert_eq!(choose(&[]), Ok(Vec::new()));
        assert_eq!(
            choose(&["127.0.0.2", "10.0.0.1"]),
            Err("Ash: egress to example.com:443 is not allowed: it leads to 127.0.0.2, a loopback address".to_owned())
        );
        assert!(choose(&["169.254.169.254"]).is_err_and(|said| said.contains("cloud metadata")), "whatever is opened");
        assert!(choose(&["::ffff:127.0.0.1"]).is_err(), "mapped, so not the opened address");
    }

    #[test]
    fn what_is_opened_has_to_be_named_and_the_hosts_own_by_its_address() {
        let leads = |policy: &Policy, name: &str, address: &str| {
            let target = Target::parse(name, Some(443)).expect(name);
            policy.choose(&target, &[address.parse().expect(address)]).map(drop).map_err(|refusal| refusal.to_string())
        };
        let open =
            policy(&["*", "db.example", "*.inner.example"], &["*:*"], &["10.1.0.0/16", "fd00:1::/64", "::/0", "0.0.0.0/0"]);
        for (name, address) in [("db.example", "10.1.2.3"), ("a.inner.example", "fd00:1::1"), ("evil.example", "1.1.1.1")] {
            assert_eq!(leads(&open, name, address), Ok(()), "{name} {address}");
        }
        assert_eq!(
            leads(&open, "evil.example", "10.1.2.3").expect_err("not named"),
            "Ash: egress to evil.example:443 is not allowed: it leads to 10.1.2.3, a private address, for which \"*\" does not count"
        );
        for address in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
            assert!(leads(&open, "db.example", address).is_err(), "{address}: by no range");
        }
        let own = policy(&["*", "db.example"], &["*:*"], &["127.0.0.2/32", "10.1.2.3/32", "10.1.0.0/16"]);
        assert_eq!(leads(&own, "db.example", "127.0.0.2"), Ok(()));
        assert!(leads(&own, "evil.example", "127.0.0.2").is_err_and(|said| said.contains("does not count")));
        let opens_own = |name: &str, address: &str| {
            own.opens_own(&Target::parse(name, Some(443)).expect(name), address.parse().expect(address))
        };
        assert!(opens_own("db.example", "10.1.2.3") && !opens_own("evil.example", "10.1.2.3"));
        assert!(!opens_own("db.example", "10.1.2.4"), "a range opens no address of the host");
    }

    #[test]
    fn a_long_list_is_cut_in_what_is_said() {
        let entries: Vec<_> = (0..100).map(|n| format!("host-{n}.example.com")).collect();
        let entries: Vec<_> = entries.iter().map(String::as_str).collect();
        let said = admit(&policy(&entries, &["*"], &[]), "pypi.org:443").expect_err("not listed");
        assert!(said.len() < 600 && said.ends_with("…)"), "{said}");
    }
}
