//! Paths between clusters, leg by leg: what each device carried, the MTU that is left, the CPU time of tunnels in user
//! space.

use super::page::Page;
use crate::report::{digits::UNKNOWN, view::View};

/// Legs that are shown, in whole paths; the report has all.
const SHOWN: usize = 24;

pub(super) fn write(page: &mut Page, view: &View) {
    if view.legs.is_empty() {
        return;
    }
    page.heading("Between clusters, leg by leg");
    let mut table = page.table(&["path", "way", "leg", "device", "sent", "of payload", "MTU"]);
    // Names stand where they change.
    let mut told = ("", "");
    let mut shown = 0;
    for leg in &view.legs {
        if leg.path != told.0 && shown >= SHOWN {
            break;
        }
        shown += 1;
        let (path, way) = (leg.path.as_str(), leg.way.as_str());
        let is_same_path = path == told.0;
        table.add_row([
            if is_same_path { "" } else { path }.to_owned(),
            if is_same_path && way == told.1 { "" } else { way }.to_owned(),
            format!("{} → {}", leg.from, leg.to),
            leg.device.clone(),
            leg.sent.clone(),
            leg.share.clone(),
            leg.mtu.clone(),
        ]);
        told = (path, way);
    }
    page.finish(table, &[0, 1, 2, 3]);
    let more = view.legs.len() - shown;
    if more > 0 {
        page.note(&format!("and {more} more legs, in report.html"));
    }
    let mut in_user_space = false;
    for line in view.sources.iter().filter(|line| line.tunnel_cpu != UNKNOWN) {
        in_user_space = true;
        page.note(&format!(
            "CPU time of the tunnels in user space, {}: {}",
            line.path, line.tunnel_cpu
        ));
    }
    page.note(if in_user_space {
        "what the kernel's part of a hop costs can't be told: nodes of one machine share its cores"
    } else {
        "what a hop costs in CPU can't be told where the kernel does it: nodes of one machine share its cores"
    });
}
