// Package stubs makes the Go code of the wire from proto/, without protoc: the files are compiled here, and the plugins of the module
// are run on what comes out.
package stubs

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// What a client speaks; administration is left to `permitd budgets`.
var files = []string{
	"permitd/v1/budget.proto",
	"permitd/v1/permit.proto",
	"permitd/v1/permit_service.proto",
	"permitd/v1/session.proto",
}

// Where the stubs live; the contract itself names no language's packages.
const importPath = "github.com/permitd/permitd/client/go/internal/wire"

var plugins = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

// Generate returns each stub by its file name. `protos` is the folder that holds permitd/v1.
func Generate(ctx context.Context, protos string) (map[string]string, error) {
	resolver := protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{protos}})
	compiler := protocompile.Compiler{Resolver: resolver, SourceInfoMode: protocompile.SourceInfoStandard}
	compiled, err := compiler.Compile(ctx, files...)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", protos, err)
	}
	request, err := proto.Marshal(requestOf(compiled))
	if err != nil {
		return nil, err
	}
	stubs := make(map[string]string)
	for _, plugin := range plugins {
		if err := run(ctx, plugin, request, stubs); err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, err)
		}
	}
	return stubs, nil
}

func requestOf(compiled linker.Files) *pluginpb.CodeGeneratorRequest {
	parameters := []string{"module=" + importPath}
	for _, file := range files {
		parameters = append(parameters, "M"+file+"="+importPath)
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: files,
		Parameter:      proto.String(strings.Join(parameters, ",")),
	}
	added := make(map[string]bool)
	for _, file := range compiled {
		add(request, file, added)
	}
	return request
}

// Plugins want every file after those that it imports.
func add(request *pluginpb.CodeGeneratorRequest, file protoreflect.FileDescriptor, added map[string]bool) {
	if added[file.Path()] {
		return
	}
	added[file.Path()] = true
	imports := file.Imports()
	for i := range imports.Len() {
		add(request, imports.Get(i).FileDescriptor, added)
	}
	request.ProtoFile = append(request.ProtoFile, descriptorOf(file))
}

func descriptorOf(file protoreflect.FileDescriptor) *descriptorpb.FileDescriptorProto {
	if result, ok := file.(linker.Result); ok {
		return result.FileDescriptorProto()
	}
	return protodesc.ToFileDescriptorProto(file)
}

func run(ctx context.Context, plugin string, request []byte, stubs map[string]string) error {
	command := exec.CommandContext(ctx, "go", "tool", plugin)
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(request), &stdout, &stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, stderr.String())
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(stdout.Bytes(), &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("refused: %s", response.GetError())
	}
	for _, file := range response.File {
		stubs[file.GetName()] = file.GetContent()
	}
	return nil
}
