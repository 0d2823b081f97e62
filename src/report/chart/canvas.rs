//! A drawing: shapes in a page's coordinates, in inks that each writer turns into colours.

use super::text;

/// A size to draw for.
pub(super) struct Look {
    /// In units of the drawing; a PNG has twice as many pixels.
    pub(super) width: f64,
    /// The least height.
    pub(super) height: f64,
    /// The size of ordinary text.
    pub(super) text: f64,
    /// Whether the height is fixed.
    pub(super) fixed: bool,
}

impl Look {
    /// For a page.
    pub(super) const PAGE: Self = Self {
        width: 900.0,
        height: 460.0,
        text: 14.0,
        fixed: false,
    };
    /// For a slide: a PNG of 1920 by 1080.
    pub(super) const SLIDE: Self = Self {
        width: 960.0,
        height: 540.0,
        text: 18.0,
        fixed: true,
    };

    /// For a page on a phone, where text must not shrink with the page.
    pub(super) const PHONE: Self = Self {
        width: 400.0,
        height: 400.0,
        text: 13.0,
        fixed: false,
    };

    /// The height for `rows` rows of `each` and what else there is.
    pub(super) fn height_for(&self, rows: usize, each: f64, besides: f64) -> f64 {
        if self.fixed {
            self.height
        } else {
            (rows as f64 * each + besides).max(220.0)
        }
    }
}

/// What something is drawn in. The colours of series are those of Okabe and Ito, which people with any colour
/// vision can tell apart (<https://jfly.uni-koeln.de/color/>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ink {
    /// Text and what must be read.
    Text,
    /// What explains.
    Muted,
    /// Lines to read figures by.
    Grid,
    /// The ground.
    Paper,
    /// A figure from elsewhere.
    Reference,
    /// A path, by its place in the scenario.
    Series(usize),
    /// A step of the heat map's ramp, 0 to 1.
    Ramp(f64),
}

/// Okabe and Ito's, without yellow, which can't be seen on white.
const SERIES: [(u8, u8, u8); super::SERIES] = [
    (0x00, 0x72, 0xb2),
    (0xe6, 0x9f, 0x00),
    (0x00, 0x9e, 0x73),
    (0xd5, 0x5e, 0x00),
    (0xcc, 0x79, 0xa7),
    (0x56, 0xb4, 0xe9),
    (0x55, 0x55, 0x55),
    (0x99, 0x99, 0x99),
];

/// Five steps of cividis, which is even in lightness and made for colour-blind readers (Nuñez, Anderton, Renslow
/// 2018).
const RAMP: [(u8, u8, u8); 5] = [
    (0x00, 0x20, 0x4d),
    (0x41, 0x4d, 0x6b),
    (0x7c, 0x7b, 0x78),
    (0xbc, 0xaf, 0x6f),
    (0xff, 0xea, 0x46),
];

impl Ink {
    /// On a light ground.
    pub(super) fn rgb(self) -> (u8, u8, u8) {
        match self {
            Self::Text => (0x1a, 0x1a, 0x1a),
            Self::Muted => (0x5c, 0x5c, 0x5c),
            Self::Grid => (0xdd, 0xdd, 0xdd),
            Self::Paper => (0xff, 0xff, 0xff),
            Self::Reference => (0x00, 0x00, 0x00),
            Self::Series(index) => SERIES[index % SERIES.len()],
            Self::Ramp(at) => {
                let at = at.clamp(0.0, 1.0) * (RAMP.len() - 1) as f64;
                let low = (at.floor() as usize).min(RAMP.len() - 2);
                let part = at - low as f64;
                let (from, to) = (RAMP[low], RAMP[low + 1]);
                let mix = |from: u8, to: u8| {
                    (f64::from(from) + (f64::from(to) - f64::from(from)) * part).round() as u8
                };
                (mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
            }
        }
    }

    /// The class that a page's style sheet knows it by.
    pub(super) fn class(self) -> String {
        match self {
            Self::Text => "t".to_owned(),
            Self::Muted => "m".to_owned(),
            Self::Grid => "g".to_owned(),
            Self::Paper => "p".to_owned(),
            Self::Reference => "r".to_owned(),
            Self::Series(index) => format!("s{}", index % SERIES.len()),
            Self::Ramp(_) => "h".to_owned(),
        }
    }
}

/// Where a text's position is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    Rect {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
    },
    /// An open line.
    Line {
        points: Vec<(f64, f64)>,
        width: f64,
    },
    /// A filled polygon.
    Area {
        points: Vec<(f64, f64)>,
    },
    Dot {
        x: f64,
        y: f64,
        radius: f64,
    },
    /// On a baseline; upright means turned to run from the bottom up.
    Text {
        x: f64,
        y: f64,
        text: String,
        size: f64,
        anchor: Anchor,
        upright: bool,
    },
}

/// A shape in its ink.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) form: Form,
    pub(super) ink: Ink,
    pub(super) opacity: f64,
    /// What a reader is told who points at it.
    pub(super) tip: Option<String>,
}

/// A chart in one size.
#[derive(Debug, Clone)]
pub(in crate::report) struct Drawing {
    /// The question.
    pub(in crate::report) title: String,
    /// The answer in words, for who can't see it.
    pub(in crate::report) description: String,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) text: f64,
    pub(super) shapes: Vec<Shape>,
}

