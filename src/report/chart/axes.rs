//! Axes that all charts share: ticks with their figures, lines to read by, and what the figures are.

use super::{
    canvas::{Anchor, Drawing, Ink},
    scale::{Scale, tick},
    text,
};

/// The place inside a drawing where figures are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Drawing {
    /// The axis along the bottom, with about `count` ticks; `lines` go up from them. A tick's figure that would run into
    /// the one before is left out.
    pub(super) fn bottom_axis(&mut self, x: &Scale, plot: Plot, count: usize, lines: bool, title: &str) {
        let size = self.text;
        let mut taken = f64::NEG_INFINITY;
        for value in x.ticks(count) {
            let at = x.at(value);
            if lines {
                self.line(vec![(at, plot.top), (at, plot.bottom)], 1.0, Ink::Grid);
            }
            let figure = tick(value);
            let half = text::width(&figure, size * 0.85) / 2.0;
            if at - half > taken {
                self.bottom_tick(at, plot, &figure);
                taken = at + half + size * 0.4;
            }
        }
        self.text(
            f64::midpoint(plot.left, plot.right),
            plot.bottom + size * 2.5,
            title,
            size * 0.85,
            Ink::Muted,
            Anchor::Middle,
        );
    }

    /// A tick's text below the plot.
    pub(super) fn bottom_tick(&mut self, at: f64, plot: Plot, text: &str) {
        let size = self.text;
        self.text(
            at,
            plot.bottom + size * 1.2,
            text,
            size * 0.85,
            Ink::Muted,
            Anchor::Middle,
        );
    }

    /// A row's name, in at most two lines that end at `right` and are centred on `middle`.
    pub(super) fn row_name(&mut self, name: &str, room: f64, right: f64, middle: f64) {
        let size = self.text;
        let lines = text::wrap_to(name, size, room, 2);
        let first = middle + size * 0.35 - (lines.len() as f64 - 1.0) * size * 0.6;
        for (number, line) in lines.iter().enumerate() {
            let y = first + number as f64 * size * 1.2;
            self.text(right, y, line, size, Ink::Text, Anchor::End);
        }
    }

    /// The axis along the left side, with about `count` ticks and lines across.
    pub(super) fn left_axis(&mut self, y: &Scale, plot: Plot, count: usize, title: &str) {
        let size = self.text;
        for value in y.ticks(count) {
            let at = y.at(value);
            self.line(vec![(plot.left, at), (plot.right, at)], 1.0, Ink::Grid);
            self.text(
                plot.left - size * 0.5,
                at + size * 0.3,
                &tick(value),
                size * 0.85,
                Ink::Muted,
                Anchor::End,
            );
        }
        self.upright(
            self.margin() + size * 0.6,
            f64::midpoint(plot.top, plot.bottom),
            title,
            size * 0.85,
            Anchor::Middle,
        );
    }
}
