//! What the model API is asked to fetch for somebody inside: egress by another's hands.
//!
//! The other end connects by itself, so what can be decided is the name alone: nothing is looked up, and
//! where the model API is led to from there is its own matter.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::{Policy, Refusal};
use crate::wire::egress::{Host, Names, Ports, Rule, Target, Verdict, WEB};

/// Hosts that one request may name. A long conversation has some.
const HOSTS_MAX: usize = 256;
/// Characters of an address that can not be read which are repeated.
const SAID_MAX: usize = 80;

/// An attempt to reach something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What became of it.
    pub verdict: Verdict,
    /// What was asked for: a host in its normal form, or text that is none.
    pub host: String,
    /// Its port.
    pub port: Option<u16>,
    /// Why it was denied.
    pub reason: Option<String>,
}

/// What one request names.
#[derive(Debug, Default)]
pub struct Fetches {
    /// By their text.
    targets: BTreeMap<String, Target>,
    /// Hosts all of whose pages may be read, and those of all names below them.
    sites: BTreeSet<String>,
    /// Whether any page of the network may be read.
    anywhere: bool,
    /// The first that can not be read, and why.
    unread: Option<(String, String)>,
}

impl Fetches {
    /// Adds what is at an address.
    pub fn address(&mut self, url: &str) {
        match Target::of_url(url) {
            Ok(target) => {
                let text = target.to_string();
                if self.targets.contains_key(&text) || self.has_room() {
                    self.targets.insert(text, target);
                }
            }
            Err(why) => self.unread(url, &why),
        }
    }

    /// Adds all pages of a site, as `allowed_domains` of the tool `web_fetch` names it: a host, with all that are
    /// below it, and maybe a path.
    pub fn site(&mut self, domain: &str) {
        let host = domain.split('/').next().unwrap_or_default();
        match Host::parse(host) {
            Ok(host) => {
                let text = host.to_string();
                if self.sites.contains(&text) || self.has_room() {
                    self.sites.insert(text);
                }
            }
            Err(why) => self.unread(domain, &why.to_string()),
        }
    }

    /// Adds every page.
    pub const fn anywhere(&mut self) {
        self.anywhere = true;
    }

    /// Adds what can not be read, so that it is allowed by nothing.
    pub fn unread(&mut self, text: &str, why: &str) {
        self.unread.get_or_insert_with(|| (text.chars().take(SAID_MAX).collect(), why.to_owned()));
    }

    /// Whether nothing is to be fetched.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.sites.is_empty() && !self.anywhere && self.unread.is_none()
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.targets.len() + self.sites.len() < HOSTS_MAX;
        if !has_room {
            self.unread("more", &format!("one request names at most {HOSTS_MAX} hosts"));
        }
        has_room
    }

    /// What is let out, or the first that is not.
    ///
    /// # Errors
    ///
    /// That one, and why.
    pub fn judge(&self, policy: &Policy) -> Result<Vec<Note>, (Note, Refusal)> {
        if let Some((text, why)) = &self.unread {
            let host = text.escape_debug().to_string();
            let refusal = Refusal::new(&host, why);
            return Err((note(Verdict::Denied, host, None, Some(&refusal)), refusal));
        }
        let targets = self.targets.values().map(|target| (target.host.to_string(), target.port, policy.admit(target)));
        let sites = self.sites.iter().map(|site| (site.clone(), WEB[0], admit_site(policy, site)));
        let anywhere = self.anywhere.then(|| {
            let all = Rule { names: Names::Any, ports: Ports::Web };
            ("*".to_owned(), WEB[0], policy.admit_all(&all))
        });
        let mut notes = Vec::new();
        for (host, port, admitted) in targets.chain(sites).chain(anywhere) {
            match admitted {
                Ok(()) => notes.push(note(Verdict::Allowed, host, Some(port), None)),
                Err(refusal) => return Err((note(Verdict::Denied, host, Some(port), Some(&refusal)), refusal)),
            }
        }
        Ok(notes)
    }
}

/// Whether a host, as it was read, and all names below it may be reached.
fn admit_site(policy: &Policy, site: &str) -> Result<(), Refusal> {
    let host = Host::parse(site).map_err(|why| Refusal::new(&site, why))?;
    WEB.iter().try_for_each(|port| policy.admit(&Target { host: host.clone(), port: *port }))?;
    match host {
        Host::Name(name) => policy.admit_all(&Rule { names: Names::Below(name), ports: Ports::Web }),
        Host::Ip(_) => Ok(()),
    }
}