impl Drawing {
    /// An empty one with its title and what is shown below it; returns with it the height at which the rest starts.
    pub(super) fn new(look: &Look, height: f64, title: &str, shown: &str) -> (Self, f64) {
        let mut drawing = Self {
            title: title.to_owned(),
            description: String::new(),
            width: look.width,
            height,
            text: look.text,
            shapes: Vec::new(),
        };
        drawing.rect(0.0, 0.0, look.width, height, Ink::Paper);
        let (margin, mut y) = (drawing.margin(), drawing.margin() * 0.5);
        let big = look.text * 1.35;
        for line in text::wrap(title, big, look.width - 2.0 * margin) {
            y += big * 1.2;
            drawing.text(margin, y, &line, big, Ink::Text, Anchor::Start);
        }
        let small = look.text * 0.85;
        for line in text::wrap(shown, small, look.width - 2.0 * margin) {
            y += small * 1.35;
            drawing.text(margin, y, &line, small, Ink::Muted, Anchor::Start);
        }
        (drawing, y + small)
    }

    /// The blank around everything.
    pub(super) fn margin(&self) -> f64 {
        self.text * 1.2
    }

    fn push(&mut self, form: Form, ink: Ink) -> &mut Shape {
        self.shapes.push(Shape {
            form,
            ink,
            opacity: 1.0,
            tip: None,
        });
        let last = self.shapes.len() - 1;
        &mut self.shapes[last]
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, ink: Ink) -> &mut Shape {
        self.push(Form::Rect { x, y, width, height }, ink)
    }

    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, width: f64, ink: Ink) -> &mut Shape {
        self.push(Form::Line { points, width }, ink)
    }

    pub(super) fn area(&mut self, points: Vec<(f64, f64)>, ink: Ink) -> &mut Shape {
        self.push(Form::Area { points }, ink)
    }

    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, ink: Ink) -> &mut Shape {
        self.push(Form::Dot { x, y, radius }, ink)
    }

    pub(super) fn text(
        &mut self,
        x: f64,
        y: f64,
        text: &str,
        size: f64,
        ink: Ink,
        anchor: Anchor,
    ) -> &mut Shape {
        self.push(
            Form::Text {
                x,
                y,
                text: text.to_owned(),
                size,
                anchor,
                upright: false,
            },
            ink,
        )
    }

    /// Text that runs from the bottom up.
    pub(super) fn upright(&mut self, x: f64, y: f64, text: &str, size: f64, anchor: Anchor) {
        self.push(
            Form::Text {
                x,
                y,
                text: text.to_owned(),
                size,
                anchor,
                upright: true,
            },
            Ink::Muted,
        );
    }

    /// A mark that tells series apart without colour too.
    pub(super) fn mark(&mut self, series: usize, x: f64, y: f64, size: f64) -> &mut Shape {
        let ink = Ink::Series(series);
        let r = size;
        match series % 4 {
            0 => self.dot(x, y, r, ink),
            1 => self.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8, ink),
            2 => self.area(
                vec![
                    (x, y - r * 1.25),
                    (x + r * 1.15, y + r * 0.8),
                    (x - r * 1.15, y + r * 0.8),
                ],
                ink,
            ),
            _ => self.diamond(x, y, r * 1.3, ink),
        }
    }

    pub(super) fn diamond(&mut self, x: f64, y: f64, r: f64, ink: Ink) -> &mut Shape {
        self.area(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)], ink)
    }

    /// Names of series with their marks, in as many lines as they need from `y` down; returns the height below.
    pub(super) fn legend<'a>(&mut self, y: f64, names: impl Iterator<Item = (usize, &'a str)>) -> f64 {
        let (margin, size) = (self.margin(), self.text * 0.9);
        let (mut x, mut y) = (margin, y + size);
        for (series, name) in names {
            let name = text::shorten(name, size, self.width - 4.0 * margin);
            let width = size * 1.2 + text::width(&name, size) + size * 1.5;
            if x > margin && x + width > self.width - margin {
                x = margin;
                y += size * 1.5;
            }
            self.mark(series, x + size * 0.4, y - size * 0.35, size * 0.35);
            self.text(x + size * 1.1, y, &name, size, Ink::Text, Anchor::Start);
            x += width;
        }
        y + size * 0.8
    }
}

#[cfg(test)]
impl Drawing {
    /// Shapes that stick out of the drawing.
    pub(in crate::report) fn outside(&self) -> Vec<String> {
        let inside = |x: f64, y: f64| {
            x.is_finite()
                && y.is_finite()
                && x > -1.0
                && y > -1.0
                && x < self.width + 1.0
                && y < self.height + 1.0
        };
        let fits = |form: &Form| match form {
            Form::Rect { x, y, width, height } => {
                *width >= 0.0 && *height >= 0.0 && inside(*x, *y) && inside(x + width, y + height)
            }
            Form::Line { points, .. } | Form::Area { points } => points.iter().all(|(x, y)| inside(*x, *y)),
            Form::Dot { x, y, radius } => inside(x - radius, y - radius) && inside(x + radius, y + radius),
            Form::Text {
                x,
                y,
                text,
                size,
                anchor,
                upright,
            } => {
                let length = text::width(text, *size);
                let back = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => length / 2.0,
                    Anchor::End => length,
                };
                if *upright {
                    inside(x - size * 0.8, y + back - length) && inside(*x, y + back)
                } else {
                    inside(x - back, y - size * 0.8) && inside(x - back + length, *y)
                }
            }
        };
        self.shapes
            .iter()
            .filter(|shape| !fits(&shape.form))
            .map(|shape| format!("{:?}", shape.form))
            .collect()
    }
}

impl Shape {
    pub(super) fn opacity(&mut self, opacity: f64) -> &mut Self {
        self.opacity = opacity;
        self
    }

    pub(super) fn tip(&mut self, tip: impl Into<String>) -> &mut Self {
        self.tip = Some(tip.into());
        self
    }
}
