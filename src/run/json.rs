//! A run's events as JSON, for programs: one object an event, `event` says which.

use serde_json::{Value, json as object};

use super::{Event, Outcome};

/// The object of an event.
pub fn json(event: &Event<'_>) -> Value {
    match event {
        Event::Devices { devices, warning } => {
            let warning = warning.map(|warning| object!({ "message": warning.message, "hint": warning.hint }));
            object!({ "event": "devices", "devices": devices.to_string(), "warning": warning })
        }
        Event::Warning(warning) => {
            object!({ "event": "warning", "message": warning.message, "hint": warning.hint })
        }
        Event::Hashing { read, of } => object!({ "event": "hashing", "read": read, "of": of }),
        Event::Started { node, device, job } => {
            let mut line = object!({ "event": "started", "node": node, "device": device });
            merge(&mut line, Ok(job.map_or_else(|| object!({}), |job| object!({ "job": job }))));
            line
        }
        Event::Submitted { nodes, jobs, job, before } => {
            object!({ "event": "submitted", "nodes": nodes, "jobs": jobs, "job": job, "before": before })
        }
        Event::Again { node, message } => object!({ "event": "again", "node": node, "message": message }),
        Event::Silent { queue, error } => {
            object!({ "event": "silent", "queue": queue, "message": error.to_string() })
        }
        Event::Sharing(traffic) => {
            let mut line = object!({ "event": "sharing" });
            merge(&mut line, serde_json::to_value(traffic));
            line
        }
        Event::Elsewhere { node, owner } => object!({ "event": "elsewhere", "node": node, "owner": owner }),
        Event::Damaged { node, error } => {
            object!({ "event": "damaged", "node": node, "message": error.to_string() })
        }
        Event::Crowded { node, message } => object!({ "event": "crowded", "node": node, "message": message }),
        Event::Progress { node, progress } => {
            let mut line = object!({ "event": "progress", "node": node });
            merge(&mut line, serde_json::to_value(progress));
            line
        }
        Event::Settled { node, outcome, seconds, position, of, remaining } => {
            let (word, mut line) = match outcome {
                Outcome::Done { record } | Outcome::Cached { record } => {
                    let word = if matches!(outcome, Outcome::Done { .. }) { "done" } else { "cached" };
                    let outputs = &record.outputs;
                    let (key, seconds, note) = (record.key, record.seconds, &record.note);
                    (word, object!({ "key": key, "seconds": seconds, "note": note, "outputs": outputs }))
                }
                Outcome::Failed { failure } => (
                    "failed",
                    object!({
                        "key": failure.key, "seconds": failure.seconds, "message": failure.message,
                        "hint": failure.hint, "log": failure.log,
                    }),
                ),
                Outcome::Blocked => ("blocked", object!({})),
                Outcome::Stopped => ("stopped", object!({})),
            };
            let place = object!({
                "event": word, "node": node, "elapsed_seconds": seconds, "position": position, "of": of,
                "remaining_seconds": remaining,
            });
            merge(&mut line, Ok(place));
            line
        }
        Event::Stopping { running } => object!({ "event": "stopping", "running": running }),
        Event::Finished(summary) => {
            let mut line = object!({ "event": "finished" });
            merge(&mut line, serde_json::to_value(summary));
            line
        }
    }
}

/// Adds the fields of a plain struct.
fn merge(line: &mut Value, fields: serde_json::Result<Value>) {
    if let (Value::Object(line), Ok(Value::Object(fields))) = (line, fields) {
        line.extend(fields);
    }
}
