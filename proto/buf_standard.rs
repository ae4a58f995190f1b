//! Goal: proto/ keeps buf's STANDARD lint rules (buf.build/docs/lint/rules), checked on the compiled descriptors with no tool
//! to install.

use permitd_proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, EnumDescriptor, FileDescriptor, MessageDescriptor, ServiceDescriptor};
use std::collections::BTreeMap;

fn files() -> Vec<FileDescriptor> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the build script wrote a descriptor set");
    let files: Vec<_> = pool.files().filter(|file| file.package_name().starts_with("permitd")).collect();
    assert!(files.len() >= 5, "only {} files found", files.len());
    files
}

fn is_lower_snake(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn upper_snake(pascal: &str) -> String {
    let mut out = String::new();
    for (at, c) in pascal.char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

#[test]
fn packages_and_files_are_named_alike() {
    for file in files() {
        assert_eq!(file.package_name(), "permitd.v1", "PACKAGE_SAME_DIRECTORY, PACKAGE_VERSION_SUFFIX");
        let stem = file
            .name()
            .strip_prefix("permitd/v1/")
            .and_then(|name| name.strip_suffix(".proto"))
            .unwrap_or_else(|| panic!("PACKAGE_DIRECTORY_MATCH: {}", file.name()));
        assert!(is_lower_snake(stem), "FILE_LOWER_SNAKE_CASE: {stem}");
        let proto = file.file_descriptor_proto();
        assert_eq!(proto.syntax(), "proto3", "SYNTAX_SPECIFIED: {}", file.name());
        assert!(proto.public_dependency.is_empty(), "IMPORT_NO_PUBLIC: {}", file.name());
        assert!(proto.weak_dependency.is_empty(), "IMPORT_NO_WEAK: {}", file.name());
    }
}

#[test]
fn imports_are_used() {
    for file in files() {
        let proto = file.file_descriptor_proto();
        let text = format!("{proto:?}");
        for import in &proto.dependency {
            let used = file
                .parent_pool()
                .get_file_by_name(import)
                .expect("an import was compiled")
                .messages()
                .map(|message| message.full_name().to_owned())
                .any(|name| text.contains(&format!("\".{name}\"")));
            let used_enum = file
                .parent_pool()
                .get_file_by_name(import)
                .expect("an import was compiled")
                .enums()
                .any(|e| text.contains(&format!("\".{}\"", e.full_name())));
            assert!(used || used_enum, "IMPORT_USED: {} imports {import}", file.name());
        }
    }
}

#[test]
fn messages_and_fields_are_named_by_the_rules() {
    fn check(message: &MessageDescriptor) {
        assert!(is_pascal(message.name()), "MESSAGE_PASCAL_CASE: {}", message.full_name());
        for field in message.fields() {
            assert!(is_lower_snake(field.name()), "FIELD_LOWER_SNAKE_CASE: {}", field.full_name());
            assert_ne!(field.name(), "descriptor", "FIELD_NO_DESCRIPTOR: {}", field.full_name());
        }
        for oneof in message.oneofs() {
            assert!(
                is_lower_snake(oneof.name().trim_start_matches('_')),
                "ONEOF_LOWER_SNAKE_CASE: {}",
                oneof.full_name()
            );
        }
        message.child_messages().filter(|child| !child.is_map_entry()).for_each(|child| check(&child));
        message.child_enums().for_each(|child| check_enum(&child));
    }
    files().iter().flat_map(|file| file.messages()).for_each(|message| check(&message));
}

fn check_enum(found: &EnumDescriptor) {
    assert!(is_pascal(found.name()), "ENUM_PASCAL_CASE: {}", found.full_name());
    let prefix = upper_snake(found.name()) + "_";
    for value in found.values() {
        let name = value.name();
        assert!(name.starts_with(&prefix), "ENUM_VALUE_PREFIX: {name}");
        assert_eq!(name, name.to_ascii_uppercase(), "ENUM_VALUE_UPPER_SNAKE_CASE: {name}");
    }
    let zero = found.get_value(0).expect("proto3 enums have a zero");
    assert_eq!(zero.name(), format!("{prefix}UNSPECIFIED"), "ENUM_ZERO_VALUE_SUFFIX, ENUM_FIRST_VALUE_ZERO");
    assert!(
        !found.enum_descriptor_proto().options.as_ref().is_some_and(|options| options.allow_alias()),
        "ENUM_NO_ALLOW_ALIAS"
    );
}

#[test]
fn enums_are_named_by_the_rules() {
    files().iter().flat_map(|file| file.enums()).for_each(|found| check_enum(&found));
}

#[test]
fn services_have_requests_and_responses_of_their_own() {
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let services: Vec<ServiceDescriptor> = files().iter().flat_map(|file| file.services()).collect();
    assert_eq!(services.len(), 3);
    for service in &services {
        assert!(
            is_pascal(service.name()) && service.name().ends_with("Service"),
            "SERVICE_SUFFIX: {}",
            service.name()
        );
        for method in service.methods() {
            let name = method.name();
            assert!(is_pascal(name), "RPC_PASCAL_CASE: {name}");
            assert_eq!(method.input().name(), format!("{name}Request"), "RPC_REQUEST_STANDARD_NAME");
            assert_eq!(method.output().name(), format!("{name}Response"), "RPC_RESPONSE_STANDARD_NAME");
            for message in [method.input(), method.output()] {
                uses.entry(message.full_name().to_owned()).or_default().push(method.full_name().to_owned());
            }
        }
    }
    for (message, methods) in uses {
        assert_eq!(methods.len(), 1, "RPC_REQUEST_RESPONSE_UNIQUE: {message} serves {methods:?}");
    }
}
