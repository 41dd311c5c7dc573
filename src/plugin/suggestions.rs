//! What someone may have meant by a name that does not exist. Pure.

/// How many names of the namespace are listed when none is near.
const MAX_LISTED: usize = 5;

/// What to try, given the names in the namespace and the other namespaces that have the name.
pub fn hint(name: &str, here: &[String], elsewhere: &[String]) -> String {
    let near: Vec<_> = here
        .iter()
        .filter(|other| is_near(name, other))
        .map(String::as_str)
        .collect();
    if let [namespace, others @ ..] = elsewhere {
        let also = match others.len() {
            0 => String::new(),
            count => format!(" and in {count} more"),
        };
        return format!("It exists in namespace {namespace}{also}: use --namespace {namespace}");
    }
    if !near.is_empty() {
        return format!("Did you mean {}?", near.join(" or "));
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

/// Whether one is the other with a slip of the finger, or a part of it.
fn is_near(name: &str, other: &str) -> bool {
    let slips = strsim::damerau_levenshtein(name, other);
    slips <= (name.len() / 4).max(1) || (name.len() >= 3 && other.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_what_may_have_been_meant() {
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let many = names(&["a1", "b2", "c3", "d4", "e5", "f6", "g7"]);
        for (name, here, elsewhere, told) in [
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
            assert!(hint.contains(told), "{hint}");
        }
    }
}
