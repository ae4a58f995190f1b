// Makes TypeScript of proto/, with tools that npm installs: `node scripts/generate.js [FOLDER]`, by default into src/wire. Amounts become
// bigint, so that no digit is lost. What the messages mean is said in proto/.
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";
import parser from "protobufjs/ext/descriptor.js";

const PACKAGE = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const PROTO = resolve(PACKAGE, "../../proto");
const OPTIONS = [
  "env=node",
  "esModuleInterop=true",
  "forceLong=bigint",
  "importSuffix=.js",
  "outputJsonMethods=false",
  "outputPartialMethods=false",
  "outputServices=generic-definitions",
  "removeEnumPrefix=true",
  "useDate=false",
];

/** What goes between protoc and its plugins: google/protobuf/compiler/plugin.proto, as far as it is used here. */
const { Request, Response } = protobuf.parse(`
  syntax = "proto3";
  message Request { repeated string file_to_generate = 1; string parameter = 2; repeated bytes proto_file = 15; }
  message Response { message File { string name = 1; string content = 15; } string error = 1; repeated File file = 15; }
`).root;

const folder = resolve(process.argv[2] ?? join(PACKAGE, "src/wire"));
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
for (const { name, content } of generate(filesOf("permitd/v1/permit_service.proto"))) {
  writeFileSync(join(folder, name), content);
}

/** Everything that a file needs, as descriptors: one for each package. */
function filesOf(path) {
  const root = new protobuf.Root();
  // The well-known types come with the parser.
  root.resolvePath = (_, wanted) => (wanted.startsWith("google/") ? wanted : join(PROTO, wanted));
  root.loadSync(path, { keepCase: true }).resolveAll();
  const { file: files } = parser.FileDescriptorSet.toObject(root.toDescriptor("proto3"), { enums: Number });
  for (const file of files) {
    const others = files.filter((other) => other !== file && JSON.stringify(file).includes(`"${other.package}.`));
    file.dependency = others.map((other) => other.name);
    for (const message of file.messageType) complete(message, file.package);
  }
  keepReachable(files);
  // Whatever is needed comes first.
  return files.sort((one, other) => one.dependency.length - other.dependency.length);
}

/** Writes types out in full, and names the entries of maps as protoc does. Messages of proto/ stand side by side, not in one another. */
function complete(message, prefix, holder = "") {
  const path = `${holder}${message.name}.`;
  const entries = new Map();
  for (const nested of message.nestedType ?? []) {
    entries.set(nested.name, `.${prefix}.${path}${nested.name}Entry`);
    nested.name = `${nested.name}Entry`;
    complete(nested, prefix, path);
  }
  for (const field of message.field ?? []) {
    const { typeName } = field;
    if (!typeName) continue;
    field.typeName = entries.get(typeName) ?? (typeName.includes(".") ? `.${typeName}` : `.${prefix}.${typeName}`);
  }
}

/** Leaves out what no method of the service takes or gives, so that administration can change without this library. */
function keepReachable(files) {
  const types = new Map();
  for (const file of files) {
    for (const type of [...file.messageType, ...(file.enumType ?? [])])
      types.set(`.${file.package}.${type.name}`, type);
  }
  const methods = files.flatMap((file) => file.service ?? []).flatMap((service) => service.method);
  const ahead = methods.flatMap((method) => [method.inputType, method.outputType]);
  const reached = new Set();
  for (let name = ahead.pop(); name; name = ahead.pop()) {
    const type = types.get(name);
    if (!type || reached.has(type)) continue;
    reached.add(type);
    const fields = [type, ...(type.nestedType ?? [])].flatMap((message) => message.field ?? []);
    ahead.push(...fields.flatMap((field) => field.typeName ?? []));
  }
  for (const file of files) {
    file.messageType = file.messageType.filter((type) => reached.has(type));
    file.enumType = (file.enumType ?? []).filter((type) => reached.has(type));
  }
}

/** Has the plugin write TypeScript for all of the files. */
function generate(files) {
  const request = {
    fileToGenerate: files.map(({ name }) => name),
    parameter: OPTIONS.join(","),
    protoFile: files.map((file) =>
      parser.FileDescriptorProto.encode(parser.FileDescriptorProto.fromObject(file)).finish(),
    ),
  };
  const plugin = join(PACKAGE, "node_modules/.bin/protoc-gen-ts_proto");
  const answer = execFileSync(plugin, { input: Request.encode(request).finish() });
  const { error, file } = Response.decode(answer);
  if (error) throw new Error(error);
  return file;
}
