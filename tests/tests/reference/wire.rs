//! `docs/reference/wire.md`, from the descriptors that are compiled into every binary, comments included.

use std::collections::{BTreeMap, BTreeSet};

use permitd_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use crate::{
    COMMAND,
    markdown::{anchor, paragraphs, prose},
};

/// The files in the order in which one wants to read them.
const FILES: [&str; 8] =
    ["permit_service", "session", "permit", "budget", "admin_service", "explain", "pool", "cluster_service"];
const FOLDER: &str = "permitd/v1/";
/// What names of the package begin with where they are used.
const PACKAGE: &str = ".permitd.v1.";

/// Where things are in a descriptor: the numbers of its fields.
mod at {
    pub(super) const MESSAGE: i32 = 4;
    pub(super) const ENUM: i32 = 5;
    pub(super) const SERVICE: i32 = 6;
    /// A message's field, an enum's value, a service's method.
    pub(super) const MEMBER: i32 = 2;
}

/// The whole page.
pub(crate) fn page() -> String {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the build script wrote it");
    let ours = set.file.iter().filter_map(|file| Some((file.name().strip_prefix(FOLDER)?, file)));
    let ours: BTreeMap<&str, &FileDescriptorProto> =
        ours.map(|(name, file)| (name.trim_end_matches(".proto"), file)).collect();
    let listed = BTreeSet::from(FILES);
    assert_eq!(ours.keys().copied().collect::<BTreeSet<_>>(), listed, "FILES are those of proto/{FOLDER}");
    let files: Vec<File<'_>> = FILES.iter().map(|name| File::of(name, ours[name])).collect();
    assert_unique(&files);

    let mut page = format!(
        "<!-- Written by `{COMMAND}` from the comments in proto/. Change those. -->\n\n\
         # Wire reference\n\n\
         Package `permitd.v1`, as its files say it. [wire.md](../wire.md) tells how a client speaks it, step by step, and\n\
         [semantics.md](../semantics.md) what can be relied on. A server has all of it by reflection, too.\n\n\
         `Duration` and `Timestamp` are those of `google.protobuf`. A field that is *optional* tells absence from 0.\n\n\
         | file | what it has |\n|---|---|\n"
    );
    for file in &files {
        let heads: Vec<String> = file.names().into_iter().map(link).collect();
        page += &format!("| [{}](#{}) | {} |\n", file.name, anchor(&file.name), heads.join(", "));
    }
    page + &files.iter().map(File::text).collect::<String>()
}

/// Whatever has a heading is linked to by its name alone.
fn assert_unique(files: &[File<'_>]) {
    let mut seen = BTreeSet::new();
    for name in files.iter().flat_map(|file| file.names().into_iter().chain([&*file.name])) {
        assert!(seen.insert(anchor(name)), "two headings are called {name}");
    }
}

/// One file with its comments.
struct File<'a> {
    name: String,
    file: &'a FileDescriptorProto,
    comments: BTreeMap<&'a [i32], Vec<String>>,
}

impl<'a> File<'a> {
    fn of(name: &str, file: &'a FileDescriptorProto) -> Self {
        let info = file.source_code_info.as_ref().expect("the descriptors have their comments");
        let comments = info.location.iter().filter_map(|location| {
            Some((&*location.path, paragraphs(location.leading_comments.as_deref()?)))
        });
        for message in &file.message_type {
            let maps = message.nested_type.iter().all(is_map);
            assert!(
                maps && message.enum_type.is_empty(),
                "{}: types in it have no place here",
                message.name()
            );
        }
        Self { name: format!("{name}.proto"), file, comments: comments.collect() }
    }

    /// What has a heading.
    fn names(&self) -> Vec<&str> {
        let services = self.file.service.iter().map(ServiceDescriptorProto::name);
        let messages = self.file.message_type.iter().map(DescriptorProto::name);
        services.chain(messages).chain(self.file.enum_type.iter().map(EnumDescriptorProto::name)).collect()
    }

