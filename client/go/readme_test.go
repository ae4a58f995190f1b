package permitd_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/permitd/permitd/client/go/internal/real"
)

// What stands around the pieces of an example.
const around = `package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"strings"

	permitd "github.com/permitd/permitd/client/go"
)

const url = "{{url}}"

type reply struct{ input, output uint64 }

func callTheAPI() reply { return reply{812, 96} }

func run(ctx context.Context) error {
{{pieces}}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	log.Printf("page: %s, answer: %s", page, answer)
	return err
}

func main() {
	log.SetFlags(0)
	// Some pieces need some of these.
	_, _ = errors.New, strings.NewReader
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
`

var goPieces = regexp.MustCompile("(?s)```go\n(.*?)```")

// Goal: what users read is what works: the pieces of Go in the documents, one after the other, are a program that does what they say.
func TestDocumentsAreRun(t *testing.T) {
	server := real.Start(t, "[budgets.\"anthropic/prod\"]\nlimits = [\"in_flight=3\"]\n\n[budgets.\"github/default\"]\nlimits = [\"in_flight=3\"]\n")
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"usage": {"input_tokens": 3, "output_tokens": 4}}`))
	}))
	defer api.Close()
	for _, document := range []string{"README.md", "../../docs/clients.md"} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		var pieces strings.Builder
		for _, piece := range goPieces.FindAllStringSubmatch(string(text), -1) {
			pieces.WriteString(piece[1])
		}
		program := strings.NewReplacer("{{pieces}}", pieces.String(), "{{url}}", api.URL).Replace(around)
		program = strings.ReplaceAll(program, "http://127.0.0.1:7110", server.Endpoint())
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), "go", "run", file).CombinedOutput()
		if err != nil || !strings.Contains(string(said), `answer: {"usage"`) || !strings.Contains(string(said), `page: {"usage"`) {
			t.Errorf("%s: %v\n%s", document, err, said)
		}
	}
}