fn note(verdict: Verdict, host: String, port: Option<u16>, refusal: Option<&Refusal>) -> Note {
    Note { verdict, host, port, reason: refusal.map(ToString::to_string) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::shim::{Egress as Settings, EgressLimits};

    fn policy(allow: &[&str], bound: &[&str]) -> Policy {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let limits = EgressLimits::default();
        let (allow, bound, said) = (texts(allow), texts(bound), allow.join(", "));
        Policy::new(&Settings { allow, bound, said, private: Vec::new(), limits }).0
    }

    fn refusal(fetches: &Fetches, policy: &Policy) -> Option<String> {
        fetches.judge(policy).err().map(|(note, refusal)| {
            assert_eq!((note.verdict, note.reason.as_deref()), (Verdict::Denied, Some(refusal.to_string().as_str())));
            refusal.to_string()
        })
    }

    #[test]
    fn all_that_is_named_has_to_be_allowed() {
        let some = policy(&["a.example", "site.example", "*.site.example"], &["*:*"]);
        let mut fetches = Fetches::default();
        fetches.address("https://a.example/1");
        fetches.address("http://a.example/2");
        fetches.site("Site.example/blog");
        let notes = fetches.judge(&some).expect("allowed");
        let told: Vec<_> = notes.iter().map(|note| (note.host.as_str(), note.port)).collect();
        assert_eq!(told, [("a.example", Some(443)), ("a.example", Some(80)), ("site.example", Some(443))]);
        fetches.address("https://b.example/");
        assert!(refusal(&fetches, &some).is_some_and(|said| said.starts_with("Ash: egress to b.example:443 is not allowed")));
        let nothing = policy(&[], &["*:*"]);
        let mut one = Fetches::default();
        one.address("https://a.example/");
        assert!(refusal(&one, &nothing).is_some());
        assert!(refusal(&one, &policy(&["*"], &["b.example"])).is_some(), "the operator's list counts, too");
        assert_eq!(refusal(&Fetches::default(), &nothing), None);
        one.address("https://a.example@b.example/");
        assert!(refusal(&one, &policy(&["*"], &["*:*"])).is_some(), "what can not be read is allowed by nothing");
    }

    #[test]
    fn a_site_has_all_names_below_it() {
        let mut site = Fetches::default();
        site.site("a.example");
        assert!(refusal(&site, &policy(&["a.example"], &["*:*"])).is_some_and(|said| said.contains("*.a.example")));
        assert!(refusal(&site, &policy(&["*.a.example"], &["*:*"])).is_some(), "nor without itself");
        assert!(refusal(&site, &policy(&["a.example:443", "*.a.example:443"], &["*:*"])).is_some(), "at both ports");
        assert_eq!(refusal(&site, &policy(&["*.example"], &["*:*"])), None);
        assert!(refusal(&site, &policy(&["*.example"], &["a.example"])).is_some());
        let mut anywhere = Fetches::default();
        anywhere.anywhere();
        assert!(refusal(&anywhere, &policy(&["*.example"], &["*:*"])).is_some());
        assert!(refusal(&anywhere, &policy(&["*"], &["*.example"])).is_some());
        assert_eq!(refusal(&anywhere, &policy(&["*"], &["*:*"])), None);
        for bad in ["*.a.example", "https://a.example", "a.example:443", ""] {
            let mut site = Fetches::default();
            site.site(bad);
            assert!(refusal(&site, &policy(&["*:*"], &["*:*"])).is_some(), "{bad}");
        }
    }

    #[test]
    fn hosts_of_one_request_are_bounded() {
        let mut fetches = Fetches::default();
        for n in 0..10 * HOSTS_MAX {
            fetches.address(&format!("https://{n}.example/"));
            fetches.site(&format!("{n}.example"));
        }
        assert!(fetches.targets.len() + fetches.sites.len() <= HOSTS_MAX);
        assert!(refusal(&fetches, &policy(&["*"], &["*:*"])).is_some_and(|said| said.contains("at most 256 hosts")));
    }
}
