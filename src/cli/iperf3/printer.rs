//! Where output goes, and what is put before each line.

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
    /// The test's parts so far.
    start: Option<StartView>,
    intervals: Vec<Json>,
    printed_interval: bool,
    end: Option<Json>,
    error: Option<String>,
    /// What the client's user wants in the document.
    pub(super) extras: Extras,
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
            start: None,
            intervals: Vec::new(),
            printed_interval: false,
            end: None,
            error: None,
            extras: Extras::default(),
        }
    }

    pub(super) const fn form(&self) -> Form {
        self.form
    }

    pub(super) const fn has_started(&self) -> bool {
        self.start.is_some()
    }

    fn prefix(&self) -> String {
        let mut prefix = self.timestamps.as_deref().map(stamp).unwrap_or_default();
        if let Some(title) = self.title.as_ref().filter(|_| self.side == Side::Client) {
            prefix += title;
            prefix += ":  ";
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
            self.raw(&json::event(name, data));
        }
    }

    pub(super) fn start(&mut self, start: &StartView) {
        self.lines(&text::start(start, self.style));
        self.event("start", json::start(start));
        self.start = Some(start.clone());
    }

    pub(super) fn interval(&mut self, view: &IntervalView) {
        let Some(start) = self.start.clone() else { return };
        self.lines(&text::interval(&start, view, !self.printed_interval, self.style));
        self.printed_interval = true;
        match self.form {
            Form::Text => {}
            Form::Json => self.intervals.push(json::interval(&start, view)),
            Form::JsonStream => {
                let interval = json::interval(&start, view);
                if self.full_output {
                    self.intervals.push(interval.clone());
                }
                self.event("interval", interval);
            }
        }
    }

    pub(super) fn end(&mut self, end: &EndView) {
        let Some(start) = self.start.clone() else { return };
        self.lines(&text::summary(&start, end, self.style));
        self.end = Some(json::end(&start, end));
    }

    /// An error of the test: to stderr or the log file, or into the document. `text` is what follows `iperf3: `.
    pub(super) fn error(&mut self, text: &str) {
        if self.form == Form::Text {
            let prefix = self.timestamps.as_deref().map(stamp).unwrap_or_default();
            let line = format!("{prefix}iperf3: {text}");
            let _ = if self.to_file {
                writeln!(self.out, "{line}")
            } else {
                writeln!(self.err, "{line}")
            };
            return;
        }
        self.error = Some(text.strip_prefix("error - ").unwrap_or(text).to_owned());
    }

    /// Ends a test: the document, or the last events. Ready for the next test then.
    pub(super) fn finish(&mut self) {
        let extras = Extras {
            error: self.error.take(),
            ..std::mem::take(&mut self.extras)
        };
        let end = self.end.take();
        let intervals = std::mem::take(&mut self.intervals);
        let start = self.start.take();
        self.printed_interval = false;
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