    fn text(&self) -> String {
        let mut text =
            format!("\n## {}\n\n[proto/{FOLDER}{1}](../../proto/{FOLDER}{1})\n", self.name, self.name);
        for (service, at) in self.file.service.iter().zip(0..) {
            text += &self.head(service.name(), &[at::SERVICE, at]);
            text += "\n| method | takes | gives | |\n|---|---|---|---|\n";
            for (method, member) in service.method.iter().zip(0..) {
                let streamed = |streams: bool, name: &str| {
                    format!("{}{}", if streams { "stream of " } else { "" }, named(name))
                };
                text += &format!(
                    "| `{}` | {} | {} | {} |\n",
                    method.name(),
                    streamed(method.client_streaming(), method.input_type()),
                    streamed(method.server_streaming(), method.output_type()),
                    self.cell(&[at::SERVICE, at, at::MEMBER, member])
                );
            }
        }
        for (message, at) in self.file.message_type.iter().zip(0..) {
            text += &self.head(message.name(), &[at::MESSAGE, at]);
            text += if message.field.is_empty() {
                "\nHas no fields.\n"
            } else {
                "\n| | field | type | |\n|---|---|---|---|\n"
            };
            for (field, member) in message.field.iter().zip(0..) {
                let told = self.cell(&[at::MESSAGE, at, at::MEMBER, member]);
                let told = format!("{} {told}", one_of(message, field));
                let kind = kind(message, field);
                text += &format!("| {} | `{}` | {kind} | {} |\n", field.number(), field.name(), told.trim());
            }
        }
        for (found, at) in self.file.enum_type.iter().zip(0..) {
            text += &self.head(found.name(), &[at::ENUM, at]);
            text += "\n| | value | |\n|---|---|---|\n";
            for (value, member) in found.value.iter().zip(0..) {
                let told = self.cell(&[at::ENUM, at, at::MEMBER, member]);
                text += &format!("| {} | `{}` | {told} |\n", value.number(), value.name());
            }
        }
        text
    }

    /// A heading, and the comment of what it is about.
    fn head(&self, name: &str, path: &[i32]) -> String {
        let told = self.comments.get(path).into_iter().flatten();
        let told: String = told.map(|paragraph| format!("\n{}\n", prose(paragraph))).collect();
        format!("\n### {name}\n{told}")
    }

    /// A comment in one line.
    fn cell(&self, path: &[i32]) -> String {
        prose(&self.comments.get(path).map_or(String::new(), |paragraphs| paragraphs.join(" ")))
    }
}

fn is_map(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

/// A field's type, with where it is told.
fn kind(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    if let Some(entry) = entry(message, field) {
        return format!("map of {} to {}", scalar(&entry.field[0]), scalar(&entry.field[1]));
    }
    let optional = if field.proto3_optional() { "optional " } else { "" };
    let list = if field.label() == Label::Repeated { "list of " } else { "" };
    format!("{optional}{list}{}", scalar(field))
}

/// The entry of a map, where the field is one.
fn entry<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a DescriptorProto> {
    let name = field.type_name().rsplit('.').next()?;
    message.nested_type.iter().find(|nested| nested.name() == name)
}

fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => named(field.type_name()),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn named(name: &str) -> String {
    match name.strip_prefix(PACKAGE) {
        Some(ours) => link(ours),
        None => name.rsplit('.').next().unwrap_or(name).to_owned(),
    }
}

fn link(name: &str) -> String {
    format!("[{name}](#{})", anchor(name))
}

/// What says that only one of some fields is there. An optional field is alone in such a group, for the sake of the encoding.
fn one_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    match field.oneof_index.and_then(|at| message.oneof_decl.get(usize::try_from(at).ok()?)) {
        Some(group) if !field.proto3_optional() => format!("One of `{}`.", group.name()),
        _ => String::new(),
    }
}
