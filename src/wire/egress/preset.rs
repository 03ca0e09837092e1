//! Sets of hosts that have a name: where packages and sources come from.

use super::{Host, Names, Ports, Rule};

/// A set of hosts that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Python packages.
    Pypi,
    /// JavaScript packages.
    Npm,
    /// Rust crates.
    Crates,
    /// Packages of Debian.
    Debian,
    /// Sources on GitHub.
    Github,
}

/// Each preset with its name and its hosts. `docs/egress.md` has where these are documented.
const PRESETS: &[(Preset, &str, &[&str])] = &[
    (Preset::Pypi, "pypi", &["pypi.org", "files.pythonhosted.org"]),
    (Preset::Npm, "npm", &["registry.npmjs.org"]),
    (Preset::Crates, "crates", &["crates.io", "index.crates.io", "static.crates.io"]),
    (Preset::Debian, "debian", &["deb.debian.org", "security.debian.org"]),
    (
        Preset::Github,
        "github",
        &[
            "github.com",
            "api.github.com",
            "codeload.github.com",
            "objects.githubusercontent.com",
            "raw.githubusercontent.com",
            "release-assets.githubusercontent.com",
        ],
    ),
];

impl Preset {
    /// The preset of this name, in whichever spelling of a host: a host of the name would be told like the preset, and
    /// whoever reads that would take it for the preset.
    pub fn find(name: &str) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        PRESETS.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name)).map(|(preset, ..)| *preset)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        PRESETS.iter().map(|(preset, ..)| *preset)
    }

    fn row(self) -> (&'static str, &'static [&'static str]) {
        PRESETS.iter().find(|(preset, ..)| *preset == self).map_or(("", &[]), |(_, name, hosts)| (name, hosts))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Its hosts.
    pub fn hosts(self) -> &'static [&'static str] {
        self.row().1
    }

    /// Its hosts as rules.
    pub fn rules(self) -> Vec<Rule> {
        let rule = |host: &&str| Rule { names: Names::One(Host::Name((*host).to_owned())), ports: Ports::Web };
        self.hosts().iter().map(rule).collect()
    }
}
