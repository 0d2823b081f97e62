//! PNG by plotters' bitmap, with the embedded DejaVu Sans: drawn at four times the drawing's size without smoothing,
//! then averaged down to twice, which smooths all edges alike.

use super::{
    canvas::{Anchor, Drawing, Form},
    text,
};
use crate::report::ReportError;
use plotters::{
    backend::{BitMapBackend, DrawingBackend},
    style::{
        Color as _, FontStyle, FontTransform, IntoFont as _, RGBColor, ShapeStyle, TextStyle, register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};
use std::sync::OnceLock;

const FONT: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans.ttf");
const FONT_NAME: &str = "DejaVu Sans";
/// Pixels drawn for one unit.
const DRAWN: f64 = 4.0;
/// Of these, so many in each direction become one pixel; see [`average`].
const AVERAGED: usize = 2;
/// plotters' font size is from the font's ascent to its descent; ours is of its em square. DejaVu Sans: 1901 and 483
/// of 2048.
const EM: f64 = (1901.0 + 483.0) / 2048.0;

fn font() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| register_font(FONT_NAME, FontStyle::Normal, FONT).is_ok())
}

/// Draws and encodes; `name` is for errors.
pub(super) fn encode(drawing: &Drawing, name: &str) -> Result<Vec<u8>, ReportError> {
    let fail = |reason: String| ReportError::Draw {
        file: format!("{name}.png"),
        reason,
    };
    if !font() {
        return Err(fail("the embedded font can't be read".to_owned()));
    }
    // Whole pixels after averaging.
    let side = |length: f64| (length * DRAWN / AVERAGED as f64).round() as usize * AVERAGED;
    let (width, height) = (side(drawing.width), side(drawing.height));
    let mut pixels = vec![0xff; width * height * 3];
    {
        let mut bitmap = BitMapBackend::with_buffer(&mut pixels, (width as u32, height as u32));
        draw(&mut bitmap, drawing).map_err(fail)?;
        bitmap.present().map_err(|error| fail(error.to_string()))?;
    }
    let small = average(&pixels, width);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, (width / AVERAGED) as u32, (height / AVERAGED) as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // Flat colour with few edges: filters only get in the way of finding repetitions.
    encoder.set_compression(png::Compression::Default);
    encoder.set_filter(png::FilterType::NoFilter);
    encoder.set_adaptive_filter(png::AdaptiveFilterType::NonAdaptive);
    encoder
        .add_text_chunk("Title".to_owned(), drawing.title.clone())
        .or_else(|_| encoder.add_itxt_chunk("Title".to_owned(), drawing.title.clone()))
        .map_err(|error| fail(error.to_string()))?;
    let mut writer = encoder.write_header().map_err(|error| fail(error.to_string()))?;
    writer
        .write_image_data(&small)
        .map_err(|error| fail(error.to_string()))?;
    writer.finish().map_err(|error| fail(error.to_string()))?;
    Ok(bytes)
}

/// Averages each two by two pixels to one.
fn average(pixels: &[u8], width: usize) -> Vec<u8> {
    let mut small = Vec::with_capacity(pixels.len() / 4);
    for rows in pixels.chunks_exact(width * 3 * 2) {
        let (upper, lower) = rows.split_at(width * 3);
        for (above, below) in upper.chunks_exact(6).zip(lower.chunks_exact(6)) {
            // Most of a chart is ground: nothing to average.
            if let ([r, g, b, ..], true) = (above, above == below && above[..3] == above[3..]) {
                small.extend_from_slice(&[*r, *g, *b]);
            } else if let ([r, g, b, s, h, c], [t, i, d, u, j, e]) = (above, below) {
                let mean = |a: u8, b: u8, c: u8, d: u8| {
                    ((u16::from(a) + u16::from(b) + u16::from(c) + u16::from(d) + 2) / 4) as u8
                };
                small.extend_from_slice(&[mean(*r, *s, *t, *u), mean(*g, *h, *i, *j), mean(*b, *c, *d, *e)]);
            }
        }
    }
    small
}

fn draw<B: DrawingBackend>(bitmap: &mut B, drawing: &Drawing) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let px = |value: f64| (value * DRAWN).round() as i32;
    for shape in &drawing.shapes {
        let (r, g, b) = shape.ink.rgb();
        let colour = RGBColor(r, g, b).mix(shape.opacity);
        let filled = ShapeStyle::from(colour).filled();
        match &shape.form {
            Form::Rect { x, y, width, height } => {
                // The far edge is exclusive here and inclusive there.
                let far = (px(x + width) - 1, px(y + height) - 1);
                bitmap
                    .draw_rect((px(*x), px(*y)), far, &filled, true)
                    .map_err(|error| told(&error))?;
            }
            Form::Line { points, width } => {
                let style = filled.stroke_width((width * DRAWN).round() as u32);
                for pair in points.windows(2) {
                    let [from, to] = [pair[0], pair[1]].map(|(x, y)| (px(x), px(y)));
                    bitmap.draw_line(from, to, &style).map_err(|error| told(&error))?;
                }
                // Round joints; a see-through line would show them.
                if shape.opacity >= 1.0 && *width > 1.0 {
                    for (x, y) in points.iter().skip(1).take(points.len().saturating_sub(2)) {
                        bitmap
                            .draw_circle((px(*x), px(*y)), (width * DRAWN / 2.0) as u32, &filled, true)
                            .map_err(|error| told(&error))?;
                    }
                }
            }
            Form::Area { points } => {
                bitmap
                    .fill_polygon(points.iter().map(|(x, y)| (px(*x), px(*y))), &filled)
                    .map_err(|error| told(&error))?;
            }
            Form::Dot { x, y, radius } => {
                bitmap
                    .draw_circle((px(*x), px(*y)), (radius * DRAWN).round() as u32, &filled, true)
                    .map_err(|error| told(&error))?;
            }
            Form::Text {
                x,
                y,
                text: words,
                size,
                anchor,
                upright,
            } => {
                let tall = size * EM * DRAWN;
                let back = text::width(words, *size)
                    * match anchor {
                        Anchor::Start => 0.0,
                        Anchor::Middle => 0.5,
                        Anchor::End => 1.0,
                    };
                // plotters puts the baseline half the font's size below the top of a text.
                let rise = tall / 2.0;
                let (at, transform) = if *upright {
                    (
                        ((x * DRAWN - rise).round() as i32, px(y + back)),
                        FontTransform::Rotate270,
                    )
                } else {
                    (
                        (px(x - back), (y * DRAWN - rise).round() as i32),
                        FontTransform::None,
                    )
                };
                let style = TextStyle::from((FONT_NAME, tall).into_font().transform(transform))
                    .color(&colour)
                    .pos(Pos::new(HPos::Left, VPos::Top));
                bitmap
                    .draw_text(words, &style, at)
                    .map_err(|error| told(&error))?;
            }
        }
    }
    Ok(())
}
