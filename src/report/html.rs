//! `report.html`: self-contained.

use super::{ReportError, chart::Drawing, view::View};

pub(super) fn write(view: &View, _charts: &[Drawing]) -> Result<String, ReportError> {
    let mut env = minijinja::Environment::new();
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::Html);
    let fail = |source| ReportError::Template {
        file: "report.html".to_owned(),
        source,
    };
    env.render_str(
        "<!doctype html><title>{{ title }}</title><h1>{{ title }}</h1>",
        minijinja::value::Serde(view),
    )
    .map_err(fail)
}
