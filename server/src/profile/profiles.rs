//! All profiles by name: the built-in ones, and over them a user's own, each put on top of what it extends.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

use super::{
    Profile, builtin,
    file::{self, Draft},
};
use crate::config::{ConfigError, Problem, unknown};

/// The profile of providers that have none of their own.
pub const GENERIC: &str = "generic";

/// Profiles by the providers' names.
#[derive(Clone, Debug, PartialEq)]
pub struct Profiles {
    by_name: BTreeMap<String, Arc<Profile>>,
    generic: Arc<Profile>,
}

/// Where a profile stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Own,
    BuiltIn,
}

/// All drafts, and the names on the way to the one that is being resolved.
struct Drafts {
    own: BTreeMap<String, Draft>,
    built_in: BTreeMap<String, Draft>,
}

impl Profiles {
    /// Those that are part of the binary.
    #[must_use]
    pub fn built_in() -> Arc<Self> {
        static BUILT_IN: LazyLock<Arc<Profiles>> = LazyLock::new(|| {
            Arc::new(
                Profiles::resolve(BTreeMap::new()).expect("the built-in profiles are right, as a test says"),
            )
        });
        Arc::clone(&BUILT_IN)
    }

    /// The built-in ones, and over them those in files.
    ///
    /// # Errors
    /// Everything that is wrong with the files, each with its place.
    pub fn load<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Arc<Self>, ConfigError> {
        let mut texts = Vec::new();
        let mut problems = Vec::new();
        for path in paths {
            let place = path.display().to_string();
            match fs::read_to_string(path) {
                Ok(text) => texts.push((place, text)),
                Err(error) => problems.push(problem(place, "", format!("can't be read: {error}"))),
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        if texts.is_empty() {
            return Ok(Self::built_in());
        }
        Self::read(texts.iter().map(|(place, text)| (place.as_str(), text.as_str()))).map(Arc::new)
    }

    /// As [`Profiles::load`], from texts that stand in the files called so.
    ///
    /// # Errors
    /// As there.
    pub fn read<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ConfigError> {
        let mut own = BTreeMap::new();
        let mut problems = Vec::new();
        for (place, text) in texts {
            match file::read(text, place) {
                Ok(draft) => {
                    let name = draft.profile.name.clone();
                    if let Some(twin) = own.insert(name.clone(), draft) {
                        let message = format!("{name} is also the name of the profile in {}", twin.place);
                        problems.push(problem(place.to_owned(), "name", message));
                    }
                }
                Err(error) => problems.extend(error.problems),
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        Self::resolve(own)
    }

    /// The profile of a provider; the generic one for those that have none.
    #[must_use]
    pub fn of(&self, provider: &str) -> &Arc<Profile> {
        self.by_name.get(provider).unwrap_or(&self.generic)
    }

    /// The profile of that name, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.by_name.get(name)
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.by_name.values()
    }

    fn resolve(own: BTreeMap<String, Draft>) -> Result<Self, ConfigError> {
        let mut built_in = BTreeMap::new();
        for (name, text) in builtin::FILES {
            built_in.insert(name.to_owned(), file::read(text, &format!("{name}.toml"))?);
        }
        let drafts = Drafts { own, built_in };
        let mut by_name = BTreeMap::new();
        for name in drafts.built_in.keys().chain(drafts.own.keys()) {
            by_name
                .insert(name.clone(), Arc::new(drafts.resolved(name, drafts.layer(name), &mut Vec::new())?));
        }
        let generic = Arc::clone(&by_name[GENERIC]);
        Ok(Self { by_name, generic })
    }
}

impl Drafts {
    /// A user's own profile hides the built-in one of its name.
    fn layer(&self, name: &str) -> Layer {
        if self.own.contains_key(name) { Layer::Own } else { Layer::BuiltIn }
    }

    fn get(&self, name: &str, layer: Layer) -> Option<&Draft> {
        match layer {
            Layer::Own => self.own.get(name),
            Layer::BuiltIn => self.built_in.get(name),
        }
    }

    /// A profile on top of what it extends. `way` are those that extend it.
    fn resolved(
        &self,
        name: &str,
        layer: Layer,
        way: &mut Vec<(String, Layer)>,
    ) -> Result<Profile, ConfigError> {
        let draft = self.get(name, layer).expect("asked for by a name that is there");
        let wrong = |message: String| ConfigError {
            problems: vec![problem(draft.extends_place.clone(), "extends", message)],
        };
        way.push((name.to_owned(), layer));
        let Some(base) = &draft.extends else { return Ok(draft.clone().over(None)) };
        // Extending one's own name means the built-in profile.
        let base_layer = if base == name && layer == Layer::Own { Layer::BuiltIn } else { self.layer(base) };
        if way.contains(&(base.clone(), base_layer)) {
            let circle: Vec<&str> = way.iter().map(|(name, _)| name.as_str()).collect();
            return Err(wrong(format!("a circle: {} -> {base}", circle.join(" -> "))));
        }
        if self.get(base, base_layer).is_none() {
            let known: Vec<&str> = self.built_in.keys().chain(self.own.keys()).map(String::as_str).collect();
            return Err(wrong(unknown("profile", base, &known)));
        }
        let base = self.resolved(base, base_layer, way)?;
        Ok(draft.clone().over(Some(base)))
    }
}

impl Draft {
    /// Puts the draft on top of `base`: what it says itself comes first.
    fn over(self, base: Option<Profile>) -> Profile {
        let Draft { mut profile, each_model, .. } = self;
        let base = base.unwrap_or_default();
        profile.each_model = each_model.unwrap_or(base.each_model);
        profile.permit_ttl = profile.permit_ttl.or(base.permit_ttl);
        let limits = base
            .limits
            .into_iter()
            .filter(|limit| !profile.limits.iter().any(|own| own.same_identity(limit)));
        profile.limits = profile.limits.iter().cloned().chain(limits).collect();
        profile.counting.extend(base.counting);
        for (name, tier) in base.tiers {
            profile.tiers.entry(name).or_insert(tier);
        }
        profile.units.extend(base.units);
        profile.windows.extend(base.windows);
        profile.pools.extend(base.pools);
        // Headers that the profile reads itself mean what it says, under all conditions.
        let own: Vec<String> = profile.headers.iter().map(|rule| rule.names.clone()).collect();
        profile.headers.extend(base.headers.into_iter().filter(|rule| !own.contains(&rule.names)));
        profile.bodies.extend(base.bodies);
        profile.refusals.extend(base.refusals);
        profile.dimensions.extend(base.dimensions);
        profile.wait_after.extend(base.wait_after);
        profile
    }
}

fn problem(place: String, path: &str, message: String) -> Problem {
    Problem { place, path: path.to_owned(), message }
}
