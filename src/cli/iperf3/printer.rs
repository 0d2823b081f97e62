//! Where output goes, and what is put before each line.
//!
//! A server that serves many tests has a page for each, and turns to it before it says something of that test.

use super::options::{Form, Options};
use crate::iperf3::{
    output::{
        json::{self, Extras},
        pretty::pretty,
        text::{self, Style},
        view::{EndView, IntervalView, Side, StartView},
    },
    wire::json::Json,
};
use std::io::Write;

/// Prints a test in the wanted form.
pub(super) struct Printer<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    form: Form,
    full_output: bool,
    style: Style,
    title: Option<String>,
    timestamps: Option<String>,
    side: Side,
    /// Errors go to the log file too.
    to_file: bool,
    flush: bool,
    page: Page,
}

/// What was said of one test so far.
#[derive(Debug, Default)]
pub(super) struct Page {
    start: Option<StartView>,
    intervals: Vec<Json>,
    printed_interval: bool,
    end: Option<Json>,
    error: Option<String>,
    /// What the client's user wants in the document.
    pub(super) extras: Extras,
    /// Whose test it is, where that must be told because others run beside it.
    pub(super) whose: Option<String>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(options: &Options, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self {
            out,
            err,
            form: options.form,
            full_output: options.full_output,
            style: style(options),
            title: options.title.clone(),
            timestamps: options.timestamps.clone(),
            side: options.side,
            to_file: options.logfile.is_some(),
            flush: options.forceflush || options.logfile.is_some(),
            page: Page::default(),
        }
    }

    /// The page that is open.
    pub(super) const fn page(&mut self) -> &mut Page {
        &mut self.page
    }

    /// Opens a page, for the one that was open.
    pub(super) const fn turn_to(&mut self, page: Page) -> Page {
        std::mem::replace(&mut self.page, page)
    }

    pub(super) const fn form(&self) -> Form {
        self.form
    }

    pub(super) const fn has_started(&self) -> bool {
        self.page.start.is_some()
    }

    fn prefix(&self) -> String {
        let mut prefix = self.timestamps.as_deref().map(stamp).unwrap_or_default();
        if let Some(title) = self.title.as_ref().filter(|_| self.side == Side::Client) {
            prefix += title;
            prefix += ":  ";
        }
        if let Some(whose) = &self.page.whose {
            prefix += whose;
            prefix += ": ";
        }
        prefix
    }

    /// Prints lines for people; nothing in the other forms. A broken pipe ends the program with its signal's peace:
    /// what can't be printed is lost, the test goes on.
    pub(super) fn lines(&mut self, lines: &[String]) {
        if self.form != Form::Text {
            return;
        }
        let prefix = self.prefix();
        for line in lines {
            let _ = writeln!(self.out, "{prefix}{line}");
        }
        let _ = self.out.flush();
    }

    fn raw(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
        if self.flush || self.form == Form::JsonStream {
            let _ = self.out.flush();
        }
    }

    fn event(&mut self, name: &str, data: Json) {
        if self.form == Form::JsonStream {
            let line = json::event(name, data, self.page.whose.as_deref());
            self.raw(&line);
        }
    }

    pub(super) fn start(&mut self, start: &StartView) {
        self.lines(&text::start(start, self.style));
        self.event("start", json::start(start));
        self.page.start = Some(start.clone());
    }

    pub(super) fn interval(&mut self, view: &IntervalView) {
        let Some(start) = self.page.start.clone() else {
            return;
        };
        self.lines(&text::interval(
            &start,
            view,
            !self.page.printed_interval,
            self.style,
        ));
        self.page.printed_interval = true;
        match self.form {
            Form::Text => {}
            Form::Json => self.page.intervals.push(json::interval(&start, view)),
            Form::JsonStream => {
                let interval = json::interval(&start, view);
                if self.full_output {
                    self.page.intervals.push(interval.clone());
                }
                self.event("interval", interval);
            }
        }
    }

    pub(super) fn end(&mut self, end: &EndView) {
        let Some(start) = self.page.start.clone() else {
            return;
        };
        self.lines(&text::summary(&start, end, self.style));
        self.page.end = Some(json::end(&start, end));
    }

    /// An error of the test: to stderr or the log file, or into the document. `text` is what follows `iperf3: `.
    pub(super) fn error(&mut self, text: &str) {
        if self.form == Form::Text {
            self.aside(text);
            return;
        }
        self.page.error = Some(text.strip_prefix("error - ").unwrap_or(text).to_owned());
    }

    /// What is of no test: to stderr or the log file in every form. `text` is what follows `iperf3: `.
    pub(super) fn aside(&mut self, text: &str) {
        let stamp = self.timestamps.as_deref().map(stamp).unwrap_or_default();
        let whose = self.page.whose.as_ref().map(|whose| format!("{whose}: "));
        let line = format!("{stamp}{}iperf3: {text}", whose.unwrap_or_default());
        // A log file of JSON has nothing else in it.
        let _ = if self.to_file && self.form == Form::Text {
            writeln!(self.out, "{line}")
        } else {
            writeln!(self.err, "{line}")
        };
    }

    /// Ends a test: the document, or the last events. Ready for the next test then.
    pub(super) fn finish(&mut self) {
        let extras = Extras {
            error: self.page.error.take(),
            ..std::mem::take(&mut self.page.extras)
        };
        let end = self.page.end.take();
        let intervals = std::mem::take(&mut self.page.intervals);
        let start = self.page.start.take();
        self.page.printed_interval = false;
        if self.form == Form::JsonStream {
            if let Some(error) = &extras.error {
                self.event("error", Json::String(error.clone()));
            }
            if let Some(output) = &extras.server_output_json {
                self.event("server_output_json", output.clone());
            }
            if let Some(output) = &extras.server_output_text {
                self.event("server_output_text", Json::String(output.clone()));
            }
            self.event("end", end.clone().unwrap_or_else(|| Json::Object(Vec::new())));
        }
        if self.form == Form::Json || self.form == Form::JsonStream && self.full_output {
            let start = match &start {
                Some(start) => json::start(start),
                None => json::early_start(&super::story::system_info()),
            };
            self.raw(&pretty(&json::document(start, intervals, end, &extras)));
        }
        let _ = self.out.flush();
    }
}

pub(super) fn style(options: &Options) -> Style {
    Style {
        unit: options.unit,
        verbose: options.verbose,
    }
}

/// The time now by a strftime format.
fn stamp(format: &str) -> String {
    // %c is the C locale's: `Mon Nov 23 19:50:59 2026`.
    let format = format.replace("%c", "%a %b %e %H:%M:%S %Y");
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(&format, &now).unwrap_or(format)
}
