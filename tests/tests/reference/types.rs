//! Structs and enums as the sources have them: what fields they have, of which types, and what is said of each.
//!
//! Of a documentation comment, the first paragraph is for everybody; what follows is for those who read the code.

use std::{collections::BTreeMap, fs};

use syn::{Attribute, Expr, ExprLit, Fields, GenericArgument, Item, Lit, Meta, PathArguments, Type};

use crate::{markdown::paragraphs, root};

/// Everything that is declared in some files, by name.
pub(crate) struct Types {
    structs: BTreeMap<String, Struct>,
    enums: BTreeMap<String, Vec<Variant>>,
}

/// A struct with named fields.
pub(crate) struct Struct {
    pub(crate) about: String,
    pub(crate) fields: Vec<Field>,
}

/// A field with its type: the name, and what stands between the angles.
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) of: Named,
    pub(crate) about: String,
}

/// One of an enum's.
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) is_default: bool,
    pub(crate) fields: Vec<Field>,
}

/// A type by the last part of its path; `?` for one that has none, such as an array.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) inner: Vec<Named>,
}

impl Types {
    pub(crate) fn of(files: &[&str]) -> Self {
        let mut types = Self { structs: BTreeMap::new(), enums: BTreeMap::new() };
        for file in files {
            for item in parse(file).items {
                match item {
                    Item::Struct(found) => {
                        let found_fields = fields(&found.fields);
                        let found_struct = Struct { about: about(&found.attrs), fields: found_fields };
                        types.structs.insert(found.ident.to_string(), found_struct);
                    }
                    Item::Enum(found) => {
                        let variants = found.variants.iter().map(|variant| Variant {
                            name: variant.ident.to_string().to_lowercase(),
                            about: about(&variant.attrs),
                            is_default: variant
                                .attrs
                                .iter()
                                .any(|attribute| attribute.path().is_ident("default")),
                            fields: fields(&variant.fields),
                        });
                        types.enums.insert(found.ident.to_string(), variants.collect());
                    }
                    _ => {}
                }
            }
        }
        types
    }

    pub(crate) fn struct_of(&self, name: &str) -> &Struct {
        self.structs.get(name).unwrap_or_else(|| panic!("no struct {name} in the sources that are read"))
    }

    /// The variants, where that is an enum.
    pub(crate) fn variants(&self, name: &str) -> Option<&[Variant]> {
        self.enums.get(name).map(Vec::as_slice)
    }
}

/// What the head of a file says, up to the end of the first block of code in it, or the first paragraph where it has none.
pub(crate) fn head_of(file: &str) -> String {
    let paragraphs = paragraphs(&documentation(&parse(file).attrs));
    let end = paragraphs.iter().position(|paragraph| paragraph.starts_with("```")).unwrap_or(0);
    paragraphs[..=end].join("\n\n")
}

/// The first paragraph about a function.
pub(crate) fn function_of(file: &str, name: &str) -> String {
    let found = parse(file).items.into_iter().find_map(|item| match item {
        Item::Fn(function) if function.sig.ident == name => Some(about(&function.attrs)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no function {name} in {file}"))
}

fn parse(file: &str) -> syn::File {
    let text = fs::read_to_string(root(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn fields(fields: &Fields) -> Vec<Field> {
    let named = fields.iter().filter_map(|field| {
        let name = field.ident.as_ref()?.to_string();
        Some(Field { name, of: Named::of(&field.ty), about: about(&field.attrs) })
    });
    named.collect()
}

impl Named {
    fn of(written: &Type) -> Self {
        let Type::Path(path) = written else { return Self { name: "?".to_owned(), inner: Vec::new() } };
        let last = path.path.segments.last().expect("a path has a part");
        let inner = match &last.arguments {
            PathArguments::AngleBracketed(angles) => {
                let types = angles.args.iter().filter_map(|argument| match argument {
                    GenericArgument::Type(inner) => Some(Self::of(inner)),
                    _ => None,
                });
                types.collect()
            }
            _ => Vec::new(),
        };
        Self { name: last.ident.to_string(), inner }
    }
}

fn about(attributes: &[Attribute]) -> String {
    paragraphs(&documentation(attributes)).into_iter().next().unwrap_or_default()
}

fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}
