//! Suggestions for a forwarder name that does not exist. Pure.

/// Maximum number of names that are listed if none is similar.
const MAX_LISTED: usize = 5;

/// Returns what to try next. `here` are the names in the namespace, and `elsewhere` the other
/// namespaces that contain the name.
pub fn hint(name: &str, here: &[String], elsewhere: &[String]) -> String {
    let similar: Vec<_> = here
        .iter()
        .filter(|other| is_similar(name, other))
        .map(String::as_str)
        .collect();
    if let [namespace, others @ ..] = elsewhere {
        let also = match others.len() {
            0 => String::new(),
            count => format!(" and in {count} more"),
        };
        return format!("It exists in namespace {namespace}{also}: use --namespace {namespace}");
    }
    if !similar.is_empty() {
        return format!("Did you mean {}?", similar.join(" or "));
    }
    match here.split_at_checked(MAX_LISTED) {
        _ if here.is_empty() => {
            "List all with `kubectl get eventforwarders --all-namespaces`".to_owned()
        }
        Some((listed, [_, ..])) => format!(
            "The namespace contains {} and {} more: see `kubectl forwarder status`",
            listed.join(", "),
            here.len() - MAX_LISTED
        ),
        _ => format!("The namespace contains {}", here.join(", ")),
    }
}

/// Returns whether `name` is `other` with a typo, or a part of it.
fn is_similar(name: &str, other: &str) -> bool {
    let typos = strsim::damerau_levenshtein(name, other);
    typos <= (name.len() / 4).max(1) || (name.len() >= 3 && other.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_suggests_names_and_namespaces() {
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let many = names(&["a1", "b2", "c3", "d4", "e5", "f6", "g7"]);
        for (name, here, elsewhere, expected) in [
            (
                "mpartcle",
                names(&["mparticle", "web"]),
                names(&[]),
                "Did you mean mparticle?",
            ),
            (
                "ios",
                names(&["mparticle-ios"]),
                names(&[]),
                "Did you mean mparticle-ios?",
            ),
            ("x", names(&["mparticle"]), names(&[]), "contains mparticle"),
            ("x", many, names(&[]), "and 2 more"),
            ("x", names(&[]), names(&[]), "--all-namespaces"),
            (
                "mparticle",
                names(&["mpartcle"]),
                names(&["analytics"]),
                "--namespace analytics",
            ),
            (
                "mparticle",
                names(&[]),
                names(&["a", "b", "c"]),
                "in 2 more",
            ),
        ] {
            let hint = hint(name, &here, &elsewhere);
            assert!(hint.contains(expected), "{hint}");
        }
    }
}
