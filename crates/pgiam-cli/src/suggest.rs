//! The known name that a misspelt one probably means.

/// Names are similar from this Jaro similarity on, as in clap.
const SIMILAR: f64 = 0.7;

/// The most similar of the known names, if one is similar at all.
pub(crate) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = known.into_iter().map(|known| (strsim::jaro(name, known), known));
    let best = rated.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 > SIMILAR).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognized_and_a_different_one_is_not() {
        let known = ["psql", "pg_dump", "pg_restore", "pgbench"];
        assert_eq!(closest("pqsl", known), Some("psql"));
        assert_eq!(closest("pgdump", known), Some("pg_dump"));
        assert_eq!(closest("pg_restor", known), Some("pg_restore"));
        assert_eq!(closest("node", known), None);
        assert_eq!(closest("make", known), None);
    }
}
