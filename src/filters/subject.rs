//! An event as filters see it.

use std::{collections::HashMap, fmt};

use cel::{
    Context,
    common::{
        types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString},
        value::Val,
    },
};
use serde_json::Value;

/// What filters may ask of an event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub event_type: &'a str,
    /// JSON text.
    pub data: &'a str,
    pub channel: Option<&'a str>,
    /// JSON text of an object of texts.
    pub tags: Option<&'a str>,
    /// When it happened, as RFC 3339.
    pub timestamp: &'a str,
    pub live_mode: bool,
    pub location_id: &'a str,
    pub api_version: Option<&'a str>,
}

/// An event that is ready for any number of filters.
pub struct Subject(Context<'static, 'static>);

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject")
    }
}

type Boxed = Box<dyn Val>;

impl Subject {
    pub fn new(event: &Event<'_>) -> Self {
        // What can't be read (it is nested deeper than serde_json goes) is as if it were not there.
        let json = |text: &str| serde_json::from_str::<Value>(text).map_or_else(|_| boxed(CelNull), value);
        let text = |text: &str| boxed(CelString::from(text.to_owned()));
        let or_null = |given: Option<&str>| given.map_or_else(|| boxed(CelNull), text);
        let mut context = super::context();
        for (name, variable) in [
            ("type", text(event.event_type)),
            ("data", json(event.data)),
            ("channel", or_null(event.channel)),
            ("tags", json(event.tags.unwrap_or("{}"))),
            ("timestamp", text(event.timestamp)),
            ("live_mode", boxed(CelBool::from(event.live_mode))),
            ("location_id", text(event.location_id)),
            ("api_version", or_null(event.api_version)),
        ] {
            context.add_variable_as_val(name, variable);
        }
        Self(context)
    }

    pub(super) fn context(&self) -> &Context<'static, 'static> {
        &self.0
    }
}

fn boxed(value: impl Val + 'static) -> Boxed {
    Box::new(value)
}

fn value(json: Value) -> Boxed {
    match json {
        Value::Null => boxed(CelNull),
        Value::Bool(value) => boxed(CelBool::from(value)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => boxed(CelInt::from(whole)),
            None => boxed(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => boxed(CelString::from(text)),
        Value::Array(items) => boxed(CelList::from(items.into_iter().map(value).collect::<Vec<_>>())),
        Value::Object(members) => {
            let member = |(key, member)| (CelMapKey::String(CelString::from(key)), value(member));
            boxed(CelMap::from(members.into_iter().map(member).collect::<HashMap<_, _>>()))
        }
    }
}
